"""How long an engine takes, by its prompts' length: a quantile that follows what has been lately."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Sequence

SHARE = 0.9
# The weight of an answer beside that of the next one, and how many count at all.
DECAY, KEPT = 0.95, 32
WEIGHTS = [DECAY**age for age in range(KEPT)][::-1]
# Lengths in characters at which a bucket ends; beyond the last one is another.
BUCKETS = (500, 2_000, 8_000, 32_000)


def bucket_of(chars: int) -> int:
    """The bucket of a prompt's length."""
    return bisect_left(BUCKETS, chars)


class Latencies:
    """Seconds of the last answers by bucket; p50 and p90 are exponentially weighted."""

    def __init__(self) -> None:
        self._taken: dict[int, deque[float]] = {}
        self._p90: dict[int, float] = {}

    def note(self, chars: int, seconds: float) -> None:
        """An answer to a prompt of so many characters has taken so long."""
        bucket = bucket_of(chars)
        taken = self._taken.setdefault(bucket, deque(maxlen=KEPT))
        taken.append(seconds)
        self._p90[bucket] = weighted_quantile(taken, SHARE)

    def p90(self, chars: int) -> float | None:
        """Seconds that nine of ten such answers stay below, by the nearest bucket that knows; None where none does."""
        bucket = bucket_of(chars)
        if bucket in self._p90:
            return self._p90[bucket]
        nearest = min(self._p90, key=lambda one: abs(one - bucket), default=None)
        return None if nearest is None else self._p90[nearest]


def weighted_quantile(taken: Sequence[float], share: float) -> float:
    """The quantile of at least one value and at most KEPT, the newest last and heaviest."""
    weights = WEIGHTS[-len(taken) :]
    # From the top, as the share is nearly all: a few steps.
    above = (1 - share) * sum(weights)
    for value, weight in sorted(zip(taken, weights, strict=True), reverse=True):
        above -= weight
        if above < 0:
            return value
    return min(taken)
