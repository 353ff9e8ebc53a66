"""The report as text for Prometheus (its exposition format 0.0.4): sums alone, no row and no text of anybody's.

They are gauges over the report's time, not counters: rows grow old and are deleted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import PurePath

from midspan.server.report.figures import Figures, quantiles, total
from midspan.server.report.reading import Cell, Read
from midspan.server.telemetry.events import Setup
from midspan.server.telemetry.schema import HORIZONS

LABELS = ("client", "language", "kind", "trigger", "checkpoint", "digest", "engine", "layout", "device")
Sample = tuple[dict[str, str], float]


def as_metrics(found: Read, figures: Figures) -> Iterator[str]:
    """The lines."""
    requests = [*found.requests, *found.actions.requests]
    yield from _metric(
        "midspan_requests", "Requests for a suggestion by fate.",
        ((_labels(one.setup) | {"fate": one.fate}, one.count) for one in requests),
    )  # fmt: skip
    phases = (({"phase": phase}, ms / 1000) for phase, ms in found.phases_ms.items())
    yield from _metric("midspan_phase_seconds", "Mean time of requests that brought a suggestion, by phase.", phases)
    busy = ((_labels(one.setup) | {"fate": one.fate}, one.busy_ms / 1000) for one in requests)
    yield from _metric("midspan_computing_seconds", "What engines computed for requests.", busy)
    sums = {setup: total(cells) for setup, cells in _by_setup(found.cells).items()}
    for name, words in (
        ("offered", "Suggestions that were offered."),
        ("shown", "Suggestions that were seen."),
        ("accepted", "Suggestions that were taken whole."),
        ("in_part", "Suggestions that were taken in part."),
        ("chars", "Characters of suggestions that were taken."),
    ):
        samples = ((_labels(setup), one[name]) for setup, one in sums.items())
        yield from _metric(f"midspan_suggestions_{name}", words, samples)
    kept = (
        (_labels(setup) | {"seconds": str(seconds)}, one[f"kept_{seconds}"] / one[f"known_{seconds}"])
        for setup, one in sums.items()
        for seconds in HORIZONS
        if one[f"known_{seconds}"]
    )
    yield from _metric("midspan_kept_share", "Share of what was taken that still stood so much later.", kept)
    spread = quantiles((wait.ms, wait.offered) for wait in found.waits) or {}
    waits = (({"quantile": str(int(name[1:]) / 100)}, ms / 1000) for name, ms in spread.items())
    yield from _metric("midspan_latency_seconds", "Request to answer, of suggestions.", waits)
    yield from _actions(found)
    vetoed: Iterable[Sample] = (({"reason": reason}, count) for reason, count in found.vetoed.items())
    yield from _metric("midspan_vetoed", "Texts that a validator objected to.", vetoed)
    remedies: Iterable[Sample] = (({"remedy": remedy}, count) for remedy, count in found.remedies.items())
    yield from _metric("midspan_remedies", "Such texts by what was shown in their place.", remedies)
    used = figures["measures"]["utilisation"]
    share = [({}, used["share"])] if used["share"] is not None else list[Sample]()
    yield from _metric("midspan_utilisation", "Share of the minutes of typing in which this machine filled.", share)


def _actions(found: Read) -> Iterator[str]:
    """Code actions; their requests and fates stand among the others, by their trigger."""
    sums = {setup: total(cells) for setup, cells in _by_setup(found.actions.cells).items()}
    for name, key, words in (
        ("made", "offered", "Edits that were made for code actions."),
        ("applied", "accepted", "Code actions that were applied."),
    ):
        samples = ((_labels(setup), one[key]) for setup, one in sums.items())
        yield from _metric(f"midspan_actions_{name}", words, samples)
    undone: Iterable[Sample] = (({"kind": name}, count) for name, count in found.actions.undone.items())
    yield from _metric("midspan_actions_undone", "Code actions that were undone within a minute.", undone)


def _by_setup(cells: Iterable[Cell]) -> dict[Setup, list[Cell]]:
    parts: dict[Setup, list[Cell]] = {}
    for cell in cells:
        parts.setdefault(cell.setup, []).append(cell)
    return parts


def _labels(setup: Setup) -> dict[str, str]:
    labels: dict[str, str] = {name: getattr(setup, name) for name in LABELS}
    # Where a checkpoint lies is nobody else's business.
    labels["checkpoint"] = PurePath(setup.checkpoint).name
    return labels


def _metric(name: str, words: str, samples: Iterable[Sample]) -> Iterator[str]:
    """A metric with its samples; nothing where there are none. Requests that differ in their reason only are added."""
    sums: dict[str, float] = {}
    for labels, value in samples:
        key = ",".join(f'{label}="{_quoted(one)}"' for label, one in labels.items())
        sums[key] = sums.get(key, 0.0) + value
    if sums:
        yield f"# HELP {name} {words}"
        yield f"# TYPE {name} gauge"
        for key, value in sums.items():
            yield f"{name}{{{key}}} {value:.12g}" if key else f"{name} {value:.12g}"


def _quoted(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
