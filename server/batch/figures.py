"""How a batch goes: the bar on stderr while it runs, and the figures at its end."""

from __future__ import annotations

import argparse
import shlex
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from midspan.engine.api import About
from midspan.server.batch.journal import ENDING, Entry
from midspan.server.context.context import CHARS_A_TOKEN

# Where no bar can be drawn, a line is written now and then.
LINE_EVERY_S = 10.0
SHORTEST_S = 1e-6


class Tally:
    """What became of the gaps: of all of them, and how fast those of this run were."""

    def __init__(self, *, gaps: int, files: int, excluded: int, clock: Callable[[], float] = time.perf_counter) -> None:
        self.gaps, self.files, self.excluded = gaps, files, excluded
        self.filled = self.reused = self.done = self.accepted = self.chars = 0
        self.refused = Counter[str]()
        self.seconds = 0.0
        self._bar: tuple[Progress, TaskID] | None = None
        self._clock, self._began, self._told = clock, 0.0, 0.0

    @contextmanager
    def bar(self, console: Console) -> Iterator[None]:
        """Show the progress on a console, and take the time."""
        speed = TextColumn("{task.fields[gaps]:.1f} gaps/s, {task.fields[tokens]:.0f} tokens/s")
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), speed, TimeRemainingColumn())
        with Progress(*columns, console=console) as progress:
            self._bar = progress, progress.add_task("batch", total=self.gaps, gaps=0.0, tokens=0.0)
            self._began = self._told = self._clock()
            yield
            self.seconds = self._clock() - self._began
        self._bar = None

    def say(self, line: str) -> None:
        """One line above the bar."""
        assert self._bar is not None
        self._bar[0].console.print(f"midspan: {line}", markup=False, highlight=False, soft_wrap=True)

    def did(self, entry: Entry) -> None:
        """A gap was done now."""
        self.done += 1
        self.accepted += bool(entry.text)
        self.chars += entry.chars
        self._count(entry)

    def had(self, entry: Entry) -> None:
        """A gap was done by an earlier run."""
        self.reused += 1
        self._count(entry)

    def _count(self, entry: Entry) -> None:
        self.filled += bool(entry.text)
        self.refused.update([entry.refused] if entry.refused else [])
        assert self._bar is not None
        progress, task = self._bar
        seconds = max(self._clock() - self._began, SHORTEST_S)
        gaps, tokens = self.done / seconds, self.chars / CHARS_A_TOKEN / seconds
        progress.update(
            task, advance=1, total=self.gaps, description=f"batch, {self.filled} filled", gaps=gaps, tokens=tokens
        )
        if not progress.console.is_terminal and self._clock() - self._told >= LINE_EVERY_S:
            self._told = self._clock()
            done = self.done + self.reused
            self.say(f"{done} of {self.gaps} gaps, {self.filled} filled, {gaps:.1f} gaps/s, {tokens:.0f} tokens/s")


def summary(tally: Tally, arguments: argparse.Namespace, about: About | None) -> dict[str, Any]:
    """The object that `--json` prints. Rates are of the gaps that this run has done, `reused` ones left out."""
    seconds = tally.seconds
    return {
        "gaps": tally.gaps,
        "filled": tally.filled,
        "refused": dict(sorted(tally.refused.items())),
        "reused": tally.reused,
        "files": tally.files,
        "excluded": tally.excluded,
        "tokens": tally.chars // CHARS_A_TOKEN,
        "tokens_per_s": tally.chars / CHARS_A_TOKEN / seconds if seconds else 0.0,
        "gaps_per_s": tally.done / seconds if seconds else 0.0,
        "accepted_per_s": tally.accepted / seconds if seconds else 0.0,
        "seconds": seconds,
        "patch": str(arguments.out) if tally.filled else None,
        "journal": f"{arguments.out}{ENDING}",
        "checkpoint": arguments.checkpoint if about is None else about.checkpoint,
        "device": None if about is None else about.device,
    }


def shown(figures: dict[str, Any], root: Path) -> Iterator[str]:
    """The summary for a person."""
    why = ", ".join(f"{count} {kind}" for kind, count in figures["refused"].items())
    yield f"{figures['filled']} of {figures['gaps']} gaps filled" + (f"; not filled: {why}" if why else "")
    if figures["reused"]:
        yield f"{figures['reused']} of them are of an earlier run"
    speed = f"{figures['gaps_per_s']:.2f} gaps/s, {figures['accepted_per_s']:.2f} accepted/s"
    yield f"{figures['seconds']:.1f} s; {speed}, about {figures['tokens_per_s']:.0f} tokens/s"
    if figures["patch"] is None:
        yield "nothing is filled, and no patch is written"
    else:
        yield shlex.join(["git", "-C", str(root), "apply", str(Path(figures["patch"]).resolve())])
