"""Whether two sides differ: exact tests on pairs, with an interval for each measure and one level for all of them.

A side's figure is a ratio of sums over units, such as keys saved over characters. A unit is what is independent of the
others: a function for its gaps, a file for its lines, a round (one start of both servers) for latency and memory. Each
unit has been done by both sides, so the test asks what would be if both were the same: then their names could be
swapped in any unit. `chance` is the share of all such swaps whose difference is at least as great as the one that was
found: every swap where at most EXACT units differ, else DRAWS of them, the one that was found counted with them. Where
a unit is one gap, that is McNemar's exact test. Intervals are a paired bootstrap over units, each for its own measure.

Of several measures one is soon extreme by chance. Holm's step-down holds that: if nothing differs, all verdicts of a
run are `no difference` in at least 1 - LEVEL of the runs.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Literal, NamedTuple

from midspan.server.statistics import quantile

LEVEL = 0.05
EXACT = 12
DRAWS = 5000
RESAMPLES = 2000
# Two sums of the same numbers in another order are one difference.
ROUNDING = 1e-9

Verdict = Literal["better", "worse", "no difference"]


class Sums(NamedTuple):
    """What a unit came to on one side: `counted`, out of `of`."""

    counted: float
    of: float


Pair = tuple[Sums, Sums]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """A figure: `scale` times its ratio, in `unit`.

    A difference below `least`, a share of the first side's figure, matters to nobody and is none, however sure.
    """

    name: str
    unit: str
    units: str
    more_is_better: bool
    scale: float = 1.0
    least: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """A measure of both sides; `low` and `high` bound `b - a` in 95 of 100 runs, `chance` is Holm's."""

    measure: Measure
    a: float
    b: float
    low: float
    high: float
    chance: float
    units: int
    differing: int
    verdict: Verdict


def compare(samples: Mapping[Measure, Sequence[Pair]], seed: int) -> list[Compared]:
    """Every measure with its verdict on the second side. Each needs at least one pair."""
    rng = random.Random(seed)
    found = {measure: (chance(pairs, rng), *interval(pairs, rng)) for measure, pairs in samples.items()}
    held = holm([one for one, _, _ in found.values()])
    out = []
    for (measure, pairs), adjusted in zip(samples.items(), held, strict=True):
        a, b = (measure.scale * ratio([pair[side] for pair in pairs]) for side in (0, 1))
        _, low, high = found[measure]
        out.append(
            Compared(
                measure=measure,
                a=a,
                b=b,
                low=measure.scale * low,
                high=measure.scale * high,
                chance=adjusted,
                units=len(pairs),
                differing=sum(one != other for one, other in pairs),
                verdict=judge(measure, a, b, adjusted),
            )
        )
    return out


def judge(measure: Measure, a: float, b: float, adjusted: float) -> Verdict:
    """What the second side's figure is beside the first's."""
    if adjusted > LEVEL or a == b or abs(b - a) < measure.least * abs(a):
        return "no difference"
    return "better" if (b > a) == measure.more_is_better else "worse"


def ratio(sums: Sequence[Sums]) -> float:
    """The figure of one side; at least one unit has something to count."""
    return sum(one.counted for one in sums) / sum(one.of for one in sums)


def chance(pairs: Sequence[Pair], rng: random.Random) -> float:
    """How probable a difference at least as great is if both sides are the same (two-sided); see the module."""
    # Swapping a unit moves what its sides differ by from one side to the other; equal ones change nothing.
    moved = [Sums(b.counted - a.counted, b.of - a.of) for a, b in pairs if a != b]
    first, second = (Sums(*map(sum, zip(*(pair[side] for pair in pairs), strict=True))) for side in (0, 1))

    def difference(swapped: Sums) -> float:
        a, b = (first.counted + swapped.counted) / (first.of + swapped.of), second.counted - swapped.counted
        return abs(b / (second.of - swapped.of) - a)

    least = difference(Sums(0.0, 0.0)) * (1 - ROUNDING)
    if len(moved) <= EXACT:
        swaps = every_sum(moved)
        return sum(difference(swap) >= least for swap in swaps) / len(swaps)
    as_great = sum(difference(drawn_sum(moved, rng)) >= least for _ in range(DRAWS))
    return (1 + as_great) / (1 + DRAWS)


def every_sum(moved: Sequence[Sums]) -> list[Sums]:
    """The sums of all subsets."""
    sums = [Sums(0.0, 0.0)]
    for one in moved:
        sums += [Sums(other.counted + one.counted, other.of + one.of) for other in sums]
    return sums


def drawn_sum(moved: Sequence[Sums], rng: random.Random) -> Sums:
    """The sum of a subset in which each is by a toss of a coin."""
    bits = rng.getrandbits(len(moved))
    drawn = list(compress(moved, (bits >> place & 1 for place in range(len(moved)))))
    return Sums(sum(one.counted for one in drawn), sum(one.of for one in drawn))


def interval(pairs: Sequence[Pair], rng: random.Random) -> tuple[float, float]:
    """95 % bootstrap interval of the second side's ratio less the first's, over units."""
    differences = []
    for _ in range(RESAMPLES):
        drawn = rng.choices(pairs, k=len(pairs))
        differences.append(ratio([b for _, b in drawn]) - ratio([a for a, _ in drawn]))
    return quantile(differences, 0.025), quantile(differences, 0.975)


def holm(chances: Sequence[float]) -> list[float]:
    """Holm's adjusted probabilities, in the order given: at most LEVEL is significant at LEVEL for all together."""
    adjusted, least = [0.0] * len(chances), 0.0
    for rank, place in enumerate(sorted(range(len(chances)), key=chances.__getitem__)):
        least = max(least, min(1.0, (len(chances) - rank) * chances[place]))
        adjusted[place] = least
    return adjusted
