"""Acceptance, the stop rule, the temperature schedule, and random samples and noise."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from midspan.engine.canvas import Plan, Rng, accept, settled


def test_accepts_in_order_of_entropy_until_the_sum_before_exceeds_the_bound() -> None:
    entropy = torch.tensor([[0.5, 0.02, 0.09, 0.04, 0.0]])
    free = torch.tensor([[True, True, True, True, False]])
    # Free entropies in order, with the sum before each: .02 (0), .04 (.02), .09 (.06), .5 (.15 > .1).
    assert accept(entropy, free, 0.1).tolist() == [[False, True, True, True, False]]


@given(st.lists(st.tuples(st.floats(0, 9), st.booleans()), min_size=1, max_size=40))
def test_accepts_at_least_one_free_and_never_a_frozen_position(rows: list[tuple[float, bool]]) -> None:
    entropy = torch.tensor([[value for value, _ in rows]])
    free = torch.tensor([[is_free for _, is_free in rows]])
    kept = accept(entropy, free, 0.1)
    assert not bool((kept & ~free).any())
    assert bool(kept.any()) == bool(free.any())


EXACT = st.integers(0, 128).map(lambda n: n / 64)  # sums have no rounding, so that their order does not matter


@given(st.lists(EXACT, min_size=1, max_size=20), st.integers(0, 30))
def test_frozen_positions_do_not_use_the_entropy_budget(values: list[float], frozen: int) -> None:
    alone = accept(torch.tensor([values]), torch.ones(1, len(values), dtype=torch.bool), 0.1)
    entropy = torch.tensor([values + [0.0625] * frozen])
    free = torch.tensor([[True] * len(values) + [False] * frozen])
    assert accept(entropy, free, 0.1)[:, : len(values)].tolist() == alone.tolist()


def test_settles_only_when_stable_and_confident_over_the_free_rows() -> None:
    free = torch.tensor([[True, True, False]] * 4)
    draft = torch.tensor([[1, 2, 9]] * 4)
    previous = torch.tensor([[1, 2, 8], [1, 3, 9], [1, 2, 9], [1, 2, 9]])
    # Row 2: the mean over free positions, .006, is too high, although the mean over all three is below the threshold.
    entropy = torch.tensor([[0.004, 0.004, 7.0], [0, 0, 0], [0.006, 0.006, 0.0], [0.0, 0.004, 0.0]])
    assert settled(draft, previous, entropy, free, 0.005).tolist() == [True, False, False, True]
    assert settled(draft, None, entropy, free, 0.005).tolist() == [False] * 4


def test_a_canvas_without_free_positions_is_settled_at_once() -> None:
    nothing = torch.zeros(1, 3, dtype=torch.bool)
    assert settled(torch.zeros(1, 3), None, torch.ones(1, 3), nothing, 0.005).tolist() == [True]


def test_temperature_falls_linearly_with_the_steps_that_remain() -> None:
    plan = Plan(steps=48)
    assert plan.temperature(48) == 0.8
    assert round(plan.temperature(1), 4) == 0.4083


def test_samples_follow_the_probabilities() -> None:
    rng = Rng(seed=1)
    ids = rng.sample(torch.tensor([[0.0, 0.25, 0.75, 0.0]]).expand(4000, -1))
    counts = ids.bincount(minlength=4)
    assert counts[0] == counts[3] == 0
    # Five standard deviations of a binomial with p = 1/4.
    assert abs(int(counts[1]) - 1000) < 5 * (4000 * 0.25 * 0.75) ** 0.5


def test_noise_covers_the_vocabulary_evenly() -> None:
    noise = Rng(seed=2).noise((100, 100), 10)
    counts = noise.flatten().bincount(minlength=10)
    assert counts.shape == (10,)
    assert int((counts - 1000).abs().max()) < 5 * (10000 * 0.1 * 0.9) ** 0.5
