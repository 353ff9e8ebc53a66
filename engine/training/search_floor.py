"""Fit `show.search_floor` of `midspan.json`: which gaps are given up before a canvas is denoised.

Held-out gaps are filled to the end. Of all pairs of LOG_PROBS and EVIDENCE, the one is taken that lets the fewest gaps
pass while at most a share of the fills that are shown and right is lost.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

from midspan.engine.api import Budget, Judge
from midspan.engine.engine import load_infiller
from midspan.engine.hypotheses.hypothesis import Proposals
from midspan.engine.hypotheses.task import PATIENT
from midspan.engine.infill import Infiller
from midspan.engine.settings import SearchFloor
from midspan.engine.training.holes import HeldOut
from midspan.engine.weights.midspan_json import write_settings

# Of the likeliest beam, in nats, and of a similar line.
LOG_PROBS, EVIDENCE = (-1.5, -2.0, -2.5, -3.0, -3.5, -4.0, -5.0), (0.5, 1.0, 1.5, 2.0, 2.5, 3.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One gap: its proposals before any canvas, whether its fill was shown in the end, and whether that was right."""

    proposals: Proposals
    shown: bool
    right: bool


def observe(infiller: Infiller, heldout: HeldOut) -> list[Seen]:
    """The holes, each as the engine fills it."""
    out, show = [], infiller.settings.show
    for number, (hole, truth) in enumerate(heldout.holes(), 1):
        found = infiller.infill(hole, Budget(seed=number), PATIENT)
        best = found.ranked[0] if found.ranked else None
        right = best is not None and infiller.prompt.text(list(best.ids), found.layout).rstrip() == truth.rstrip()
        shown = best is not None and best.confidence(show.calibration) >= show.show_threshold
        out.append(Seen(proposals=found.proposals, shown=shown, right=right))
    return out


def passed(seen: list[Seen], floor: SearchFloor) -> float:
    """The share of gaps that a floor lets pass."""
    return sum(one.proposals.reach(floor) for one in seen) / len(seen)


def lost(seen: list[Seen], floor: SearchFloor, *, right: bool) -> float:
    """The share of the fills that are shown, or of the `right` ones among them, that a floor loses."""
    shown = [one for one in seen if one.shown and (one.right or not right)]
    return sum(not one.proposals.reach(floor) for one in shown) / max(1, len(shown))


def fit(seen: list[Seen], most: float) -> SearchFloor:
    """The floor that lets the fewest gaps pass and loses at most a share `most` of the fills shown and right."""
    floors = [SearchFloor(log_prob=log_prob, evidence=evidence) for log_prob, evidence in product(LOG_PROBS, EVIDENCE)]
    fine = [floor for floor in floors if lost(seen, floor, right=True) <= most]
    widest = SearchFloor(log_prob=LOG_PROBS[-1], evidence=EVIDENCE[0])
    return min(fine or [widest], key=lambda floor: passed(seen, floor))


def fit_folder(folder: Path, heldout: HeldOut, most: float, judge: Judge | None) -> dict[str, object]:
    """Observe, fit and write `midspan.json`. Returns the figures, of each half by the floor of the other half."""
    infiller = load_infiller(str(folder), "cpu")
    assert isinstance(infiller, Infiller), "a checkpoint of canvases"
    infiller.judge = judge
    seen = observe(infiller, heldout)
    halves = seen[: len(seen) // 2], seen[len(seen) // 2 :]
    crossed = [(halves[0], fit(halves[1], most)), (halves[1], fit(halves[0], most))]
    floor = asdict(fit(seen, most))
    write_settings(folder, show={"search_floor": floor})
    return {
        "holes": len(seen),
        "search_floor": floor,
        "passed": sum(passed(half, by) for half, by in crossed) / 2,
        "lost_of_shown": sum(lost(half, by, right=False) for half, by in crossed) / 2,
        "lost_of_right": sum(lost(half, by, right=True) for half, by in crossed) / 2,
    }
