"""How often a suggestion of some confidence is taken: a logistic curve, fitted with a prior.

The chance is the logistic of `bias` + `slope` · logit(confidence). Of bias and slope the prior says what is likely
before anything was recorded: a normal distribution each, at a confidence in the middle of things, so that both are
independent of each other. The fit is the likeliest curve, its spread that of the normal distribution around it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

Z = 1.96
# Newton's steps: a logistic curve of two parameters with a prior is there after ten.
STEPS = 50
EXACT = 1e-9
# A curve that falls would have the less sure suggestions shown.
LEAST_SLOPE = 0.1
# Confidences of 0 and 1 have no logit.
EDGE = 1e-3
Pair = tuple[float, float]
# Of each confidence: how far its logit is from the prior's, how many were seen, and how many taken.
Seen = Sequence[tuple[float, int, int]]


class Bin(NamedTuple):
    """Suggestions of one confidence: how many were seen, and how many of them taken."""

    confidence: float
    seen: int
    taken: int


class Prior(NamedTuple):
    """A curve before anything was recorded: the share that is taken at a confidence, the slope, and how sure both are.

    `level_spread` and `slope_spread` are standard deviations, of the share's logit and of the slope.
    """

    confidence: float
    share: float
    slope: float = 1.0
    level_spread: float = 1.0
    slope_spread: float = 0.5


@dataclass(frozen=True, slots=True)
class Curve:
    """A curve; `spread` has the variances of its level at a confidence and of its slope, and their covariance."""

    bias: float
    slope: float
    at: float = 0.5
    spread: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def share(self, confidence: float) -> float:
        """The share of such suggestions that is taken."""
        return logistic(self.bias + self.slope * logit(confidence))

    def bounds(self, confidence: float) -> tuple[float, float]:
        """Its 95 % interval."""
        x = logit(confidence) - logit(self.at)
        level, slope, both = self.spread
        middle, half = self.bias + self.slope * logit(confidence), Z * math.sqrt(level + 2 * both * x + slope * x * x)
        return logistic(middle - half), logistic(middle + half)

    def confidence_of(self, share: float) -> float:
        """The confidence of suggestions of which this share is taken."""
        return logistic((logit(share) - self.bias) / self.slope)


def fit(bins: Iterable[Bin], prior: Prior) -> Curve:
    """The likeliest curve by the prior and what was recorded."""
    centre = logit(prior.confidence)
    seen = [(logit(one.confidence) - centre, one.seen, one.taken) for one in bins]
    believed = logit(prior.share), prior.slope
    weights = 1 / prior.level_spread**2, 1 / prior.slope_spread**2
    level, slope = believed
    for _ in range(STEPS):
        (up, steeper), curved = _derivatives(seen, (level, slope), believed, weights)
        step = _solved(curved, (up, steeper))
        if slope + step[1] < LEAST_SLOPE:
            part = (LEAST_SLOPE - slope) / step[1]
            step = (part * step[0], part * step[1]) if part > EXACT else (up / curved[0], 0.0)
        # A whole step may go too far where all suggestions are of one confidence.
        cost = _cost(seen, (level, slope), believed, weights)
        while _cost(seen, (level + step[0], slope + step[1]), believed, weights) > cost and max(map(abs, step)) > EXACT:
            step = step[0] / 2, step[1] / 2
        level, slope = level + step[0], slope + step[1]
        if max(map(abs, step)) < EXACT:
            break
    _, (level_curve, slope_curve, both) = _derivatives(seen, (level, slope), believed, weights)
    area = level_curve * slope_curve - both * both
    spread = slope_curve / area, level_curve / area, -both / area
    return Curve(level - slope * centre, slope, prior.confidence, spread)


def logit(share: float) -> float:
    """The logarithm of the odds, of EDGE at the least and at the most."""
    share = min(1 - EDGE, max(EDGE, share))
    return math.log(share / (1 - share))


def logistic(odds: float) -> float:
    """The share of a logarithm of odds."""
    return 1 / (1 + math.exp(-max(-50.0, min(50.0, odds))))


def _cost(seen: Seen, at: Pair, believed: Pair, weights: Pair) -> float:
    """The negative log-likelihood of a level and a slope, with the prior."""
    total = sum(weight * (one - other) ** 2 / 2 for weight, one, other in zip(weights, at, believed, strict=True))
    for x, count, taken in seen:
        odds = at[0] + at[1] * x
        total += count * (max(0.0, odds) + math.log1p(math.exp(-abs(odds)))) - taken * odds
    return total


def _derivatives(seen: Seen, at: Pair, believed: Pair, weights: Pair) -> tuple[Pair, tuple[float, float, float]]:
    """Of the log-likelihood with the prior by level and slope: the first ones, and the negative second ones."""
    up, steeper = (weight * (other - one) for weight, one, other in zip(weights, at, believed, strict=True))
    (level_curve, slope_curve), both = weights, 0.0
    for x, count, taken in seen:
        share = logistic(at[0] + at[1] * x)
        missing, bend = taken - count * share, count * share * (1 - share)
        up, steeper = up + missing, steeper + missing * x
        level_curve, slope_curve, both = level_curve + bend, slope_curve + bend * x * x, both + bend * x
    return (up, steeper), (level_curve, slope_curve, both)


def _solved(matrix: tuple[float, float, float], vector: Pair) -> Pair:
    """What a symmetric matrix (both diagonals, and what stands beside them) takes to a vector."""
    first, second, both = matrix
    area = first * second - both * both
    return (second * vector[0] - both * vector[1]) / area, (first * vector[1] - both * vector[0]) / area
