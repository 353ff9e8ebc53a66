"""`midspan bench quality`: fills tasks in HumanEval-Infilling's schema, and runs each task's tests.

Schema and protocol: github.com/openai/human-eval-infilling (Bavarian et al. 2022, arXiv:2207.14255).
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import sys
import time
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from midspan.engine.api import About, Budget, Engine, GapKind, Hole
from midspan.server.bench.sandbox import passes
from midspan.server.commands.errors import CommandError
from midspan.server.commands.loading import engine_for
from midspan.server.statistics import quantile

RESAMPLES = 2000


class Task(msgspec.Struct, frozen=True):
    """One line of a benchmark file."""

    task_id: str
    entry_point: str
    prompt: str
    suffix: str
    canonical_solution: str
    test: str


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What one task came to."""

    entry_point: str
    passed: bool
    exact: bool
    shown: bool
    latency_ms: float
    steps: int


def read_tasks(file: Path, limit: int | None, seed: int) -> list[Task]:
    """All tasks of a .jsonl or .jsonl.gz file, or a seeded sample of `limit` in the file's order."""
    try:
        data = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise CommandError(f"{file}: {reason}; give a readable .jsonl or .jsonl.gz file") from error
    tasks = [_task(line, f"{file}:{number}") for number, line in enumerate(data.splitlines(), 1) if line.strip()]
    if not tasks:
        raise CommandError(f"{file}: holds no task; give a file in HumanEval-Infilling's schema")
    if limit is None or limit >= len(tasks):
        return tasks
    return [tasks[i] for i in sorted(random.Random(seed).sample(range(len(tasks)), limit))]


def _task(line: bytes, where: str) -> Task:
    try:
        return msgspec.json.decode(line, type=Task)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CommandError(f"{where}: {error}; give tasks in HumanEval-Infilling's schema") from error


def hole_of(task: Task) -> Hole:
    """The task's gap; a single-line task asks for one line, any other for whatever fits."""
    kind: GapKind = "line" if task.task_id.lower().startswith(("single-line", "singleline")) else "span"
    return Hole(prefix=task.prompt, suffix=task.suffix, kind=kind)


def completed(task: Task, fill: str) -> str:
    """The whole program with its checks."""
    return f"{task.prompt}{fill}{task.suffix}\n{task.test}\ncheck({task.entry_point})\n"


def run_tasks(tasks: Sequence[Task], engine: Engine, seed: int) -> tuple[list[Outcome], About]:
    """Fill and judge every task, with live progress on stderr; then the engine is closed."""
    outcomes, about = list[Outcome](), engine.about
    rate = TextColumn("{task.fields[rate]:.1f} tasks/s")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), rate, TimeRemainingColumn())
    try:
        with Progress(*columns, console=Console(stderr=True)) as progress:
            bar, began = progress.add_task("quality", total=len(tasks), rate=0.0), time.perf_counter()
            for task in tasks:
                fill = engine.fill(hole_of(task), Budget(seed=seed)).result()
                outcomes.append(
                    Outcome(
                        entry_point=task.entry_point,
                        passed=bool(fill.text) and passes(completed(task, fill.text)),
                        exact=fill.text.rstrip() == task.canonical_solution.rstrip(),
                        shown=bool(fill.text) and fill.confidence >= about.show_threshold,
                        latency_ms=fill.latency.total,
                        steps=fill.steps,
                    )
                )
                share = mean([outcome.passed for outcome in outcomes])
                speed = len(outcomes) / (time.perf_counter() - began)
                progress.update(bar, advance=1, description=f"quality, pass@1 {100 * share:.1f} %", rate=speed)
    finally:
        engine.close()
    return outcomes, about


def summarise(outcomes: Sequence[Outcome], about: About, seed: int) -> dict[str, Any]:
    """The figures that `--json` prints."""
    shown = [outcome.passed for outcome in outcomes if outcome.shown]
    latencies = [outcome.latency_ms for outcome in outcomes]
    return {
        "n": len(outcomes),
        "pass@1": mean([outcome.passed for outcome in outcomes]),
        "exact_match": mean([outcome.exact for outcome in outcomes]),
        "ci95": list(interval(outcomes, seed)),
        "shown": len(shown) / len(outcomes),
        "pass@1_when_shown": mean(shown) if shown else None,
        "latency_ms": {"p50": quantile(latencies, 0.5), "p95": quantile(latencies, 0.95)},
        "steps_mean": mean([outcome.steps for outcome in outcomes]),
        "checkpoint": about.checkpoint,
        "device": about.device,
    }


def interval(outcomes: Sequence[Outcome], seed: int) -> tuple[float, float]:
    """95 % bootstrap interval of pass@1 over functions, since the tasks of one function are not independent."""
    groups = defaultdict[str, list[bool]](list)
    for outcome in outcomes:
        groups[outcome.entry_point].append(outcome.passed)
    counts = [(sum(group), len(group)) for group in groups.values()]
    chance = random.Random(seed)
    shares = []
    for _ in range(RESAMPLES):
        drawn = chance.choices(counts, k=len(counts))
        shares.append(sum(passed for passed, _ in drawn) / sum(size for _, size in drawn))
    return quantile(shares, 0.025), quantile(shares, 0.975)


def mean(values: Sequence[float]) -> float:
    """The arithmetic mean of at least one value."""
    return sum(values) / len(values)


def lines(summary: dict[str, Any], layout: str) -> Iterator[str]:
    """The summary for a person, with the checkpoint's layout."""
    low, high = (100 * value for value in summary["ci95"])
    yield f"pass@1 {100 * summary['pass@1']:.1f} % (95 % interval {low:.1f} to {high:.1f}), {summary['n']} tasks"
    yield f"exact match {100 * summary['exact_match']:.1f} %"
    right = summary["pass@1_when_shown"]
    of_them = "" if right is None else f", {100 * right:.1f} % of them right"
    yield f"shown {100 * summary['shown']:.1f} %{of_them}"
    latency = summary["latency_ms"]
    yield f"latency p50 {latency['p50']:.0f} ms, p95 {latency['p95']:.0f} ms; {summary['steps_mean']:.1f} steps"
    yield f"{summary['checkpoint']} on {summary['device']}, layout {layout}"


def quality_command(arguments: argparse.Namespace) -> int:
    """Run the tasks and print the figures."""
    if sys.platform == "win32":
        raise CommandError("bench quality limits its programs with POSIX means; run it on Linux or macOS")
    tasks = read_tasks(arguments.tasks, arguments.limit, arguments.seed)
    outcomes, about = run_tasks(tasks, engine_for(arguments), arguments.seed)
    summary = summarise(outcomes, about, arguments.seed)
    print(json.dumps(summary) if arguments.json else "\n".join(lines(summary, about.layout)))
    return 0
