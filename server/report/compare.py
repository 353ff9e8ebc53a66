"""Two sets of suggestions against each other: shares with 95 % intervals, and a sentence that says what they show."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from midspan.server.report.figures import label, total
from midspan.server.report.reading import Cell

Z = 1.96
# The difference that is worth knowing of: below it a comparison without a difference says little.
POINTS = 0.05
LEAST = 30  # suggestions on a side, below which a share says nothing


def wilson(hits: float, of: float) -> tuple[float, float]:
    """Wilson's 95 % interval of a share of at least one."""
    share, squared = hits / of, Z * Z / of
    middle, half = share + squared / 2, Z * math.sqrt(share * (1 - share) / of + squared / (4 * of))
    return max(0.0, (middle - half) / (1 + squared)), min(1.0, (middle + half) / (1 + squared))


def newcombe(one: tuple[float, float], other: tuple[float, float]) -> tuple[float, float]:
    """The 95 % interval of the difference of two shares, each as (hits, of), from Wilson's of each."""
    (low, high), (other_low, other_high) = wilson(*one), wilson(*other)
    share, other_share = one[0] / one[1], other[0] / other[1]
    difference = other_share - share
    return (
        difference - math.hypot(high - share, other_share - other_low),
        difference + math.hypot(share - low, other_high - other_share),
    )


def by_date(cells: Iterable[Cell], date: str) -> dict[str, Any]:
    """What came before a date against what came since."""
    return _compared(f"before and since {date}", cells, lambda cell: "since" if cell.after else "before")


def by_group(cells: Iterable[Cell], name: str) -> dict[str, Any]:
    """Each checkpoint, engine, language or client against the one with the most suggestions."""
    named = [cell for cell in cells if label(cell.setup, name)]
    return _compared(f"by {name}", named, lambda cell: label(cell.setup, name))


def _compared(what: str, cells: Iterable[Cell], key: Callable[[Cell], str]) -> dict[str, Any]:
    parts: dict[str, list[Cell]] = {}
    for cell in cells:
        parts.setdefault(key(cell), []).append(cell)
    sums = {name: total(part) for name, part in parts.items()}
    names = sorted(sums, key=lambda name: (name != "before", -sums[name]["offered"], name))
    sides = [_side(name, sums[name]) for name in names]
    said = [_sentence(sides[0], side) for side in sides[1:]]
    return {"what": what, "sides": sides, "said": said or ["there is nothing to compare with; widen --since"]}


def _side(name: str, sums: dict[str, float]) -> dict[str, Any]:
    """One side: how many were offered and accepted, and what was kept after five minutes."""
    offered, known = sums["offered"], sums["known_300"]
    share = sums["kept_300"] / known if known else None
    kept: dict[str, Any] = {"n": int(known), "share": share, "ci95": None}
    if share is not None and known > 1:
        # Shares of texts are no hits and misses: their own spread gives the interval.
        variance = max(0.0, (sums["squares"] - known * share * share) / (known - 1))
        half = Z * math.sqrt(variance / known)
        kept["ci95"] = [max(0.0, share - half), min(1.0, share + half)]
    accepted = {"share": sums["accepted"] / offered, "ci95": list(wilson(sums["accepted"], offered))}
    return {"name": name, "offered": int(offered), "hits": int(sums["accepted"]), "accepted": accepted, "kept": kept}


def _sentence(one: dict[str, Any], other: dict[str, Any]) -> str:
    """What the acceptance of two sides shows."""
    names = f"{other['name']} against {one['name']}"
    fewest = min(one["offered"], other["offered"])
    if fewest < LEAST:
        return f"{names}: too thin: {fewest} suggestions on a side, {LEAST} are the least"
    low, high = newcombe((one["hits"], one["offered"]), (other["hits"], other["offered"]))
    interval = f"{100 * low:+.1f} to {100 * high:+.1f} points"
    if low > 0 or high < 0:
        return f"{names}: accepted {'more' if low > 0 else 'less'} often, by {interval}"
    if high - low > 2 * POINTS:
        return f"{names}: too thin to tell {100 * POINTS:.0f} points: {interval}"
    return f"{names}: no difference that matters, {interval}"
