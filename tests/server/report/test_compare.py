"""Shares with their intervals, and the sentences about two of them."""

from __future__ import annotations

import random
from typing import Any

import pytest

from midspan.server.report.compare import LEAST, by_group, newcombe, wilson
from midspan.server.report.reading import SUMS, Cell
from midspan.server.telemetry.events import Setup


def cell(engine: str, offered: int, accepted: int, **sums: float) -> Cell:
    setup = Setup(language="python", kind="line", trigger="automatic", checkpoint="embedded", engine=engine)
    return Cell(setup, 0, 0, True, dict.fromkeys(SUMS, 0.0) | {"offered": offered, "accepted": accepted} | sums)


def said(*cells: Cell) -> str:
    comparison: dict[str, Any] = by_group(cells, "engine")
    [sentence] = comparison["said"]
    return str(sentence)


@pytest.mark.parametrize(
    ("hits", "of", "low", "high"),
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (81, 263, 0.2553, 0.3662), (1, 29, 0.0061, 0.1718)],
)
def test_intervals_are_those_of_the_literature(hits: int, of: int, low: float, high: float) -> None:
    assert wilson(hits, of) == pytest.approx((low, high), abs=2e-4)


def test_the_interval_of_a_difference_is_that_of_the_literature() -> None:
    # Newcombe (1998), method 10, example (a): 56 of 70 less 48 of 80.
    assert newcombe((48, 80), (56, 70)) == pytest.approx((0.0524, 0.3339), abs=2e-4)


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    chance, held = random.Random(1), 0
    for _ in range(1000):
        hits = sum(chance.random() < 0.3 for _ in range(80))
        low, high = wilson(hits, 80)
        held += low <= 0.3 <= high
    assert 930 <= held <= 970


def test_a_difference_is_named_with_its_interval() -> None:
    assert said(cell("a", 1000, 300), cell("b", 900, 360)) == (
        "b against a: accepted more often, by +5.7 to +14.3 points"
    )
    assert said(cell("a", 1000, 400), cell("b", 900, 270)).startswith("b against a: accepted less often, by -")


def test_no_difference_is_said_only_where_there_are_enough() -> None:
    assert said(cell("a", 9000, 2700), cell("b", 8000, 2400)).startswith("b against a: no difference that matters")
    assert said(cell("a", 200, 60), cell("b", 100, 30)).startswith("b against a: too thin to tell 5 points")


def test_a_few_say_nothing() -> None:
    assert said(cell("a", 1000, 0), cell("b", LEAST - 1, LEAST - 1)) == (
        f"b against a: too thin: {LEAST - 1} suggestions on a side, {LEAST} are the least"
    )


def test_what_is_kept_has_an_interval_by_its_own_spread() -> None:
    shares = [0.0, 0.5, 1.0, 1.0]
    sums = {"known_300": 4.0, "kept_300": sum(shares), "squares": sum(share * share for share in shares)}
    [side] = by_group([cell("a", 40, 4, **sums)], "engine")["sides"]
    # The deviation is 0.4787, of the mean of four half of it.
    assert side["kept"]["ci95"] == pytest.approx([0.625 - 1.96 * 0.2394, 1.0], abs=1e-3)
