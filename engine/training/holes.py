"""Holes cut into held-out files as a person at a cursor would meet them, with the text that stood there."""

from __future__ import annotations

import json
import random
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from midspan.engine.api import GapKind, Hole
from midspan.engine.hypotheses.line_lookup import LineIndex, bare_lines

PREFIX_CHARS, SUFFIX_CHARS = 6000, 2000
SPAN_LINES = (2, 6)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """Holes to fit on: `count` of them, cut into the held-out files of a corpus by a seed."""

    file: Path
    count: int
    seed: int

    def holes(self) -> Iterator[tuple[Hole, str]]:
        """Holes within a line and their true text; every 50th is told on stderr."""
        for number, found in enumerate(heldout_holes(self.file, self.count, self.seed), 1):
            yield found
            if number % 50 == 0:
                sys.stderr.write(f"{number}/{self.count} holes\n")


def heldout_holes(file: Path, count: int, seed: int) -> Iterator[tuple[Hole, str]]:
    """`count` single-line holes and their true text: half are ends of lines, half whole lines.

    Each has the lines of its package's other files, as in an editor with the package's folder open.
    """
    chance = random.Random(seed)
    files = _files(file)
    packages = _packages(files)
    while count:
        found = chance.choice(files)
        lines = found["text"].split("\n")
        row = chance.randrange(len(lines))
        body = lines[row].strip()
        if len(body) < 3 or body.startswith("#"):
            continue
        indent = len(lines[row]) - len(lines[row].lstrip())
        column = indent if count % 2 else chance.randrange(indent + 1, len(lines[row]))
        prefix = "\n".join([*lines[:row], lines[row][:column]])
        suffix = "\n".join(["", *lines[row + 1 :]])
        kind: GapKind = "line" if column == indent else "rest_of_line"
        hole = Hole(prefix=prefix[-PREFIX_CHARS:], suffix=suffix[:SUFFIX_CHARS], kind=kind)
        package, path = found.get("package", ""), found.get("path", "")
        yield replace(hole, other_lines=packages[package].near(hole, path)), lines[row][column:]
        count -= 1


def heldout_spans(file: Path, count: int, seed: int) -> Iterator[tuple[Hole, str]]:
    """`count` holes of SPAN_LINES lines, from the first indent to the last line's end, and their true text."""
    chance = random.Random(seed)
    files = _files(file)
    while count:
        lines, size = chance.choice(files)["text"].split("\n"), chance.randint(*SPAN_LINES)
        row = chance.randrange(len(lines))
        indent = len(lines[row]) - len(lines[row].lstrip())
        if row + size > len(lines) or not lines[row].strip() or not lines[row + size - 1].strip():
            continue
        prefix = "\n".join([*lines[:row], lines[row][:indent]])
        suffix = "\n".join(["", *lines[row + size :]])
        truth = "\n".join(lines[row : row + size])[indent:]
        yield Hole(prefix=prefix[-PREFIX_CHARS:], suffix=suffix[:SUFFIX_CHARS], kind="span"), truth
        count -= 1


def _files(file: Path) -> list[dict[str, str]]:
    return [json.loads(row) for row in file.read_text(encoding="utf-8").splitlines()]


def _packages(files: Sequence[dict[str, str]]) -> dict[str, LineIndex]:
    """The lines of each package's files, by package; rows that name no package are left out."""
    out = defaultdict[str, LineIndex](LineIndex)
    for file in files:
        if "package" in file and "path" in file:
            out[file["package"]].put(file["path"], bare_lines(file["text"]))
    return out
