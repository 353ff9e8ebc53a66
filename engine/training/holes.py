"""Holes cut into held-out files as a person at a cursor would meet them, with the text that stood there."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

from midspan.engine.api import GapKind, Hole

PREFIX_CHARS, SUFFIX_CHARS = 6000, 2000
SPAN_LINES = (2, 6)


def heldout_holes(file: Path, count: int, seed: int) -> Iterator[tuple[Hole, str]]:
    """`count` single-line holes and their true text: half from within a line to its end, half whole lines."""
    chance = random.Random(seed)
    texts = _texts(file)
    while count:
        lines = chance.choice(texts).split("\n")
        row = chance.randrange(len(lines))
        body = lines[row].strip()
        if len(body) < 3 or body.startswith("#"):
            continue
        indent = len(lines[row]) - len(lines[row].lstrip())
        column = indent if count % 2 else chance.randrange(indent + 1, len(lines[row]))
        prefix = "\n".join([*lines[:row], lines[row][:column]])
        suffix = "\n".join(["", *lines[row + 1 :]])
        kind: GapKind = "line" if column == indent else "rest_of_line"
        yield Hole(prefix=prefix[-PREFIX_CHARS:], suffix=suffix[:SUFFIX_CHARS], kind=kind), lines[row][column:]
        count -= 1


def heldout_spans(file: Path, count: int, seed: int) -> Iterator[tuple[Hole, str]]:
    """`count` holes of SPAN_LINES lines, from the first one's indent to the last one's end, and their true text."""
    chance = random.Random(seed)
    texts = _texts(file)
    while count:
        lines, size = chance.choice(texts).split("\n"), chance.randint(*SPAN_LINES)
        row = chance.randrange(len(lines))
        indent = len(lines[row]) - len(lines[row].lstrip())
        if row + size > len(lines) or not lines[row].strip() or not lines[row + size - 1].strip():
            continue
        prefix = "\n".join([*lines[:row], lines[row][:indent]])
        suffix = "\n".join(["", *lines[row + size :]])
        truth = "\n".join(lines[row : row + size])[indent:]
        yield Hole(prefix=prefix[-PREFIX_CHARS:], suffix=suffix[:SUFFIX_CHARS], kind="span"), truth
        count -= 1


def _texts(file: Path) -> list[str]:
    return [json.loads(row)["text"] for row in file.read_text(encoding="utf-8").splitlines()]
