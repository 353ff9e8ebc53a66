"""Fill one hole from left to right with a causal network, between its tokenizer's marks of fill-in-the-middle.

The likeliest text comes first, beside a few others where several are wanted, and beside similar lines; all are ordered
by the network's own log-probability, and those that break the syntax come last. See autoregressive.py for the twin of
the canvas network, which has a canvas checkpoint's settings.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from midspan.engine.api import Budget, ContextBudget, Hole, Judge
from midspan.engine.backends.backend import Backend, Interrupted
from midspan.engine.hypotheses.beam_search import Beam, FillInTheMiddle, FimGap, SearchCache, is_settled
from midspan.engine.hypotheses.drafts import DraftCounts, DraftedCache, Drafts, LastFill
from midspan.engine.hypotheses.frames import beam_frame
from midspan.engine.hypotheses.hypothesis import Hypothesis
from midspan.engine.hypotheses.similar_lines import similar_gaps
from midspan.engine.hypotheses.syntax import SyntaxChecker
from midspan.engine.hypotheses.task import MAX_EACH, FillObserver, Infilling
from midspan.engine.marks_settings import MarksSettings
from midspan.engine.prefix_cache import PrefixCache
from midspan.engine.prompts.marks import MarksPrompt
from midspan.engine.prompts.prompt import Layout
from midspan.engine.settings import FEATURES

log = logging.getLogger(__name__)

# Between two chunks of a prompt a fill that nobody waits for any more is given up.
CHUNK_TOKENS = 40
# So many similar lines are drafts of a greedy search.
DRAFT_LINES = 3


class LeftToRight:
    """A backend, its prompt rules and its prompt's cache; not for two threads at once."""

    def __init__(self, backend: Backend, prompt: MarksPrompt, settings: MarksSettings) -> None:
        self.backend, self.prompt, self.settings = backend, prompt, settings
        self.fim = FillInTheMiddle(backend, prompt, CHUNK_TOKENS)
        self.judge: Judge | None = None
        self.context_budget: ContextBudget | None = None
        self._context_tokens = settings.layout.context_tokens
        self.last: LastFill | None = None
        self.drafts = DraftCounts()

    @property
    def prefix(self) -> PrefixCache:
        """The cache of the prompt, kept between fills."""
        return self.fim.prefix

    def reset(self) -> None:
        """Release all memory but the weights', as after a failure in the middle of a fill."""
        self.last = None
        self.fim.reset()
        self.backend.release()

    @torch.inference_mode()
    def infill(self, hole: Hole, budget: Budget, observer: FillObserver) -> Infilling:
        """Fill a hole; `budget.steps` means nothing here, a token is a step.

        Raises ValueError for a hole that keeps its draft: what is written from left to right has nothing to renoise.
        """
        if hole.keeps_draft:
            raise ValueError("a checkpoint of layout marks rewrites no part of a draft; leave the strength out")
        self.backend.watch(observer.interrupted)
        fill = _Fill(self, hole, budget, observer)
        if not observer.interrupted():
            with fill.out.timed("encode"):
                self.prefix.encode(self.prompt.fim_ids(fill.out.layout), observer.interrupted)
        try:
            if observer.interrupted():
                raise Interrupted
            fill.run()
        except Interrupted:
            fill.out.stopped = "cancelled"
        return fill.out

    def lay_out(self, hole: Hole, deadline_s: float | None) -> Layout:
        """The hole in tokens, with as much text from elsewhere as there is time for."""
        budget = self.context_budget
        tokens = self.settings.layout.context_tokens if budget is None else budget.within(deadline_s)
        if tokens != self._context_tokens:
            log.info("text from elsewhere: at most %d tokens in a prompt now", tokens)
            self._context_tokens = tokens
        return self.prompt.lay_out(hole, tokens)

    def confidence(self, hypothesis: Hypothesis, layout: Layout) -> float:
        """The share of such fills that are right."""
        length, line = len(hypothesis.ids) + 1, layout.whole_line
        likelihood, error = hypothesis.log_probability, not hypothesis.parses
        return self.settings.calibration.share(likelihood, length, line=line, error=error)


