"""What validators catch and what they catch wrongly: gaps whose true text is known, filled with it and with damage.

`python benchmarks/validators.py [--count 300] [--seed 0]` needs no model. Each gap of Python's standard library, of
JSON documents that name a schema and of this repository's tables is filled with its true text, where every objection
is wrong, and with a damaged one: a name misspelt, a value of another type, a key that the schema does not know, a cell
left out. It prints a Markdown table, and the time of one check.
"""

from __future__ import annotations

import argparse
import ast
import json
import math
import random
import re
import sys
import sysconfig
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from midspan.server.statistics import quantile
from midspan.server.text.documents import Document
from midspan.server.text.trial import Trial
from midspan.server.validation.python_names import MAX_CHARS
from midspan.server.validation.schema_files import check_of
from midspan.server.validation.splice import Files
from midspan.server.validation.validators import validated

ROOT = Path(__file__).parents[1]
SETTING = {
    "type": "object",
    "properties": {
        "host": {"type": "string", "minLength": 1},
        "port": {"type": "integer", "minimum": 1, "maximum": 65535},
        "mode": {"enum": ["fast", "safe", "off"]},
        "retries": {"type": ["integer", "null"]},
        "tags": {"type": "array", "items": {"type": "string"}},
        "limits": {"type": "object", "additionalProperties": {"type": "number"}},
        "tls": {"anyOf": [{"type": "boolean"}, {"type": "object", "required": ["certificate"]}]},
    },
    "required": ["host", "port"],
    "additionalProperties": False,
}
SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "$defs": {"server": SETTING},
    "type": "object",
    "properties": {
        "$schema": {"type": "string"},
        "name": {"type": "string"},
        "servers": {"type": "array", "items": {"$ref": "#/$defs/server"}},
        "fallback": {"$ref": "#/$defs/server"},
    },
    "required": ["name", "servers"],
    "additionalProperties": False,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A gap in a file, with the text that belongs there."""

    uri: str
    language: str
    before: str
    text: str
    after: str


@dataclass(slots=True)
class Tally:
    """What became of the texts of one kind."""

    count: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    ms: list[float] = field(default_factory=list)


def judged(gap: Gap, text: str) -> tuple[str, float]:
    """What keeps a text from being shown, `shown` for nothing, and the milliseconds that it took to say so."""
    document = Document(gap.uri, gap.language, 1, gap.before + gap.after)
    document.parse(math.inf)
    row, column = gap.before.count("\n"), len(gap.before) - gap.before.rfind("\n") - 1
    began = time.thread_time()
    trial, files = Trial(document, (row, column), (row, column)), Files(patience_s=60.0)
    shown, objections = validated(trial, [text], invoked=False, files=files)
    took = 1000 * (time.thread_time() - began)
    return "shown" if shown else objections[0].kind, took


def cut(chance: random.Random, text: str, uri: str, language: str, *, whole: bool = False) -> Gap | None:
    """A line, the end of one, or up to three of them; None where the drawn one is blank."""
    lines = text.split("\n")
    row = chance.randrange(len(lines))
    if not lines[row].strip():
        return None
    last = row + 1 if whole else min(len(lines), row + chance.choice((1, 1, 1, 2, 3)))
    lead = len(lines[row]) - len(lines[row].lstrip())
    column = lead if whole or chance.random() < 0.5 else chance.randrange(lead, len(lines[row]))
    before = "\n".join([*lines[:row], lines[row][:column]])
    filled = "\n".join([lines[row][column:], *lines[row + 1 : last]])
    return Gap(uri=uri, language=language, before=before, text=filled, after=text[len(before) + len(filled) :])


def python_gaps(chance: random.Random) -> Iterator[Gap]:
    """Gaps of the standard library's files that parse, without those of its tests that are not meant to."""
    library = Path(sysconfig.get_path("stdlib"))
    files = [one for one in sorted(library.rglob("*.py")) if "site-packages" not in one.parts]
    while True:
        file = chance.choice(files)
        text = file.read_bytes().decode("utf-8", "ignore")
        if len(text) < MAX_CHARS and (gap := cut(chance, text, file.as_uri(), "python")) is not None:
            yield gap


def json_gaps(chance: random.Random, folder: Path) -> Iterator[Gap]:
    """Gaps of drawn documents that fit the schema beside them."""
    uri = (folder / "settings.json").as_uri()

    def server() -> dict[str, object]:
        every: dict[str, object] = {
            "host": chance.choice(("one.example", "two.example")), "port": chance.randrange(1, 65536),
            "mode": chance.choice(("fast", "safe", "off")), "retries": chance.choice((None, 3)),
            "tags": chance.sample(["a", "b", "c"], 2), "limits": {"cpu": 1.5, "memory": 2},
            "tls": chance.choice((True, {"certificate": "c.pem"})),
        }  # fmt: skip
        return {name: value for name, value in every.items() if name in ("host", "port") or chance.random() < 0.6}

    while True:
        servers = [server() for _ in range(chance.randrange(2, 12))]
        value = {"$schema": "schema.json", "name": "a service", "servers": servers, "fallback": server()}
        if (gap := cut(chance, json.dumps(value, indent=2), uri, "json")) is not None:
            yield gap


