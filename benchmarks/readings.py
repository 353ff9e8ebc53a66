"""The same gaps by canvases, by the same weights from left to right, and by the router over both, by turns.

`.venv/bin/python benchmarks/readings.py --tasks FILE.jsonl ... [--limit N] [--seed S] [--checkpoint C]`

Tasks are in HumanEval-Infilling's schema; of each file `limit` are drawn by the seed. Every gap goes to all three, and
another one begins from gap to gap. Each fill begins with empty caches, so that none is helped by what another has read.
The line end behind a gap of a whole line stays in place, as in an editor. The router is midspan's own with
`both_readings`, asked as by a person: the first engine is the policy's for such a gap, and the other one is asked where
its fill breaks the syntax. One JSON object goes to stdout:

- `engines`: pass@1 and exact fills with 95 % bootstrap intervals over functions; milliseconds of all fills, and of
  those that pass (`useful_ms`); mean `forwards`, which are passes through the layers: for a prompt, a step of beams or
  canvases, a reading that scores; and all of them over the fills that pass (`forwards_per_pass`).
- `chosen`: by the policy's tasks, how often which reading answered through the router, and how often another was asked.
- `saved`: the router's pass@1, milliseconds and forwards less those of each reading asked always, gap by gap, with
  intervals over the same draws of functions.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import Progress

from midspan.engine.api import About, Budget, Engine, Fill, Hole, OnFrame
from midspan.engine.backends.backend import CanvasBackend
from midspan.engine.cache import Cache
from midspan.engine.canvas import Canvas, Plan, Rng
from midspan.engine.denoise import Denoiser, Step
from midspan.engine.engine import Engine as LocalEngine
from midspan.engine.infill import Infiller
from midspan.server.backends.engines import Parses, local_members
from midspan.server.bench.quality import RESAMPLES, Task, completed, hole_of, mean, read_tasks
from midspan.server.bench.sandbox import passes
from midspan.server.commands.errors import CommandError
from midspan.server.router.asks import Wish
from midspan.server.router.policy import policy_of
from midspan.server.router.router import Router
from midspan.server.statistics import quantile
from midspan.server.text.syntax_check import load_with_syntax

READINGS = ("diffusion", "autoregressive")
NAMES = (*READINGS, "router")
# As a person asks: the policy's `explicit` order.
WISH = Wish(origin="invoked")
CAUSAL = ("prefill", "score", "branch")


class Forwards:
    """How many passes a backend has made; it counts from the moment that it is given the backend."""

    def __init__(self, backend: CanvasBackend) -> None:
        self.count = 0
        for name in CAUSAL:
            setattr(backend, name, partial(self._counted, getattr(backend, name)))
        bind: Callable[[Cache, Canvas], Denoiser] = backend.bind
        backend.bind = lambda cache, canvas: Counted(bind(cache, canvas), self)  # type: ignore[method-assign]

    def _counted(self, call: Callable[..., Any], *given: Any, **named: Any) -> Any:
        self.count += 1
        return call(*given, **named)


class Counted:
    """Bound canvases whose passes count; see denoise.Denoiser."""

    def __init__(self, canvases: Denoiser, forwards: Forwards) -> None:
        self._canvases, self._forwards = canvases, forwards

    def steps(self, plan: Plan, rng: Rng) -> Iterator[Step]:
        """See denoise.Denoiser."""
        for step in self._canvases.steps(plan, rng):
            self._forwards.count += 1
            yield step

    def read(self, ids: torch.Tensor) -> torch.Tensor:
        """See denoise.Denoiser."""
        self._forwards.count += 1
        return self._canvases.read(ids)


@dataclass(frozen=True, slots=True)
class Afresh:
    """A local engine whose fills begin with empty caches, as the first request in a file; see api.Engine."""

    engine: Engine
    infiller: Infiller

    @property
    def about(self) -> About:
        """What is loaded."""
        return self.engine.about

    def fill(
        self, hole: Hole, budget: Budget, *, stop: threading.Event | None = None, on_frame: OnFrame | None = None
    ) -> Future[Fill]:
        """Begin a fill; none may be under way."""
        self.infiller.reset()
        return self.engine.fill(hole, budget, stop=stop, on_frame=on_frame)

    def close(self) -> None:
        """End the engine."""
        self.engine.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one engine came to at one gap: milliseconds, and passes through the layers."""

    entry_point: str
    passed: bool
    exact: bool
    ms: float
    forwards: int


def router_of(canvases: Engine, left_to_right: Engine) -> Router:
    """The router over two readings of one checkpoint, by the default policy."""
    policy = policy_of({"both_readings": True})
    member = local_members(canvases, policy_of({}))[0]
    other = replace(
        member, name=READINGS[1], reading="autoregressive", connect=lambda: left_to_right, skills=frozenset()
    )
    return Router([member, other], policy, validate=Parses())


def as_in_an_editor(task: Task) -> tuple[Hole, str]:
    """The task's gap without the line end of a whole line, and that line end."""
    hole = hole_of(task)
    if hole.kind == "line" and not hole.suffix.startswith("\n"):
        return replace(hole, suffix="\n" + hole.suffix), "\n"
    return hole, ""