class _Fill:
    """The state of one fill."""

    def __init__(self, path: LeftToRight, hole: Hole, budget: Budget, observer: FillObserver) -> None:
        self._path, self._hole, self._budget, self._observer = path, hole, budget, observer
        self.out = Infilling(layout=path.lay_out(hole, budget.deadline_s))
        layout = path.settings.layout
        self._limit = layout.span_tokens if hole.kind in path.prompt.many_lines else layout.line_tokens

    def run(self) -> None:
        """Search behind the prompt that is cached, then order what was found."""
        path, out, writing = self._path, self.out, self._path.settings.hypotheses
        gap = path.fim.gap(out.layout, self._hole.kind)
        with out.timed("denoise"):
            beams = self._beams(gap)
        if out.stopped in ("cancelled", "empty"):
            return
        with out.timed("rank"):
            found = {beam.ids: _hypothesis(beam, 0.0) for beam in beams}
            found |= {one.ids: one for one in self._similar(gap)}
            wanted = self._budget.candidates
            checker = SyntaxChecker(path.judge, self._hole, path.prompt, out.layout, writing.syntax, wanted)
            out.ranked = checker.order(list(found.values()))

    def _beams(self, gap: FimGap) -> list[Beam]:
        """Ended beams, the likeliest first; stops when the best are settled or hopeless, or time is up."""
        out, wanted, observer = self.out, self._budget.candidates, self._observer
        writing, ended = self._path.settings.hypotheses, list[Beam]()
        width = writing.beams_alone if wanted == 1 else max(writing.beams, min(MAX_EACH, wanted))
        with self._cache(gap, width) as cache:
            for beams, ended in gap.steps(cache, width, self._limit):
                out.steps += 1
                done = is_settled(beams, ended, min(width, wanted))
                if observer.on_frame is not None:
                    best = next(iter((*ended[:done], *beams, *ended)), Beam())
                    observer.on_frame(beam_frame(self._path.prompt, out, best, self._limit, settled=done))
                if observer.interrupted():
                    out.stopped = "cancelled"
                elif self._is_hopeless(beams, ended):
                    out.stopped = "empty"
                elif done or observer.late():
                    out.stopped = "settled" if done else "deadline"
                else:
                    continue
                break
        return ended

    @contextmanager
    def _cache(self, gap: FimGap, width: int) -> Iterator[SearchCache]:
        """The cache of the beams; a greedy search has drafts, and what it wrote is the next one's."""
        path, prompt, layout = self._path, self._path.prompt, self.out.layout
        if width > 1:
            with path.fim.beam_cache() as beams:
                yield beams
            return
        rest = path.last.rest(self._hole) if path.last else ""
        left = [tuple(prompt.encode(layout.heal + rest))] if rest else []
        similar = similar_gaps(self._hole, DRAFT_LINES, prompt, layout.heal, self._limit)
        drafts = Drafts(layout.prefix, [*left, *similar], gap.ends)
        with DraftedCache(path.backend, path.prefix.memory, drafts, path.drafts) as drafted:
            try:
                yield drafted
            finally:
                path.last = LastFill(hole=self._hole, text=prompt.text(list(drafted.written), layout))

    def _is_hopeless(self, beams: list[Beam], ended: list[Beam]) -> bool:
        """Whether only a sure fill is wanted, and none can come of these."""
        settings, asked = self._path.settings, self._budget.min_confidence
        if asked < settings.show_threshold or settings.hypotheses.similar_lines:
            return False
        sure, line, most = settings.calibration, self.out.layout.whole_line, self._limit + 1
        known = (sure.share(beam.log_probability, len(beam.ids) + 1, line=line) for beam in ended)
        later = (sure.reach(beam.log_probability, len(beam.ids) + 1, most, line=line) for beam in beams)
        return max((*known, *later), default=0.0) < asked

    def _similar(self, gap: FimGap) -> Iterator[Hypothesis]:
        """Similar lines that token healing allows, as likely as the network finds them, with their evidence."""
        writing, prompt, heal = self._path.settings.hypotheses, self._path.prompt, self.out.layout.heal
        evidence = similar_gaps(self._hole, writing.similar_lines, prompt, heal, self._limit)
        for beam in gap.read(list(evidence)):
            yield _hypothesis(beam, writing.evidence * evidence[beam.ids])


def _hypothesis(beam: Beam, bonus: float) -> Hypothesis:
    """A beam as a hypothesis, which is ordered by its log-probability and a bonus in nats."""
    likelihood = beam.log_probability
    known = {"gap_mean": sum(beam.values) / len(beam.values), "gap_sum": sum(beam.values), "end": beam.end or 0.0}
    features = tuple(known.get(name, 0.0) for name in FEATURES)
    return Hypothesis(ids=beam.ids, log_probability=likelihood, score=likelihood + bonus, features=features, ended=True)
