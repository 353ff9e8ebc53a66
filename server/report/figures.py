"""The figures of a report, from cells: counts, shares, and the four measures.

A suggestion that stays while the user types along counts once. `accepted` counts those taken whole, `acceptance_rate`
is their share of those offered, and `chars_accepted` includes partial acceptances. `shown` counts those of which the
client has told so, or of which time tells. `kept` is the share of what was taken that still stood so many seconds
later, on average over those that were followed so long. `vetoed` counts the texts that a validator objected to, by kind
of objection, `remedies` the same by what was shown in their place: the next candidate, a repair, another engine's text,
or nothing. Code actions have figures of their own, `actions`; but what they cost counts in the utilisation.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import PurePath
from typing import Any, TypeVar

from midspan.server.report.reading import BINS, Actions, Cell, Read, Requests, Waits
from midspan.server.telemetry.events import Setup
from midspan.server.telemetry.schema import HORIZONS

One = TypeVar("One")
GROUPS = ("language", "kind", "trigger", "checkpoint", "engine", "client")
# Where the router had no choice no engine is named, and not every client says who it is.
MAY_BE_UNNAMED = ("engine", "client")
Figures = dict[str, Any]
Sums = dict[str, float]


def report(found: Read) -> Figures:
    """All figures, in total and by what rows have in common."""
    by: dict[str, Figures] = {}
    for name in GROUPS:
        cells = _parts(found.cells, lambda cell, name=name: getattr(cell.setup, name))  # type: ignore[misc]
        waits = _parts(found.waits, lambda wait, name=name: getattr(wait.setup, name))  # type: ignore[misc]
        by[name] = {
            key: figures(part, waits[key]) for key, part in sorted(cells.items()) if key or name not in MAY_BE_UNNAMED
        }
    return {
        **figures(found.cells, found.waits),
        "confidence": _bins(found.cells, found.sureness),
        "by": by,
        "actions": _actions(found.actions),
        "vetoed": found.vetoed,
        "remedies": found.remedies,
        **_fates(found.requests),
        "failures": found.failures,
        "phases_ms": found.phases_ms,
        "ended": found.ended,
        "days": _days(found.cells),
        "measures": measures(found),
    }


def figures(cells: Sequence[Cell], waits: Sequence[Waits]) -> Figures:
    """The figures of some suggestions; rates and times are None for none."""
    sums = total(cells)
    offered, spread = int(sums["offered"]), [(wait.ms, wait.offered) for wait in waits]
    return {
        "offered": offered,
        "shown": int(sums["shown"]),
        "accepted": int(sums["accepted"]),
        "accepted_by_edits_alone": int(sums["inferred"]),
        "accepted_in_part": int(sums["in_part"]),
        "acceptance_rate": sums["accepted"] / offered if offered else None,
        "chars_accepted": int(sums["chars"]),
        "latency_ms": quantiles(spread),
        "kept": {str(seconds): _kept(sums, seconds) for seconds in HORIZONS},
    }


def total(cells: Iterable[Cell]) -> Sums:
    """The sums of some cells."""
    sums = defaultdict[str, float](float)
    for cell in cells:
        for name, value in cell.sums.items():
            sums[name] += value
    return sums


def quantiles(spread: Iterable[tuple[float, int]]) -> Figures | None:
    """p50 and p95 by nearest rank of values that come so often each; None for none."""
    values = sorted((value, often) for value, often in spread if often)
    count = sum(often for _, often in values)
    if not count:
        return None
    found, seen = dict[str, float](), 0
    for value, often in values:
        seen += often
        for name, share in (("p50", 0.5), ("p95", 0.95)):
            if name not in found and seen >= share * count:
                found[name] = round(value, 1)
    return found


def measures(found: Read) -> Figures:
    """The four measures: time to first useful edit, quality by task, utilisation, and cost per accepted edit."""
    sums = total(found.cells)
    taken = sums["accepted"] + sums["in_part"]
    busy_s, acting_s = _busy_s(found.requests), _busy_s(found.actions.requests)
    steps = sum(one.steps for one in found.requests)
    kept_chars = sums["chars"] * sums["chars_kept"] / sums["chars_known"] if sums["chars_known"] else None
    known = bool(taken and found.requests)
    return {
        "time_to_first_useful_edit_ms": quantiles((wait.ms, wait.taken) for wait in found.waits),
        "quality_by_task": {
            kind: {"offered": int(part["offered"]), "accepted": part["accepted"] / part["offered"]}
            | {"kept": _kept(part, 300)["share"]}
            for kind, part in _totals(found.cells, lambda cell: cell.setup.kind).items()
        },
        "utilisation": {
            "busy_s": round(busy_s + acting_s, 3),
            "active_minutes": found.minutes,
            "share": (busy_s + acting_s) / (60 * found.minutes) if found.minutes else None,
        },
        "cost_per_accepted_edit": {
            "device_s": busy_s / taken if known else None,
            "steps": steps / taken if known else None,
            "device_s_per_100_kept_chars": 100 * busy_s / kept_chars if known and kept_chars else None,
        },
    }


def _fates(requests: Iterable[Requests]) -> Figures:
    """How many requests there were, and of each fate."""
    fates = Counter[str]()
    for one in requests:
        fates[one.fate] += one.count
    return {"requests": fates.total(), "fates": dict(fates.most_common())}


def _busy_s(requests: Iterable[Requests]) -> float:
    """Seconds that this machine has computed for requests."""
    # An engine elsewhere is named as its device: what it computes costs this machine nothing.
    return sum(one.busy_ms for one in requests if one.setup.device != one.setup.engine) / 1000


def _actions(found: Actions) -> Figures:
    """The figures of code actions, and by name: `offered` counts edits that were made, `accepted` the applied ones."""
    cells, waits = _parts(found.cells, lambda one: one.setup.kind), _parts(found.waits, lambda one: one.setup.kind)
    by = {name: {**figures(part, waits[name]), "undone": found.undone.get(name, 0)} for name, part in cells.items()}
    sums = total(found.cells)
    return {
        **_fates(found.requests),
        "offered": int(sums["offered"]),
        "accepted": int(sums["accepted"]),
        "undone": sum(found.undone.values()),
        "kept": {str(seconds): _kept(sums, seconds) for seconds in HORIZONS},
        "by": dict(sorted(by.items(), key=lambda one: -one[1]["offered"])),
    }


def label(setup: Setup, name: str) -> str:
    """What a group is called: a checkpoint with its digest, where that is known."""
    value: str = getattr(setup, name)
    # A folder is told by its last part.
    return f"{PurePath(value).name} {setup.digest[:6]}".strip() if name == "checkpoint" else value


def _kept(sums: Sums, seconds: int) -> Figures:
    known = int(sums[f"known_{seconds}"])
    return {"n": known, "share": sums[f"kept_{seconds}"] / known if known else None}


def _parts(ones: Iterable[One], key: Callable[[One], str]) -> defaultdict[str, list[One]]:
    parts = defaultdict[str, list[One]](list)
    for one in ones:
        parts[key(one)].append(one)
    return parts


def _totals(cells: Iterable[Cell], key: Callable[[Cell], str]) -> dict[str, Sums]:
    return {name: total(part) for name, part in sorted(_parts(cells, key).items())}


def _bins(cells: Iterable[Cell], sureness: dict[int, float]) -> list[Figures]:
    """For each fifth of the confidence scale how many were offered, how sure on average, and which share was taken."""
    parts = _totals(cells, lambda cell: str(cell.bin))
    return [
        {"from": int(number) / BINS, "to": (int(number) + 1) / BINS, "offered": int(part["offered"])}
        | {"accepted": part["accepted"] / part["offered"], "confidence": sureness[int(number)] / part["offered"]}
        for number, part in parts.items()
    ]


def _days(cells: Iterable[Cell]) -> list[Figures]:
    """By day in local time, 0 for that of 1970-01-01."""
    parts = defaultdict[int, list[Cell]](list)
    for cell in cells:
        parts[cell.day].append(cell)
    sums = {day: total(part) for day, part in sorted(parts.items())}
    return [
        {"day": day, "offered": int(part["offered"]), "accepted": int(part["accepted"]), "kept": _kept(part, 300)}
        for day, part in sums.items()
    ]
