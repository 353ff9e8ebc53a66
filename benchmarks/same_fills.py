"""Seeded fills of held-out files, to show that a refactoring changes no fill.

`python benchmarks/same_fills.py --out FILE` fills COUNT holes in held-out packages that the test environment installs,
and writes one JSON object per fill. `--against FILE` compares with the file of another checkout on the same machine: it
prints the holes whose fills differ, and then exits 1. `--load MODULE:FUNCTION` names this checkout's loader, for
checkouts that have it elsewhere.
"""

from __future__ import annotations

import argparse
import importlib
import json
import random
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import files
from pathlib import Path
from typing import Any

from midspan.engine.api import Budget, Hole, Line

COUNT = 500
PACKAGES = ("attrs", "click", "Jinja2", "pygls")
PREFIX_CHARS, SUFFIX_CHARS = 6000, 2000
LOAD = "midspan.server.text.syntax_check:load_with_syntax"


def texts() -> list[str]:
    """The held-out packages' source files, in a fixed order."""
    paths = [f for package in PACKAGES for f in files(package) or () if f.suffix == ".py"]
    found = [Path(str(path.locate())).read_text(encoding="utf-8") for path in sorted(paths, key=str)]
    return [text for text in found if text.count("\n") > 40]


def holes(count: int) -> Iterator[tuple[Hole, Budget]]:
    """Holes of every kind: automatic and explicit requests, with and without other files' lines, rewrites."""
    chance, sources = random.Random(0), texts()
    while count:
        lines = chance.choice(sources).split("\n")
        row = chance.randrange(2, len(lines) - 8)
        indent = len(lines[row]) - len(lines[row].lstrip())
        if len(lines[row].strip()) < 4:
            continue
        count -= 1
        yield cut(chance, lines, row, indent, chance.choice(sources).split("\n")), budget(chance, count)


def cut(chance: random.Random, lines: list[str], row: int, indent: int, other: list[str]) -> Hole:
    """One hole at a line: the rest of it, all of it, a few lines, or a rewrite of it."""
    way, column, last = chance.randrange(8), indent, row
    if way < 4:
        column = chance.randrange(indent + 1, len(lines[row]))
    elif way == 6:
        last = row + chance.randint(1, 4)
    prefix = "\n".join([*lines[:row], lines[row][:column]])[-PREFIX_CHARS:]
    suffix = "\n".join(["", *lines[last + 1 :]])[:SUFFIX_CHARS]
    if way == 7:
        return Hole(prefix=prefix, suffix=suffix, kind="span", draft=lines[row][column:], strength=0.5)
    kind = "span" if way == 6 else "line" if column == indent else "rest_of_line"
    bare = [line.strip() for line in other if line.strip()]
    elsewhere = tuple(map(Line, bare[1:-1], bare, bare[2:])) if way % 2 else ()
    return Hole(prefix=prefix, suffix=suffix, kind=kind, other_lines=elsewhere[:200])


def budget(chance: random.Random, seed: int) -> Budget:
    """Half automatic requests (a sure fill or none), half explicit ones (three fills)."""
    return Budget(seed=seed, min_confidence=0.54) if chance.random() < 0.5 else Budget(seed=seed, candidates=3)


def fills(load: Callable[..., Any], count: int) -> Iterator[dict[str, Any]]:
    """The embedded checkpoint's fill of each hole, as a row."""
    engine = load("embedded", "cpu", lambda done, of: None)
    for number, (hole, wanted) in enumerate(holes(count)):
        fill = engine.fill(hole, wanted).result()
        candidates = [[one.text, round(one.confidence, 6)] for one in fill.candidates]
        yield {"hole": number, "kind": hole.kind, "candidates": candidates, "steps": fill.steps, "why": fill.stopped}
    engine.close()


def main() -> int:
    """Fill, write, compare."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, help="write the fills here, one JSON object a line")
    parser.add_argument("--against", type=Path, help="what another checkout wrote")
    parser.add_argument("--load", default=LOAD, help="MODULE:FUNCTION that loads an engine with its syntax check")
    parser.add_argument("--count", type=int, default=COUNT)
    args = parser.parse_args()
    module, _, name = args.load.partition(":")
    found = list(fills(getattr(importlib.import_module(module), name), args.count))
    if args.out is not None:
        args.out.write_text("".join(json.dumps(row) + "\n" for row in found), encoding="utf-8")
    if args.against is None:
        return 0
    before = [json.loads(line) for line in args.against.read_text(encoding="utf-8").splitlines()]
    other = [row for row, old in zip(found, before, strict=True) if row != old]
    sys.stdout.write("".join(f"{json.dumps(row)}\n" for row in other))
    sys.stdout.write(json.dumps({"fills": len(found), "same": len(found) - len(other)}) + "\n")
    return 1 if other else 0


if __name__ == "__main__":
    sys.exit(main())
