"""The gate's statistics: equal sides are told apart in one run of twenty at most, planted differences are found."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.comparing.verdicts import (
    LEVEL,
    Measure,
    Pair,
    Sums,
    chance,
    compare,
    drawn_sum,
    every_sum,
    holm,
    interval,
    ratio,
)

PASSED = Measure(name="passed", unit="%", units="functions", more_is_better=True, scale=100)
SAVED = Measure(name="saved", unit="%", units="files", more_is_better=True, scale=100)
WRONG = Measure(name="wrong", unit="", units="files", more_is_better=False, scale=100)
P50 = Measure(name="p50", unit="ms", units="rounds", more_is_better=False)
P95 = Measure(name="p95", unit="ms", units="rounds", more_is_better=False)
MEMORY = Measure(name="memory", unit="MB", units="rounds", more_is_better=False)
RUNS = 200


def gaps(rng: random.Random, right: float) -> Sums:
    """One function's gaps: as many pass as its own difficulty and the side's rate have it."""
    return Sums(sum(rng.random() < right for _ in range(3)), 3)


def typed(rng: random.Random, saved: float) -> Sums:
    characters = rng.randrange(20, 60)
    return Sums(sum(rng.random() < saved for _ in range(characters)), characters)


def milliseconds(rng: random.Random, median: float) -> Sums:
    """A round's quantile on a machine that others use: sometimes twice as long."""
    return Sums(median * rng.lognormvariate(0.0, 0.05) * rng.choice((1, 1, 1, 2)), 1)


def sample(rng: random.Random, one: Callable[[random.Random, float], Sums], rates: tuple[float, float]) -> list[Pair]:
    return [(one(rng, rates[0]), one(rng, rates[1])) for _ in range(9)]


def equal_sides(rng: random.Random) -> dict[Measure, list[Pair]]:
    found = {measure: sample(rng, milliseconds, (20.0, 20.0)) for measure in (P50, P95, MEMORY)}
    return {PASSED: sample(rng, gaps, (0.4, 0.4)), SAVED: sample(rng, typed, (0.2, 0.2)), **found}


def test_equal_sides_are_told_apart_in_one_run_of_twenty_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    # The intervals, which take most of the time, have no part in verdicts.
    monkeypatch.setattr("benchmarks.comparing.verdicts.RESAMPLES", 1)
    rng = random.Random(0)
    alarms = 0
    for run in range(RUNS):
        alarms += any(one.verdict != "no difference" for one in compare(equal_sides(rng), run))
    # LEVEL * RUNS are expected at most; three standard deviations of a binomial are 9 more.
    assert alarms <= LEVEL * RUNS + 9
    assert alarms > 0


def test_one_draw_of_a_side_against_itself_is_no_difference_at_all() -> None:
    rng = random.Random(1)
    same = [(one, one) for one in (gaps(rng, 0.5) for _ in range(40))]
    [found] = compare({PASSED: same}, 0)
    assert (found.chance, found.verdict, found.differing, found.units) == (1.0, "no difference", 0, 40)
    assert (found.low, found.high) == (0, 0)


@pytest.mark.parametrize(
    ("measure", "one", "rates", "verdict"),
    [
        (PASSED, gaps, (0.1, 0.9), "better"),
        (PASSED, gaps, (0.9, 0.1), "worse"),
        (WRONG, typed, (0.1, 0.3), "worse"),
        (SAVED, typed, (0.1, 0.3), "better"),
        (MEMORY, lambda rng, mean: Sums(rng.gauss(mean, 4.0), 1), (400.0, 420.0), "worse"),
        (P95, lambda rng, mean: Sums(rng.gauss(mean, 0.5), 1), (20.0, 17.0), "better"),
    ],
)
def test_a_planted_difference_is_found_among_measures_without_one(
    measure: Measure, one: Callable[[random.Random, float], Sums], rates: tuple[float, float], verdict: str
) -> None:
    rng = random.Random(2)
    found = {one.measure: one for one in compare({**equal_sides(rng), measure: sample(rng, one, rates)}, 0)}
    assert found[measure].verdict == verdict
    assert found[measure].low <= found[measure].b - found[measure].a <= found[measure].high
    assert {one.verdict for other, one in found.items() if other is not measure} == {"no difference"}


@pytest.mark.parametrize(("better", "worse"), [(6, 0), (5, 1), (9, 3), (4, 4)])
def test_of_single_gaps_it_is_mcnemars_exact_test(better: int, worse: int) -> None:
    gained, lost = (Sums(0, 1), Sums(1, 1)), (Sums(1, 1), Sums(0, 1))
    pairs = [gained] * better + [lost] * worse + [(Sums(1, 1), Sums(1, 1))] * 20
    tosses = [sum(toss) for toss in product((-1, 1), repeat=better + worse)]
    expected = sum(abs(toss) >= better - worse for toss in tosses) / len(tosses)
    assert chance(pairs, random.Random(0)) == expected


def test_many_units_are_tested_by_draws_that_agree_with_the_binomial() -> None:
    gained, lost = (Sums(0, 1), Sums(1, 1)), (Sums(1, 1), Sums(0, 1))
    # Of 20 tosses 15 or more of either side: 0.0414; three standard errors of 5000 draws are 0.0085.
    assert chance([gained] * 15 + [lost] * 5, random.Random(0)) == pytest.approx(0.0414, abs=0.0085)


FIGURES = st.builds(Sums, st.integers(0, 50), st.integers(1, 50))
PAIRS = st.lists(st.tuples(FIGURES, FIGURES), min_size=1, max_size=9)


@settings(max_examples=20)
@given(pairs=PAIRS)
def test_swapping_the_sides_swaps_the_verdict(pairs: list[Pair]) -> None:
    swapped = [(b, a) for a, b in pairs]
    assert chance(pairs, random.Random(0)) == chance(swapped, random.Random(0))
    low, high = interval(pairs, random.Random(0))
    assert low <= high


@given(moved=st.lists(FIGURES, max_size=6), seed=st.integers(0, 9))
def test_a_drawn_swap_is_one_of_all_swaps(moved: list[Sums], seed: int) -> None:
    sums = every_sum(moved)
    assert len(sums) == 2 ** len(moved)
    assert drawn_sum(moved, random.Random(seed)) in sums


def test_a_difference_that_matters_to_nobody_is_none() -> None:
    pairs = [(Sums(400.0 + jitter, 1), Sums(402.0 + jitter, 1)) for jitter in range(9)]
    measures = [replace(MEMORY, least=least) for least in (0.004, 0.006)]
    assert [compare({one: pairs}, 0)[0].verdict for one in measures] == ["worse", "no difference"]


def test_holms_adjustment_of_known_chances() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0]


def test_a_figure_is_a_ratio_of_sums() -> None:
    assert ratio([Sums(1, 2), Sums(1, 8)]) == 0.2
