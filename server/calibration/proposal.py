"""What a record proposes for a checkpoint, and what that would have done to the suggestions that it holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from midspan.server.calibration.counts import Counts, together
from midspan.server.calibration.curve import Bin, Curve, Prior, fit, logistic, logit
from midspan.server.calibration.own import Calibration, Own
from midspan.server.commands.errors import CommandError
from midspan.server.report.compare import wilson

# Suggestions that were seen, and of either kind taken and not, below which nothing is fitted.
LEAST_SEEN, LEAST_EACH = 200, 20
# The curve of all languages is the prior of each, and so sure: about as good as 60 suggestions.
LANGUAGE_SPREAD = 0.3, 0.2
# So far below what was ever seen, in log-odds, the curve is believed.
BEYOND = 0.5
HIGHEST = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A threshold for a language (all for an empty name), by its curve, beside the shipped one."""

    language: str
    counts: Counts
    curve: Curve
    threshold: float
    shipped: float

    @property
    def own(self) -> Own:
        """As the configuration file has it."""
        return Own(
            threshold=self.threshold,
            bias=round(self.curve.bias, 4),
            slope=round(self.curve.slope, 4),
            seen=self.counts.total,
            taken=self.counts.taken,
        )

    def effect(self) -> dict[str, Any]:
        """What it would have done: how many of those that were seen stay and go, and how many would have come.

        Each with the share that was taken, or would have been as the curve has it, and the 95 % interval of that.
        """
        stay = [one for one in self.counts.seen if one.confidence >= self.threshold]
        go = [one for one in self.counts.seen if one.confidence < self.threshold]
        come = [one for one in self.counts.below if self.threshold <= one.confidence < self.shipped]
        return {
            "language": self.language,
            "shipped": self.shipped,
            "threshold": self.threshold,
            "seen": _recorded(self.counts.seen),
            "would_stay": _recorded(stay),
            "would_go": _recorded(go),
            "would_come": _predicted(come, self.curve),
        }


def missing(counts: Counts) -> str | None:
    """How many more suggestions a fit needs, in words; None where there are enough."""
    more = {
        "seen": LEAST_SEEN - counts.total,
        "taken": LEAST_EACH - counts.taken,
        "not taken": LEAST_EACH - counts.total + counts.taken,
    }
    needed = ", ".join(f"{count} more {name}" for name, count in more.items() if count > 0)
    if not needed:
        return None
    return f"{counts.total} suggestions were seen and {counts.taken} taken; it needs {needed}"


def propose(found: Mapping[str, Counts], threshold: Callable[[], float], worth: float) -> list[Proposal]:
    """The proposal for all languages, and those for each of which there is enough; `threshold` is the shipped one.

    A suggestion is shown where the share that is taken of those like it is `worth` or more. Before anything was
    recorded that is so from the shipped threshold on. Raises CommandError where the record is too thin.
    """
    every = together(list(found.values()))
    if (lack := missing(every)) is not None:
        raise CommandError(f"too thin to calibrate: {lack}; use midspan on, and try again")
    shipped = threshold()
    curve = fit(every.seen, Prior(confidence=shipped, share=worth))
    proposals = [_proposal("", every, curve, shipped, worth)]
    for language, counts in found.items():
        if missing(counts) is None:
            level, slope = LANGUAGE_SPREAD
            prior = Prior(shipped, curve.share(shipped), curve.slope, level, slope)
            proposals.append(_proposal(language, counts, fit(counts.seen, prior), shipped, worth))
    return proposals


def calibration_of(proposals: Iterable[Proposal]) -> Calibration:
    """As the configuration file has it; the first proposal is that for all languages."""
    every, *languages = proposals
    return Calibration(every=every.own, languages={one.language: one.own for one in languages})


def _proposal(language: str, counts: Counts, curve: Curve, shipped: float, worth: float) -> Proposal:
    least = logistic(logit(min(shipped, *(one.confidence for one in counts.seen))) - BEYOND)
    threshold = round(min(HIGHEST, max(least, curve.confidence_of(worth))), 3)
    return Proposal(language=language, counts=counts, curve=curve, threshold=threshold, shipped=shipped)


def _recorded(bins: Sequence[Bin]) -> dict[str, Any]:
    """So many, and the share that was taken, with Wilson's interval."""
    seen = sum(one.seen for one in bins)
    taken = sum(one.taken for one in bins)
    return {
        "count": seen,
        "taken": taken / seen if seen else None,
        "ci95": list(wilson(taken, seen)) if seen else None,
    }


def _predicted(bins: Sequence[Bin], curve: Curve) -> dict[str, Any]:
    """So many, and the share that the curve expects to be taken, with its interval."""
    count = sum(one.seen for one in bins)
    if not count:
        return {"count": 0, "taken": None, "ci95": None}
    low, high = (sum(one.seen * curve.bounds(one.confidence)[end] for one in bins) / count for end in (0, 1))
    share = sum(one.seen * curve.share(one.confidence) for one in bins) / count
    return {"count": count, "taken": share, "ci95": [low, high]}
