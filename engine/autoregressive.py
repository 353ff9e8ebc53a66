"""The autoregressive twin of infill.py: one hole filled from left to right, for a checkpoint of layout `fim`.

Same network, read causally only (beam_search.py). The search keeps as many beams as a canvas checkpoint denoises.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from midspan.engine.api import Budget, ContextBudget, Hole, Judge
from midspan.engine.backends.backend import Backend
from midspan.engine.hypotheses.beam_search import Beam, FillInTheMiddle, is_settled
from midspan.engine.hypotheses.frames import beam_frame
from midspan.engine.hypotheses.hypothesis import Hypothesis
from midspan.engine.hypotheses.syntax import SyntaxChecker
from midspan.engine.hypotheses.task import MAX_EACH, FillObserver, Infilling
from midspan.engine.prefix_cache import PrefixCache
from midspan.engine.prompts.prompt import Layout, Prompt
from midspan.engine.settings import FEATURES, CheckpointSettings

# A gap of many lines may grow to so many times the longest gap that was trained on.
LONGEST_SPAN = 4


class Autoregressive:
    """A backend, its prompt rules and its prefix cache, as Infiller; not for two threads at once."""

    def __init__(self, backend: Backend, prompt: Prompt, settings: CheckpointSettings) -> None:
        self.backend, self.prompt, self.settings = backend, prompt, settings
        self.fim = FillInTheMiddle(backend, prompt)
        self.judge: Judge | None = None
        self.context_budget: ContextBudget | None = None

    @property
    def prefix(self) -> PrefixCache:
        """The cache kept between fills."""
        return self.fim.prefix

    def reset(self) -> None:
        """Release all memory but the weights', as after a failure in the middle of a fill."""
        self.fim.reset()
        self.backend.release()

    def confidence(self, hypothesis: Hypothesis, layout: Layout) -> float:
        """The share of such fills that are right."""
        return hypothesis.confidence(self.settings.show.calibration)

    @torch.inference_mode()
    def infill(self, hole: Hole, budget: Budget, observer: FillObserver) -> Infilling:
        """Fill a hole; `budget.steps` counts denoise steps and means nothing here, a token is a step.

        Raises ValueError for a hole that keeps its draft: what is written from left to right has nothing to renoise.
        """
        if hole.keeps_draft:
            raise ValueError("a checkpoint of layout fim rewrites no part of a draft; leave the strength out")
        search = _GapSearch(self, hole, budget, observer)
        if observer.interrupted():
            search.out.stopped = "cancelled"
        else:
            search.run()
        return search.out


class _GapSearch:
    """The state of one fill: the search for one hole's beams, and its results so far."""

    def __init__(self, twin: Autoregressive, hole: Hole, budget: Budget, observer: FillObserver) -> None:
        self._twin, self._hole, self._budget, self._observer = twin, hole, budget, observer
        self._many_lines = hole.kind in twin.prompt.many_lines
        self.out = Infilling(layout=twin.prompt.lay_out(hole))

    def run(self) -> None:
        """Search, then order the beams with their syntax."""
        twin, out, wanted = self._twin, self.out, self._budget.candidates
        with out.timed("encode"):
            twin.prefix.encode(twin.prompt.fim_ids(out.layout))
        with out.timed("denoise"):
            found = [_hypothesis(beam) for beam in self._beams()]
            penalty = twin.settings.hypotheses.ranking.syntax
            checker = SyntaxChecker(twin.judge, self._hole, twin.prompt, out.layout, penalty, wanted)
            out.ranked = checker.order(found)

    def _beams(self) -> Sequence[Beam]:
        """Ended beams, the likeliest first; stops when the best are settled, the gap is too long or time is up."""
        twin, out, settings, wanted = self._twin, self.out, self._twin.settings, self._budget.candidates
        width = max(settings.denoise.draws * len(settings.layout.slots), min(MAX_EACH, wanted))
        limit = max(settings.layout.slots) * (LONGEST_SPAN if self._many_lines else 1)
        gap, ended = twin.fim.gap(out.layout, self._hole.kind), list[Beam]()
        with twin.fim.beam_cache() as cache:
            for beams, ended in gap.steps(cache, width, limit):
                out.steps += 1
                done = is_settled(beams, ended, min(width, wanted))
                if self._observer.on_frame is not None:
                    best = next(iter((*ended[:done], *beams, *ended)), Beam())
                    self._observer.on_frame(beam_frame(twin.prompt, out, best, limit, settled=done))
                if self._observer.interrupted():
                    out.stopped = "cancelled"
                    return []
                if done or self._observer.late():
                    out.stopped = "settled" if done else "deadline"
                    break
        return ended


def _hypothesis(beam: Beam) -> Hypothesis:
    """A beam as a hypothesis; its end takes the place of a canvas checkpoint's suffix features."""
    values, end = beam.values, beam.end or 0.0
    known = {
        "gap_mean": sum(values) / len(values),
        "gap_min": min(values),
        "gap_sum": sum(values),
        "suffix_mean": end,
        "suffix_min": end,
    }
    features = tuple(known.get(name, 0.0) for name in FEATURES)
    likelihood = beam.log_probability
    return Hypothesis(ids=beam.ids, log_probability=likelihood, score=likelihood, features=features, ended=True)