def table_gaps(chance: random.Random) -> Iterator[Gap]:
    """Rows of the tables in this repository's documents."""
    files = [one for one in sorted(ROOT.glob("docs/*.md")) if "\n|---" in one.read_text(encoding="utf-8")]
    while True:
        file = chance.choice(files)
        gap = cut(chance, file.read_text(encoding="utf-8"), file.as_uri(), "markdown", whole=True)
        if gap is not None and gap.text.startswith("| ") and gap.after.startswith("\n"):
            yield gap


def misspelt(chance: random.Random, gap: Gap) -> str | None:
    """The text with a letter of one name that it reads written twice."""
    try:
        whole = gap.before + gap.text + gap.after
        tree = ast.parse(whole)
    except (SyntaxError, ValueError):
        return None
    starts = [0, *(found.end() for found in re.finditer("\n", whole))]
    begin, end = len(gap.before), len(gap.before) + len(gap.text)
    ends = list[int]()
    for one in ast.walk(tree):
        if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Load) and len(one.id) > 2:
            at = starts[one.lineno - 1] + one.col_offset
            # Columns count bytes, and within a literal they are wrong.
            if begin <= at and at + len(one.id) <= end and whole[at : at + len(one.id)] == one.id:
                ends.append(at + len(one.id) - begin)
    if not ends:
        return None
    at = chance.choice(sorted(ends))
    return gap.text[:at] + gap.text[at - 1] + gap.text[at:]


def other_type(chance: random.Random, gap: Gap) -> str | None:
    """The text with one value of another type, in a member that has only one."""
    found = list(re.finditer(r'"(?:host|name|mode|port)": ("[^"\n]*"|\d+)', gap.text))
    if not found:
        return None
    one = chance.choice(found)
    return gap.text[: one.start(1)] + ("12" if one[1].startswith('"') else '"text"') + gap.text[one.end(1) :]


def unknown_key(chance: random.Random, gap: Gap) -> str | None:
    """The text with a letter of one key, of those that no object is free to choose, written twice."""
    keys = "host|port|mode|retries|tags|limits|tls|name|servers|fallback"
    found = list(re.finditer(rf'"(?:{keys})(?=": )', gap.text))
    if not found:
        return None
    one = chance.choice(found)
    return gap.text[: one.end()] + one[0][-1] + gap.text[one.end() :]


def dropped_cell(_: random.Random, gap: Gap) -> str | None:
    """The row without its last cell."""
    found = re.fullmatch(r"(.*\S\s*\|)[^|]*\|\s*", gap.text)
    return None if found is None else found[1]


Damage = Callable[[random.Random, Gap], str | None]


def measured(chance: random.Random, gaps: Iterator[Gap], count: int, damages: dict[str, Damage]) -> dict[str, Tally]:
    """So many gaps that each damage can be done to, and as many of any, filled with the true text."""
    tallies = {"true text": Tally()} | {name: Tally() for name in damages}
    for gap in gaps:
        texts = {"true text": gap.text} | {name: damage(chance, gap) for name, damage in damages.items()}
        for name, text in texts.items():
            tally = tallies[name]
            if text is not None and tally.count < count:
                outcome, ms = judged(gap, text)
                tally.count += 1
                tally.outcomes[outcome] += 1
                tally.ms.append(ms)
        if all(tally.count >= count for tally in tallies.values()):
            return tallies
    return tallies


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    say = sys.stdout.write
    say("| gaps | filled with | count | parse | name | schema | table | shown | ms p50 | p95 |\n")
    say("|---|---|--:|--:|--:|--:|--:|--:|--:|--:|\n")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "schema.json").write_text(json.dumps(SCHEMA), encoding="utf-8")
        assert check_of(str((folder / "schema.json").resolve())).result(60) is not None
        groups: dict[str, tuple[Iterator[Gap], dict[str, Damage]]] = {
            "Python": (python_gaps(chance), {"a name misspelt": misspelt}),
            "JSON": (json_gaps(chance, folder), {"another type": other_type, "an unknown key": unknown_key}),
            "Markdown": (table_gaps(chance), {"a cell left out": dropped_cell}),
        }
        for language, (gaps, damages) in groups.items():
            for filled, tally in measured(chance, gaps, arguments.count, damages).items():
                counts = [str(tally.outcomes[kind]) for kind in ("parse", "name", "schema", "table", "shown")]
                times = [f"{quantile(tally.ms, share):.1f}" for share in (0.5, 0.95)]
                say(f"| {' | '.join([language, filled, str(tally.count), *counts, *times])} |\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main()
