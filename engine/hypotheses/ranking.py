"""Hypotheses read causally together with the suffix's head, and ranked by a weighted sum of their features."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch

from midspan.engine.canvas import Canvas
from midspan.engine.hypotheses.beam_search import LOWEST, Beam
from midspan.engine.hypotheses.hypothesis import Gap, Hypothesis, Proposals
from midspan.engine.prefix_cache import PrefixCache
from midspan.engine.prompts.prompt import Layout, Prompt
from midspan.engine.settings import FEATURES, Ranking

SUFFIX_HEAD = 6


class Ranker:
    """Ranks hypotheses of a gap behind an encoded prefix, by the weights of `Ranking`."""

    def __init__(self, prefix: PrefixCache, prompt: Prompt, layout: Layout, weights: Ranking) -> None:
        self._prefix, self._prompt, self._layout, self._weights = prefix, prompt, layout, weights

    @torch.inference_mode()
    def rank(self, drafts: torch.Tensor, canvas: Canvas, proposals: Proposals) -> list[Hypothesis]:
        """Distinct hypotheses, from finished drafts [B, C] and from proposals, the best first.

        Each is read causally as gap + the first SUFFIX_HEAD suffix ids, so that gaps of different length compete on the
        joint probability with the same text after them.
        """
        head = self._layout.suffix[:SUFFIX_HEAD]
        gaps: dict[Gap, bool] = {}
        for row, size in enumerate(canvas.gap_sizes):
            slots = drafts[row, :size].tolist()
            gap = tuple(self._prompt.gap_ids(slots))
            gaps[gap] = gaps.get(gap, False) or len(gap) < len(slots)
        denoised = set(gaps)
        gaps |= dict.fromkeys([*proposals.similar_lines, *proposals.beams], True)
        if not head:
            gaps.pop((), None)
        if not gaps:
            return []
        read = self._log_probabilities([[*gap, *head] for gap in gaps], canvas.allowed_first)
        by_fim = proposals.read_all(list(gaps))
        signs = [
            _Signs(gap, values, ended, gap in denoised, by_fim.get(gap, Beam()))
            for values, (gap, ended) in zip(read, gaps.items(), strict=True)
        ]
        return _ranked(signs, proposals, self._weights)

    def _log_probabilities(self, texts: list[list[int]], allowed_first: torch.Tensor | None) -> list[list[float]]:
        """Log-probability of every id of each text, given the prefix and the ids before it, in nats.

        That of the first id is renormalised over the tokens that token healing allows. No logits are computed for
        padding.
        """
        backend = self._prefix.backend
        first = backend.logits(self._prefix.last_hidden)
        if allowed_first is not None:
            first = first.masked_fill(~allowed_first, -torch.inf)
        # An empty gap begins with a suffix id that healing may forbid: a very unlikely fill, not an impossible one.
        begins = first.log_softmax(dim=-1)[[text[0] for text in texts]].clamp(min=LOWEST).tolist()
        wanted = [token for text in texts for token in text[1:]]
        if not wanted:
            return [[value] for value in begins]
        hidden, rows = backend.score([text[:-1] for text in texts], self._prefix.memory)
        ids = torch.tensor(wanted, device=backend.device)
        values = backend.log_probabilities(hidden, rows, ids).clamp(min=LOWEST)
        rest = values.split([len(text) - 1 for text in texts])
        return [[begin, *values.tolist()] for begin, values in zip(begins, rest, strict=True)]


@torch.inference_mode()
def rank_proposals(proposals: Proposals, weights: Ranking) -> tuple[list[Hypothesis], Proposals]:
    """Rank proposals by fill-in-the-middle alone, the best first; also returns the proposals with these readings.

    Features of the causal reading are zero.
    """
    gaps = [*dict.fromkeys((*proposals.beams, *proposals.similar_lines))]
    by_fim = proposals.read_all(gaps)
    signs = [_Signs(gap, [], ended=True, denoised=False, by_fim=by_fim.get(gap, Beam())) for gap in gaps]
    return _ranked(signs, proposals, weights), replace(proposals, readings=by_fim)


@dataclass(frozen=True, slots=True)
class _Signs:
    """A gap's readings: causal log-probabilities `values` of its ids and the suffix's head, and one by FIM.

    `denoised` says that a canvas produced it, `ended` that the gap ends behind it.
    """

    gap: Gap
    values: list[float]
    ended: bool
    denoised: bool
    by_fim: Beam


def _ranked(signs: list[_Signs], proposals: Proposals, weights: Ranking) -> list[Hypothesis]:
    """Hypotheses of these signs, the best first."""
    found = [_hypothesis(one, proposals, weights) for one in signs]
    return sorted(found, key=lambda one: one.score, reverse=True)


def _hypothesis(one: _Signs, proposals: Proposals, weights: Ranking) -> Hypothesis:
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
