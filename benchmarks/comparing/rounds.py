"""Both sides do the same work by turns: each block on one of them, then on the other, in an order that is drawn anew.

In each round both servers are started afresh, as a process is faster or larger than another one of the same program by
where its memory happens to lie. The engines that fill gaps for `pass@1` are started once: what they write does not
depend on it. While one side works the other one waits for its next block.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.comparing.checkouts import Side
from benchmarks.comparing.plan import Block, Keys, Work
from benchmarks.comparing.verdicts import Measure, Pair, Sums
from midspan.server.bench.quality import Task, completed, hole_of
from midspan.server.bench.replay import File, Typed, accepts_exact, lay_out, type_on
from midspan.server.bench.sandbox import passes
from midspan.server.client.typist import Typist, typing
from midspan.server.commands.errors import CommandError
from midspan.server.statistics import quantile

PASSED = Measure(name="pass@1", unit="%", units="functions", more_is_better=True, scale=100)
SAVED = Measure(name="keys saved", unit="%", units="files", more_is_better=True, scale=100)
WRONG = Measure(name="wrong shows in 100 keys", unit="", units="files", more_is_better=False, scale=100)
P50 = Measure(name="keystroke p50", unit="ms", units="rounds", more_is_better=False, least=0.03)
P95 = Measure(name="keystroke p95", unit="ms", units="rounds", more_is_better=False, least=0.03)
MEMORY = Measure(name="peak memory", unit="MB", units="rounds", more_is_better=False, least=0.01)
MEASURES = (PASSED, SAVED, WRONG, P50, P95, MEMORY)


class Tally:
    """What the sides came to, by measure and unit."""

    def __init__(self) -> None:
        self._sums: dict[Measure, dict[str, list[Sums]]] = {measure: {} for measure in MEASURES}

    def add(self, measure: Measure, unit: str, side: int, sums: tuple[float, float]) -> None:
        """Count more for a unit of a side, 0 or 1."""
        both = self._sums[measure].setdefault(unit, [Sums(0.0, 0.0), Sums(0.0, 0.0)])
        both[side] = Sums(both[side].counted + sums[0], both[side].of + sums[1])

    def pairs(self) -> dict[Measure, list[Pair]]:
        """Every measure of which anything is known."""
        return {measure: [(a, b) for a, b in units.values()] for measure, units in self._sums.items() if units}


class Filler:
    """A side's engine in a process of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.about = self._heard()

    def fill(self, task: Task) -> str:
        """The text for a task's gap."""
        hole = hole_of(task)
        asked = {"prefix": hole.prefix, "suffix": hole.suffix, "kind": hole.kind, "seed": 0}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        return str(self._heard()["text"])

    def _heard(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        if not (line := self._process.stdout.readline()):
            raise CommandError("a side's engine ended, for the reason above; the gate compares no older midspan")
        found: dict[str, Any] = json.loads(line)
        if "error" in found:
            raise CommandError(found["error"])
        return found


@contextmanager
def filling(side: Side) -> Iterator[Filler]:
    """A side's engine, loaded. Raises CommandError."""
    pipe = subprocess.PIPE
    with subprocess.Popen(side.fills, stdin=pipe, stdout=pipe, text=True, encoding="utf-8") as process:
        try:
            yield Filler(process)
        finally:
            process.kill()


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """A side in one round: what works for it, and where its figures go."""

    side: int
    filler: Filler
    typist: Typist
    root: Path
    tally: Tally
    ms: list[float]

    async def do(self, block: Block, timed: dict[str, str]) -> None:
        """Do one block."""
        if isinstance(block, Keys):
            before = len(self.typist.all_ms)
            await self.time_keys(block, timed[block.text])
            self.ms.extend(self.typist.all_ms[before:])
        elif isinstance(block, list):
            for task in block:
                text = self.filler.fill(task)
                passed = bool(text) and passes(completed(task, text))
                self.tally.add(PASSED, task.entry_point, self.side, (passed, 1))
        else:
            await self.retype(*block)

    async def time_keys(self, line: Keys, text: str) -> None:
        """Type a line that stands in an open document, taking nothing of what is shown."""
        await self._type(f"file:///gate/{line.text}", line.row, text.split("\n")[line.row], takes=False)

    async def retype(self, file: File, rows: Sequence[int]) -> None:
        """Type lines of a file; the exact rest of a line is taken for one key."""
        uri, lines = file.place(self.root).as_uri(), file.text.split("\n")
        self.typist.open(uri, file.text)
        for row in rows:
            keys, wrong, characters = await self._type(uri, row, lines[row], takes=True)
            unit = f"{file.package}/{file.path}"
            self.tally.add(SAVED, unit, self.side, (characters - keys + 1, characters))
            self.tally.add(WRONG, unit, self.side, (wrong, keys))
        self.typist.close(uri)

    async def _type(self, uri: str, row: int, line: str, *, takes: bool) -> tuple[int, int, int]:
        """Keys with Enter, keys with something wrong on screen, and characters of a line but for its indent."""
        body = line.rstrip()
        indent = len(body) - len(body.lstrip())
        self.typist.replace(uri, row, indent, len(line), "")
        rule = accepts_exact if takes else takes_nothing
        asks = await type_on(self.typist, Typed(uri, row, body), indent, rule)
        return len(asks), sum(bool(ask.suggestion) and not ask.accepted for ask in asks), len(body) - indent


def takes_nothing(suggestion: str, rest: str) -> bool:
    """The rule of who types on whatever is shown."""
    return False


def laid_out(files: Sequence[File], folder: str) -> Path:
    """The folder below which the files stand now."""
    root = Path(folder).resolve() / "packages"
    lay_out(files, root)
    return root


@asynccontextmanager
async def seated(side: Side, number: int, filler: Filler, work: Work, tally: Tally) -> AsyncIterator[Seat]:
    """A side with a server of its own that has its files open and has typed a line of each."""
    with tempfile.TemporaryDirectory(prefix="midspan-gate-") as folder:
        root = laid_out(work.files, folder)
        async with typing([*side.serve, "--state-dir", folder], {}) as typist:
            seat = Seat(side=number, filler=filler, typist=typist, root=root, tally=tally, ms=[])
            if filler.about["reads_other_lines"] or filler.about["context_tokens"]:
                await typist.open_folder(root)
            for name, text in work.timed.items():
                typist.open(f"file:///gate/{name}", text)
                row = next(row for row, line in enumerate(text.split("\n")) if line.strip())
                await seat.time_keys(Keys(text=name, row=row), text)
            yield seat


async def compare_sides(sides: tuple[Side, Side], work: Work, seed: int) -> Tally:
    """Do all the work on both sides. Raises CommandError."""
    rng, tally = random.Random(seed), Tally()
    async with AsyncExitStack() as stack:
        fillers = [stack.enter_context(filling(side)) for side in sides]
        for number, blocks in enumerate(work.rounds):
            sys.stderr.write(f"gate: round {number + 1} of {len(work.rounds)}\n")
            async with AsyncExitStack() as starting:
                seats = {
                    side: await starting.enter_async_context(seated(sides[side], side, fillers[side], work, tally))
                    for side in rng.sample((0, 1), 2)
                }
                for block in blocks:
                    for side in rng.sample((0, 1), 2):
                        await seats[side].do(block, work.timed)
                for side, seat in seats.items():
                    end_round(tally, f"round {number}", side, seat)
    return tally


def end_round(tally: Tally, unit: str, side: int, seat: Seat) -> None:
    """Add what is known of a round as a whole."""
    tally.add(P50, unit, side, (quantile(seat.ms, 0.5), 1))
    tally.add(P95, unit, side, (quantile(seat.ms, 0.95), 1))
    if (memory := seat.typist.peak_rss_mb()) is not None:
        tally.add(MEMORY, unit, side, (memory, 1))
    seat.ms.clear()
