"""What nine of ten answers stay below follows what has been lately, for prompts of a length."""

from __future__ import annotations

import pytest

from midspan.server.router.latency import BUCKETS, KEPT, Latencies, bucket_of, weighted_quantile


def test_the_newest_answers_count_most() -> None:
    quick_then_slow = [0.1] * 26 + [1.0] * 6
    assert weighted_quantile(quick_then_slow, 0.9) == 1.0
    assert weighted_quantile(quick_then_slow[::-1], 0.9) == 0.1
    assert weighted_quantile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert weighted_quantile([float(number) for number in range(KEPT)], 0.99) == KEPT - 1


def test_each_length_has_its_own_and_the_nearest_stands_in() -> None:
    latencies = Latencies()
    assert latencies.p90(100) is None
    latencies.note(100, 0.1)
    latencies.note(50_000, 2.0)
    assert [latencies.p90(chars) for chars in (1, 501, 30_000, 40_000)] == [0.1, 0.1, 2.0, 2.0]
    for _ in range(KEPT):
        latencies.note(100, 0.5)
    assert latencies.p90(100) == 0.5
    assert [bucket_of(end) for end in BUCKETS] == [0, 1, 2, 3]


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_quantile_is_among_the_values(share: float) -> None:
    assert weighted_quantile([0.3], share) == 0.3