def outcome(task: Task, engine: Engine, forwards: Forwards, seed: int) -> Outcome:
    """Have one gap filled, and judge that."""
    hole, line_end = as_in_an_editor(task)
    before, began = forwards.count, time.perf_counter()
    fill = engine.fill(hole, Budget(seed=seed)).result()
    ms = 1000 * (time.perf_counter() - began)
    return Outcome(
        entry_point=task.entry_point,
        passed=bool(fill.text) and passes(completed(task, fill.text + line_end)),
        exact=fill.text.rstrip() == task.canonical_solution.rstrip(),
        ms=ms,
        forwards=forwards.count - before,
    )


def compare(tasks: Sequence[Task], local: LocalEngine, seed: int) -> tuple[dict[str, list[Outcome]], dict[str, Any]]:
    """Every gap by every engine, by turns: the outcomes by engine, and whom the router has chosen by task."""
    infiller = local._infiller
    if not isinstance(infiller, Infiller):
        raise CommandError(f"{local.about.checkpoint} has no canvases; give a checkpoint that denoises them")
    forwards = Forwards(infiller.backend)
    canvases, left_to_right = Afresh(local, infiller), Afresh(local.without_canvases(), infiller)
    router = router_of(canvases, left_to_right)
    engines = dict(zip(NAMES, (canvases, left_to_right, router.wishing(WISH)), strict=True))
    found: dict[str, list[Outcome]] = {name: [] for name in NAMES}
    chosen = defaultdict[str, Counter[str]](Counter)
    with Progress(console=Console(stderr=True)) as progress:
        for number, task in enumerate(progress.track(tasks, description="gaps")):
            for name in (*NAMES[number % 3 :], *NAMES[: number % 3]):
                found[name].append(outcome(task, engines[name], forwards, seed))
            record = router.last
            assert record is not None
            answered = chosen[record.ask.task]
            answered[record.answered_by or "nobody"] += 1
            answered["asked again"] += len(record.attempts) > 1
    return found, {task: dict(counts) for task, counts in sorted(chosen.items())}


def interval(groups: Sequence[Sequence[float]], seed: int) -> list[float]:
    """The 95 % bootstrap interval of the mean of all values, drawn by group."""
    chance, sums = random.Random(seed), [(sum(group), len(group)) for group in groups]
    means = []
    for _ in range(RESAMPLES):
        drawn = chance.choices(sums, k=len(sums))
        means.append(sum(total for total, _ in drawn) / sum(size for _, size in drawn))
    return [quantile(means, 0.025), quantile(means, 0.975)]


def by_function(outcomes: Sequence[Outcome], values: Sequence[float]) -> list[list[float]]:
    """Values in groups of one function each: the gaps of one are not independent."""
    groups = defaultdict[str, list[float]](list)
    for one, value in zip(outcomes, values, strict=True):
        groups[one.entry_point].append(value)
    return list(groups.values())


def with_interval(outcomes: Sequence[Outcome], values: Sequence[float], seed: int) -> dict[str, Any]:
    """A mean over gaps with its interval."""
    return {"mean": mean(values), "ci95": interval(by_function(outcomes, values), seed)}


def figures(outcomes: Sequence[Outcome], seed: int) -> dict[str, Any]:
    """One engine's figures."""
    useful, forwards = [one.ms for one in outcomes if one.passed], [float(one.forwards) for one in outcomes]
    return {
        "pass@1": with_interval(outcomes, [float(one.passed) for one in outcomes], seed),
        "exact": with_interval(outcomes, [float(one.exact) for one in outcomes], seed),
        "ms": _times([one.ms for one in outcomes]),
        "useful_ms": _times(useful),
        "forwards": with_interval(outcomes, forwards, seed),
        "forwards_per_pass": sum(forwards) / len(useful) if useful else None,
    }


def saved(found: dict[str, list[Outcome]], seed: int) -> dict[str, Any]:
    """The router's means less those of each reading asked always, gap by gap."""
    kinds: dict[str, Callable[[Outcome], float]] = {
        "pass@1": lambda one: float(one.passed),
        "ms": lambda one: one.ms,
        "forwards": lambda one: float(one.forwards),
    }
    out = {}
    for name in READINGS:
        pairs = list(zip(found["router"], found[name], strict=True))
        out[name] = {
            kind: with_interval(found[name], [value(ours) - value(other) for ours, other in pairs], seed)
            for kind, value in kinds.items()
        }
    return out


def _times(milliseconds: Sequence[float]) -> dict[str, float] | None:
    if not milliseconds:
        return None
    return {name: round(quantile(milliseconds, share), 1) for name, share in (("p50", 0.5), ("p95", 0.95))}


def main(argv: list[str]) -> int:
    """Read the command line, compare, print the row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=Path, nargs="+", required=True)
    parser.add_argument("--limit", type=int, help="of each file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--checkpoint", default="embedded")
    given = parser.parse_args(argv)
    try:
        drawn = {file.name: read_tasks(file, given.limit, given.seed) for file in given.tasks}
        local = load_with_syntax(given.checkpoint, "cpu")
        assert isinstance(local, LocalEngine)
        tasks = [task for some in drawn.values() for task in some]
        try:
            found, chosen = compare(tasks, local, given.seed)
        finally:
            local.close()
    except CommandError as error:
        raise SystemExit(str(error)) from error
    row = {"checkpoint": given.checkpoint, "device": "cpu", "n": len(tasks)}
    row["tasks"] = {name: len(some) for name, some in drawn.items()}
    row |= {"engines": {name: figures(found[name], given.seed) for name in NAMES}}
    row |= {"chosen": chosen, "saved": saved(found, given.seed)}
    sys.stdout.write(json.dumps(row) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
