"""Hypotheses read causally together with the suffix's head, and ranked by what all their readings say."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from midspan.engine.canvas import Canvas
from midspan.engine.hypotheses.beam_search import LOWEST, Beam
from midspan.engine.hypotheses.hypothesis import Gap, Hypothesis, Proposals
from midspan.engine.hypotheses.signs import Signs, hypotheses_of
from midspan.engine.prefix_cache import PrefixCache
from midspan.engine.prompts.prompt import Layout, Prompt
from midspan.engine.settings import Ranking

SUFFIX_HEAD = 6


class Ranker:
    """Ranks hypotheses of a gap behind an encoded prefix, by the weights of `Ranking`."""

    def __init__(self, prefix: PrefixCache, prompt: Prompt, layout: Layout, weights: Ranking) -> None:
        self._prefix, self._prompt, self._layout, self._weights = prefix, prompt, layout, weights

    @torch.inference_mode()
    def rank(self, drafts: torch.Tensor, canvas: Canvas, proposals: Proposals) -> list[Hypothesis]:
        """Distinct hypotheses, from finished drafts [B, C] and from proposals, the best first."""
        gaps: dict[Gap, bool] = {}
        for row, size in enumerate(canvas.gap_sizes):
            slots = drafts[row, :size].tolist()
            gap = tuple(self._prompt.gap_ids(slots))
            gaps[gap] = gaps.get(gap, False) or len(gap) < len(slots)
        return self.rank_gaps(gaps, canvas.allowed_first, proposals)

    @torch.inference_mode()
    def rank_gaps(
        self, denoised: Mapping[Gap, bool], allowed_first: torch.Tensor | None, proposals: Proposals
    ) -> list[Hypothesis]:
        """The same of gaps that canvases came to, each with whether it ends there.

        Each is read causally as gap + the first SUFFIX_HEAD suffix ids, so that gaps of different length compete on the
        joint probability with the same text after them.
        """
        head = self._layout.suffix[:SUFFIX_HEAD]
        gaps = dict(denoised)
        gaps |= dict.fromkeys([*proposals.similar_lines, *proposals.beams], True)
        if not head:
            gaps.pop((), None)
        if not gaps:
            return []
        read = self._log_probabilities([[*gap, *head] for gap in gaps], allowed_first)
        by_fim = proposals.read_all(list(gaps))
        signs = [
            Signs(gap, values, ended, gap in denoised, by_fim.get(gap, Beam()))
            for values, (gap, ended) in zip(read, gaps.items(), strict=True)
        ]
        return hypotheses_of(signs, proposals, self._weights)

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
