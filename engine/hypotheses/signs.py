"""What a gap's readings say: a hypothesis with its features, scored by a weighted sum of them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from midspan.engine.hypotheses.beam_search import Beam
from midspan.engine.hypotheses.hypothesis import Gap, Hypothesis, Proposals
from midspan.engine.settings import FEATURES, Ranking


@dataclass(frozen=True, slots=True)
class Signs:
    """A gap's readings: causal log-probabilities `values` of its ids and the suffix's head, and one by FIM.

    `denoised` says that a canvas produced it, `ended` that the gap ends behind it.
    """

    gap: Gap
    values: list[float]
    ended: bool
    denoised: bool
    by_fim: Beam


def hypotheses_of(signs: list[Signs], proposals: Proposals, weights: Ranking) -> list[Hypothesis]:
    """The hypotheses of some gaps by their signs, the best first; `weights` say what each sign is worth."""
    found = [_hypothesis(one, proposals, weights) for one in signs]
    return sorted(found, key=lambda one: one.score, reverse=True)


def _hypothesis(one: Signs, proposals: Proposals, weights: Ranking) -> Hypothesis:
    """A hypothesis with its features; margin and parses are set later (syntax.py)."""
    own, suffix, by_fim = one.values[: len(one.gap)], one.values[len(one.gap) :], one.by_fim
    root = 0.0 if by_fim.end is None else math.exp(by_fim.log_probability / 2)
    evidence = proposals.similar_lines.get(one.gap, 0.0)
    fim = (sum(by_fim.values), min(by_fim.values, default=0.0), by_fim.end or 0.0, root, evidence * root)
    who, beam = (float(one.denoised), evidence), float(one.gap in proposals.beams)
    features = (*_summary(own), *_summary(suffix)[:2], *who, *fim, beam, 0.0, 1.0)
    known = dict(zip(FEATURES, features, strict=True)) | {"suffix_sum": sum(suffix)}
    return Hypothesis(
        ids=one.gap,
        log_probability=sum(one.values),
        score=weights.score(known),
        features=features,
        ended=one.ended,
    )


def _summary(values: list[float]) -> tuple[float, float, float]:
    """Mean, minimum and sum; zeros for nothing."""
    return (sum(values) / len(values), min(values), sum(values)) if values else (0.0, 0.0, 0.0)
