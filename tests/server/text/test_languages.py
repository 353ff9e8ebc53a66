"""The table of languages against its grammars and against real code, and which languages are filled."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from midspan.server.postprocess.trim import trim
from midspan.server.text.documents import Document
from midspan.server.text.hole import build_hole
from midspan.server.text.languages import BY_EXTENSION, PLAIN, TABLE, Language, is_on, language_of, name_of, off_because
from tests.server.lsp_client import session
from tests.server.pictures import FIXTURES
from tests.server.raw_client import complete, connected
from tests.server.scripted import TEXT

SAMPLES = sorted((FIXTURES / "languages").iterdir())
NODES = ("strings", "open_strings", "comments", "interpolations", "blocks", "headers", "arguments", "imports")


def sample(path: Path) -> Document:
    return Document(path.name, BY_EXTENSION[path.suffix], 1, path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("language", TABLE, ids=lambda language: language.name)
def test_every_node_type_of_the_table_is_in_its_grammar(language: Language) -> None:
    grammar = language.grammar()
    known = {grammar.node_kind_for_id(id) for id in range(grammar.node_kind_count)}
    assert {name: getattr(language, name) - known for name in NODES} == {name: set() for name in NODES}


def test_every_language_has_a_sample() -> None:
    assert {BY_EXTENSION[path.suffix] for path in SAMPLES} == {language.name for language in TABLE}


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_samples_parse(path: Path) -> None:
    syntax = sample(path).syntax
    assert syntax is not None
    assert not syntax.has_error


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_the_tree_finds_every_comment_and_nothing_else(path: Path) -> None:
    document = sample(path)
    language = language_of(document.language_id)
    marks = (*language.line_comments, *(start for start, _ in language.block_comments))
    assert document.syntax is not None
    offset = 0
    for line in document.lines:
        begin = len(line) - len(line.lstrip())
        commented = bool(line.strip()) and line.lstrip().startswith(marks) and not line.startswith("#!")
        if commented or (line.strip() and not any(mark in line for mark in marks)):
            inside = document.syntax.surroundings(offset + len(line[: begin + 4].encode()))
            assert (inside == "comment") == commented, line
        offset += len(line.encode())


def gaps(document: Document, chance: random.Random) -> Iterator[tuple[str, str, str]]:
    """Gaps within lines, as a person might leave them: the text before, in and after each.

    No gap has letters on both sides: the cursor would be in a word, where a fill may only complete the word. No gap is
    at the beginning of a line with code after it: there only a whole line fits.
    """
    for row, line in enumerate(map(document.content, range(len(document.lines)))):
        indent = len(line) - len(line.lstrip())
        ends = [at.start() for at in re.finditer(r"\b|$", line) if at.start() > indent]
        for _ in range(16 if ends else 0):
            end = chance.choice(ends)
            begins = [at for at in ends if at < end and not re.match(r"\w\w", line[at - 1] + line[end:])]
            begins += [] if line[end:].strip() else [indent]
            begin = chance.choice(begins) if begins else end
            if line[begin:end].strip():
                before, after = document.lines[:row], document.lines[row + 1 :]
                yield "".join([*before, line[:begin]]), line[begin:end], "".join([line[end:], "\n", *after])


def is_trimmed_right(before: str, gap: str, after: str, language: str, run_on: str) -> bool:
    """Whether the gap's own text, followed by `run_on`, is trimmed to the gap's text."""
    document = Document("file:///a", language, 1, before + after)
    hole = build_hole(document, (before.count("\n"), len(before) - before.rfind("\n") - 1))
    return (trim(hole, gap + run_on) or "").strip() == gap.strip()


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_right_fills_stay_and_text_after_them_is_trimmed(path: Path) -> None:
    document = sample(path)
    found = list(gaps(document, random.Random(0)))
    stay = [is_trimmed_right(*gap, document.language_id, "") for gap in found]
    long = [gap for gap in found if len(gap[2].split("\n", 1)[0].strip()) > 1]
    rest = [is_trimmed_right(*gap, document.language_id, gap[2].split("\n", 1)[0]) for gap in long]
    lines = [is_trimmed_right(*gap, document.language_id, "\n".join(gap[2].split("\n")[:3])) for gap in long]
    assert len(long) > 20
    # The exceptions: a brace that may belong to a line above, and a text that begins with three quotes (TOML).
    assert sum(stay) / len(stay) > 0.95
    assert sum(rest) / len(rest) > 0.9
    assert sum(lines) / len(lines) > 0.9


def test_the_end_of_a_string_without_a_closing_mark_is_in_the_string() -> None:
    syntax = Document("file:///a", "yaml", 1, "a: |\n  b").syntax
    assert syntax is not None
    assert syntax.surroundings(8) == "string"


@pytest.mark.parametrize(
    ("id", "name"),
    [
        ("python", "python"),
        ("javascriptreact", "javascript"),
        ("typescriptreact", "tsx"),
        ("shellscript", "bash"),
        ("jsonc", "json"),
        ("brainfuck", "brainfuck"),
    ],
)
def test_ids_of_one_language_have_one_name(id: str, name: str) -> None:
    assert name_of(id) == name
    assert language_of(id) is (PLAIN if id == "brainfuck" else language_of(name))


def test_no_grammar_is_imported_before_its_language_is_opened() -> None:
    script = (
        "import sys, midspan.server.app, midspan.server.text.documents as d\n"
        "print(sorted(m for m in sys.modules if m.startswith('tree_sitter_') and '.' not in m))\n"
        "d.Document('a', 'go', 1, 'package a')\n"
        "print(sorted(m for m in sys.modules if m.startswith('tree_sitter_') and '.' not in m))\n"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True).stdout
    assert out.splitlines() == ["[]", "['tree_sitter_go']"]


@pytest.mark.parametrize(
    ("id", "trained", "chosen", "expected"),
    [
        ("python", ["python"], {}, True),
        ("go", ["python"], {}, False),
        ("go", ["python"], {"go": True}, True),
        ("python", ["python"], {"python": False}, False),
        ("shellscript", ["bash"], {}, True),
        ("shellscript", ["python"], {"bash": True}, True),
        ("shellscript", ["bash"], {"shellscript": False}, False),
        ("plaintext", ["python"], {"plaintext": True}, True),
    ],
)
def test_a_language_is_on_if_the_settings_say_so_else_if_it_was_trained(
    id: str, trained: list[str], chosen: dict[str, bool], expected: bool
) -> None:
    assert is_on(id, trained, chosen) is expected


def test_the_reason_why_a_language_is_off_names_the_setting() -> None:
    fix = 'the setting "languages": {"go": true} turns it on'
    assert off_because("go", "embedded", ["python"]) == f"no fills in go: embedded knows python only; {fix}"
    assert off_because("go", "big", ["go"]) == f"no fills in go: big was trained on it, but it is off; {fix}"


async def test_only_the_languages_of_the_settings_are_filled(tmp_path: Path) -> None:
    async with session(tmp_path, languages={"rust": True, "python": False}) as client:
        client.open("x = ", uri="file:///a.rs", language="rust")
        client.open("x = ", uri="file:///a.py", language="python")
        client.open("x = ", uri="file:///a.go", language="go")
        found = [await client.complete(0, 4, uri=f"file:///a.{end}") for end in ("rs", "py", "go")]
    assert [[item.insert_text for item in items] for items in found] == [[TEXT], [], []]


def test_the_reason_why_a_language_is_off_is_logged_once(tmp_path: Path) -> None:
    with connected(tmp_path) as client:
        client.start()
        client.open("x = ", language="go")
        for id in (1, 2):
            client.exchange(complete(id, 0, 4))
        assert client.leave() == 0
        assert client.stderr.count('no fills in go: scripted knows python only; the setting "languages"') == 1
