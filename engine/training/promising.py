"""Fit when a gap may come to something that is shown, before a canvas is denoised: `promising` of `midspan.json`.

Held-out gaps are filled to the end. Of all pairs of NATS and EVIDENCE that one is taken that lets the fewest of them
pass, while of the fills that are shown and right at most a share is lost.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from midspan.engine.api import Budget, Judge
from midspan.engine.engine import load_infiller
from midspan.engine.hypotheses.hypothesis import Proposals
from midspan.engine.hypotheses.task import PATIENT
from midspan.engine.infill import Infiller
from midspan.engine.settings import write_settings
from midspan.engine.training.holes import heldout_holes

# Of the likeliest beam, in nats, and of a line near by.
NATS, EVIDENCE = (-1.5, -2.0, -2.5, -3.0, -3.5, -4.0, -5.0), (0.5, 1.0, 1.5, 2.0, 2.5, 3.0)
Bounds = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A gap: what spoke for it at first, whether its fill was shown in the end, and whether that was right."""

    proposals: Proposals
    shown: bool
    right: bool


def observe(infiller: Infiller, heldout: Path, count: int, seed: int) -> list[Seen]:
    """Every hole as the engine fills it."""
    out, settings = [], infiller.settings
    for number, (hole, truth) in enumerate(heldout_holes(heldout, count, seed), 1):
        found = infiller.infill(hole, Budget(seed=number), PATIENT)
        best = found.ranked[0] if found.ranked else None
        right = best is not None and infiller.prompt.text(list(best.ids), found.layout).rstrip() == truth.rstrip()
        shown = best is not None and best.confidence(settings.calibration) >= settings.show_threshold
        out.append(Seen(proposals=found.proposals, shown=shown, right=right))
        if number % 50 == 0:
            sys.stderr.write(f"{number}/{count} holes\n")
    return out


def passed(seen: list[Seen], bounds: Bounds) -> float:
    """The share of gaps that go on."""
    return sum(one.proposals.reach(bounds) for one in seen) / len(seen)


def lost(seen: list[Seen], bounds: Bounds, *, right: bool) -> float:
    """The share of the fills that are shown, or of the `right` ones among them, that would not be made."""
    shown = [one for one in seen if one.shown and (one.right or not right)]
    return sum(not one.proposals.reach(bounds) for one in shown) / max(1, len(shown))


def fit(seen: list[Seen], most: float) -> Bounds:
    """The bounds that let the fewest gaps pass and lose at most a share `most` of what is shown and right."""
    fine = [bounds for bounds in product(NATS, EVIDENCE) if lost(seen, bounds, right=True) <= most]
    return min(fine or [(NATS[-1], EVIDENCE[0])], key=lambda bounds: passed(seen, bounds))


def fit_folder(
    folder: Path, heldout: Path, holes: int, seed: int, most: float, judge: Judge | None
) -> dict[str, object]:
    """Observe, fit, write `midspan.json`; the figures of it, on each half by what the other half says."""
    infiller = load_infiller(str(folder), "cpu")
    assert isinstance(infiller, Infiller), "a checkpoint of canvases"
    infiller.judge = judge
    seen = observe(infiller, heldout, holes, seed)
    halves = seen[: len(seen) // 2], seen[len(seen) // 2 :]
    crossed = [(halves[0], fit(halves[1], most)), (halves[1], fit(halves[0], most))]
    bounds = fit(seen, most)
    write_settings(folder, promising=bounds)
    return {
        "holes": len(seen),
        "promising": list(bounds),
        "passed": sum(passed(half, by) for half, by in crossed) / 2,
        "lost_of_shown": sum(lost(half, by, right=False) for half, by in crossed) / 2,
        "lost_of_right": sum(lost(half, by, right=True) for half, by in crossed) / 2,
    }
