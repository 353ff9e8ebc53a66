"""What both sides do: gaps to fill, lines to retype, keys to time, cut into rounds and small blocks."""

from __future__ import annotations

import random
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from midspan.server.bench.keystroke import recorded
from midspan.server.bench.quality import Task
from midspan.server.bench.replay import File, draw

TASKS_A_BLOCK = 5
# Longer files of the standard library take the server's time for what is not compared.
MOST_LINES = 1500
LEAST_LINES = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much is done: starts of both servers, gaps, lines, timed keys in each round."""

    rounds: int
    tasks: int | None
    lines: int
    keys: int


QUICK = Size(rounds=10, tasks=100, lines=40, keys=50)
WHOLE = Size(rounds=20, tasks=None, lines=400, keys=200)


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """A line whose keys are timed, in one of the texts that are typed into for that."""

    text: str
    row: int


Block = list[Task] | tuple[File, list[int]] | Keys


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """All of it: the blocks of each round, in the order in which they are done."""

    rounds: list[list[Block]]
    files: list[File]
    timed: dict[str, str]


def plan(tasks: Sequence[Task], files: Sequence[File], keystroke: Path, size: Size, seed: int) -> Work:
    """The work, drawn by a seed; `keystroke` is the folder of the texts whose keys are timed."""
    rng = random.Random(seed)
    timed = recorded(keystroke, 1)
    del timed["long.py"]
    typed = draw(files, size.lines, seed)
    rounds = []
    for number in range(size.rounds):
        gaps = tasks[number :: size.rounds]
        blocks: list[Block] = [
            list(gaps[start : start + TASKS_A_BLOCK]) for start in range(0, len(gaps), TASKS_A_BLOCK)
        ]
        blocks += typed[number :: size.rounds]
        blocks += keys(timed, size.keys, rng)
        rng.shuffle(blocks)
        rounds.append(blocks)
    return Work(rounds=rounds, files=[file for file, _ in typed], timed=timed)


def keys(timed: dict[str, str], count: int, rng: random.Random) -> Iterator[Keys]:
    """Lines of at least so many keys together."""
    lines = [
        (Keys(text=name, row=row), len(line.strip()))
        for name, text in timed.items()
        for row, line in enumerate(text.split("\n"))
        if line.strip()
    ]
    rng.shuffle(lines)
    for line, length in lines:
        if count <= 0:
            return
        yield line
        count -= length


def standard_library() -> list[File]:
    """Files of Python's standard library, in case no held-out ones are given."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    found = []
    for path in sorted(folder.glob("*.py")):
        text = path.read_text(encoding="utf-8")
        if LEAST_LINES <= text.count("\n") <= MOST_LINES:
            found.append(File("standard", path.name, text))
    return found
