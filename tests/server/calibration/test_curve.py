"""The curve of how often a suggestion is taken: what a prior and what a record make of it."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from midspan.server.calibration.curve import LEAST_SLOPE, Bin, Curve, Prior, fit, logit

PRIOR = Prior(confidence=0.5, share=0.25)
CONFIDENCES = [number / 20 for number in range(1, 20)]
BINS = some.lists(
    some.tuples(some.floats(0, 1), some.integers(0, 10_000), some.integers(0, 10_000)).map(
        lambda one: Bin(one[0], max(one[1:]), min(one[1:]))
    ),
    max_size=20,
)


def cost(curve: tuple[float, float], bins: list[Bin]) -> float:
    """The negative log-likelihood with the prior, of a level at the prior's confidence and a slope."""
    level, slope = curve
    total = (level - logit(PRIOR.share)) ** 2 / (2 * PRIOR.level_spread**2)
    total += (slope - PRIOR.slope) ** 2 / (2 * PRIOR.slope_spread**2)
    for one in bins:
        odds = level + slope * (logit(one.confidence) - logit(PRIOR.confidence))
        total += one.seen * math.log1p(math.exp(odds)) - one.taken * odds
    return total


def test_without_a_record_the_prior_stands() -> None:
    curve = fit([], PRIOR)
    assert curve.share(0.5) == pytest.approx(0.25)
    assert curve.confidence_of(0.25) == pytest.approx(0.5)
    low, high = curve.bounds(0.5)
    assert (logit(low), logit(high)) == pytest.approx((logit(0.25) - 1.96, logit(0.25) + 1.96))


def test_a_long_record_is_followed() -> None:
    true = Curve(-1.5, 0.7)
    bins = [Bin(one, 100_000, round(100_000 * true.share(one))) for one in CONFIDENCES]
    curve = fit(bins, PRIOR)
    assert (curve.bias, curve.slope) == pytest.approx((true.bias, true.slope), abs=0.01)
    for one in CONFIDENCES:
        low, high = curve.bounds(one)
        assert low < true.share(one) < high < low + 0.01


def test_a_short_record_moves_it_some_way() -> None:
    assert 0.25 < fit([Bin(0.5, 4, 4)], PRIOR).share(0.5) < 0.7


def test_it_never_falls() -> None:
    curve = fit([Bin(0.1, 5000, 4000), Bin(0.9, 5000, 500)], PRIOR)
    assert curve.slope == pytest.approx(LEAST_SLOPE)
    # The level is the best one for that slope.
    level = curve.bias + curve.slope * logit(PRIOR.confidence)
    bins = [Bin(0.1, 5000, 4000), Bin(0.9, 5000, 500)]
    assert cost((level, LEAST_SLOPE), bins) <= min(cost((level + step, LEAST_SLOPE), bins) for step in (-0.01, 0.01))


@settings(max_examples=30)
@given(BINS)
def test_no_curve_beside_it_is_likelier(bins: list[Bin]) -> None:
    curve = fit(bins, PRIOR)
    level = curve.bias + curve.slope * logit(PRIOR.confidence)
    best = cost((level, curve.slope), bins)
    for step in ((0.01, 0.0), (-0.01, 0.0), (0.0, 0.01), (0.0, -0.01)):
        beside = level + step[0], curve.slope + step[1]
        if beside[1] >= LEAST_SLOPE:
            assert best <= cost(beside, bins) + 1e-6
    for one in (0.0, 0.3, 1.0):
        low, high = curve.bounds(one)
        assert 0 <= low <= curve.share(one) <= high <= 1
