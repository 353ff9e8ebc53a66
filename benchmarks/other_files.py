"""What text of other files is worth to a fill-in-the-middle checkpoint: `other_files.py CHECKPOINT --heldout FILE`.

Whole lines of held-out packages (engine/training/continued/sources.py makes the file) are emptied one by one. The
package's files lie in a folder that is open, so that the server's own sources find what they find in an editor, the
file as it is without the line. Each gap for which they find anything is filled with that text and without it, by turns,
from an empty cache; at most --tokens tokens of it are read, however long that takes. With --repo MARK there is a third
side, `repository`: the same text, laid out as in a repository that this token begins (engine/prompts/other_files.py).

One JSON row goes to stdout. Of each side: the share of fills that are the missing line (`exact`), the tokens of the
prompts and milliseconds of reading them and of whole fills; of each side with other text, how many gaps it alone has
right beside the one without, and the other way round (`gained`, `lost`), and by how much the true line is likelier
(`nats_saved`: mean and its standard error). `without_any` gaps had no such text; there the prompt is the same.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from midspan.engine.api import Budget, ContextBudget, Hole
from midspan.engine.backends.process import keep_large_blocks
from midspan.engine.engine import load_path
from midspan.engine.hypotheses.task import PATIENT, Infilling
from midspan.engine.left_to_right import LeftToRight
from midspan.engine.prompts.other_files import OtherFiles
from midspan.engine.training.continued.texts import Text
from midspan.server.context.context import CHARS_A_TOKEN, collect, in_order
from midspan.server.context.recent_edits import Edits
from midspan.server.context.sources import Gap
from midspan.server.text.documents import Documents
from midspan.server.text.hole import build_hole
from midspan.server.text.languages import language_of
from midspan.server.text.syntax_check import SyntaxJudge
from midspan.server.text.uris import key_of
from midspan.server.workspace.index import Index
from midspan.server.workspace.indexer import Workspace
from midspan.server.workspace.indexer_client import opened, scan_of
from midspan.server.workspace.messages import Closed

LEAST_CHARACTERS, UNHURRIED_S = 3, 60.0


class Line(NamedTuple):
    """A line that is missing, and the hole with what was found for it."""

    hole: Hole
    truth: str


class Package:
    """The files of a package of one language in a folder, and what the indexer finds there."""

    def __init__(self, folder: Path, texts: Sequence[Text]) -> None:
        self._folder, self.texts, self._workspace = folder, texts, Workspace()
        # As a project is opened: files are named from the folder on that holds the package.
        common = Path(os.path.commonpath([Path(text.path).parent for text in texts]))
        self._root = folder / common.parent
        for text in texts:
            file = folder / text.path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text.text, encoding="utf-8")
        scan = scan_of((self._root,), ())
        self._index = Index(scan.roots)
        for finding in self._workspace.scan(scan):
            self._index.take(finding)

    def line(self, text: Text, row: int, chars: int) -> Line:
        """A line of a file, with at most so many characters of other text."""
        lines, documents = text.text.split("\n"), Documents()
        body = lines[row].lstrip()
        indent = lines[row][: len(lines[row]) - len(body)]
        without = "\n".join([*lines[:row], indent, *lines[row + 1 :]])
        document = documents.open((self._folder / text.path).as_uri(), text.language, 1, without)
        place = (row, len(indent))
        hole = build_hole(document, place)
        # The index must not know the line that is missing.
        for finding in self._workspace.opened(opened(document)):
            self._index.take(finding)
        gap = Gap(
            document=document,
            place=place,
            hole=hole,
            index=self._index,
            documents=documents,
            edits=Edits(),
            roots=(self._root,),
        )
        context = in_order(collect(gap, chars, UNHURRIED_S))
        for finding in self._workspace.closed(Closed(key_of(document.uri))):
            self._index.take(finding)
        return Line(replace(hole, context=context), body)


def packages(file: Path, languages: Sequence[str], folder: Path) -> dict[str, list[Package]]:
    """The packages of several files, by language."""
    texts = defaultdict[tuple[str, str], list[Text]](list)
    for row in file.read_text(encoding="utf-8").splitlines():
        text = Text(**json.loads(row))
        texts[text.language, text.package].append(text)
    out = defaultdict[str, list[Package]](list)
    for number, ((language, _), found) in enumerate(sorted(texts.items())):
        if len(found) > 1 and language in languages:
            out[language].append(Package(folder / str(number), found))
    return out


def drawn(found: dict[str, list[Package]], chars: int, chance: random.Random) -> Iterator[Line]:
    """Lines of code without end, a language after the other."""
    while found:
        for language in sorted(found):
            package = chance.choice(found[language])
            text = chance.choice(package.texts)
            lines, comments = text.text.split("\n"), language_of(language).line_comments
            row = chance.randrange(len(lines))
            body = lines[row].strip()
            if len(body) >= LEAST_CHARACTERS and not body.startswith(comments):
                yield package.line(text, row, chars)


@dataclass
class Side:
    """What came of the gaps on one side, which lays other text out in this way, or has none."""

    lay_out: Callable[[], OtherFiles] | None = None
    right: list[bool] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    encode_ms: list[float] = field(default_factory=list)
    fill_ms: list[float] = field(default_factory=list)
    nats: list[float] = field(default_factory=list)

    def fill(self, path: LeftToRight, hole: Hole, truth: str) -> None:
        """Fill a gap from an empty cache, then weigh the line that stood there."""
        path.reset()
        if self.lay_out is None:
            hole = replace(hole, context=())
        else:
            path.prompt.others = self.lay_out()
        out = path.infill(hole, Budget(), PATIENT)
        text = path.prompt.text(list(out.ranked[0].ids), out.layout) if out.ranked else ""
        self.right.append(text.rstrip() == truth.rstrip())
        self.tokens.append(len(out.layout.prefix))
        self.encode_ms.append(1000 * out.seconds["encode"])
        self.fill_ms.append(1000 * sum(out.seconds.values()))
        self.nats.append(nats(path, out, hole, truth))

    def beside(self, without: Side) -> dict[str, Any]:
        """What the other text changes."""
        pairs = list(zip(self.right, without.right, strict=True))
        saved = [other - own for own, other in zip(self.nats, without.nats, strict=True)]
        error = statistics.stdev(saved) / len(saved) ** 0.5
        nats_saved = {"mean": round(statistics.fmean(saved), 3), "error": round(error, 3)}
        return {"gained": pairs.count((True, False)), "lost": pairs.count((False, True)), "nats_saved": nats_saved}

    def row(self) -> dict[str, Any]:
        """The figures."""
        of = {"encode_ms": self.encode_ms, "fill_ms": self.fill_ms}
        times = {name: {"p50": round(statistics.median(ms)), "max": round(max(ms))} for name, ms in of.items()}
        shares = {"exact": round(statistics.fmean(self.right), 4), "nats": round(statistics.fmean(self.nats), 3)}
        return {**shares, "prompt_tokens": round(statistics.fmean(self.tokens), 1), **times}


def nats(path: LeftToRight, out: Infilling, hole: Hole, truth: str) -> float:
    """How unlikely the true line and its end are behind the prompt that is cached."""
    prompt, heal = path.prompt, out.layout.heal
    ids = prompt.encode(heal + truth)
    if not prompt.cell_text(ids[0]).startswith(heal):
        ids = [*prompt.encode(heal), *prompt.encode(truth)]
    [beam] = path.fim.gap(out.layout, hole.kind).read([tuple(ids)])
    return -beam.log_probability


def compare(path: LeftToRight, lines: Iterator[Line], gaps: int, repo: str | None = None) -> dict[str, Any]:
    """All sides of so many gaps for which other text was found, by turns."""
    prompt, without, without_any = path.prompt, Side(), 0
    ids, marks = prompt.vocabulary(), prompt.marks
    sides = {"without": without, "with": Side(lambda: OtherFiles(marks, ids, prompt.encode))}
    if repo is not None:
        sides["repository"] = Side(lambda: OtherFiles(replace(marks, repo=repo), ids, prompt.encode))
    for line in lines:
        if not line.hole.context:
            without_any += 1
            continue
        turn = len(without.right) % len(sides)
        for side in [*sides.values()][turn:] + [*sides.values()][:turn]:
            side.fill(path, line.hole, line.truth)
        done = len(without.right)
        if done % 10 == 0:
            right = ", ".join(f"{name} {sum(side.right)}" for name, side in sides.items())
            sys.stderr.write(f"{done}/{gaps} gaps, right: {right}\n")
        if done == gaps:
            break
    rows = {name: side.row() if side is without else side.row() | side.beside(without) for name, side in sides.items()}
    return {"gaps": len(without.right), "without_any": without_any, **rows}


def main(argv: list[str]) -> int:
    """Read the command line, compare, print the row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("--heldout", type=Path, required=True)
    parser.add_argument("--languages", nargs="+", default=["python", "javascript", "go", "rust", "c"])
    parser.add_argument("--gaps", type=int, default=100)
    parser.add_argument("--tokens", type=int, default=512, help="of other text, at most")
    parser.add_argument("--repo", help="a token that begins a repository")
    parser.add_argument("--seed", type=int, default=0)
    found = parser.parse_args(argv)
    keep_large_blocks()
    path = load_path(found.checkpoint, "cpu")
    if not isinstance(path, LeftToRight):
        parser.error(f"{found.checkpoint} does not write between marks; give one that does")
    path.judge, path.context_budget = SyntaxJudge(), ContextBudget(tokens=found.tokens, beside=0, per_s=0.0)
    with tempfile.TemporaryDirectory() as folder:
        lines = drawn(
            packages(found.heldout, found.languages, Path(folder)),
            CHARS_A_TOKEN * found.tokens,
            random.Random(found.seed),
        )
        row = compare(path, lines, found.gaps, found.repo)
    more = {"threads": path.backend.describe().threads, "tokens": found.tokens, "seed": found.seed}
    sys.stdout.write(json.dumps({"checkpoint": found.checkpoint, "device": "cpu", **more, **row}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
