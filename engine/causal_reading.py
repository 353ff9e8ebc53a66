"""A canvas checkpoint read from left to right: the same weights and the same proposals, but no canvas is denoised.

Beams of fill-in-the-middle and similar lines, ordered and made sure of as the early exit does where the checkpoint has
one. It shares its network, its tokenizer and its caches with the Infiller that it is made of, and so its thread.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from midspan.engine.api import Budget, CheckpointError, ContextBudget, Hole, Judge
from midspan.engine.backends.backend import Backend
from midspan.engine.hypotheses.beam_search import Beam, is_below, is_settled
from midspan.engine.hypotheses.early_exit import rank_proposals
from midspan.engine.hypotheses.frames import beam_frame
from midspan.engine.hypotheses.hypothesis import Hypothesis, Proposals
from midspan.engine.hypotheses.similar_lines import similar_gaps
from midspan.engine.hypotheses.task import MAX_EACH, FillObserver, Infilling, Task
from midspan.engine.infill import Infiller
from midspan.engine.prefix_cache import PrefixCache
from midspan.engine.prompts.prompt import Layout, Prompt
from midspan.engine.settings import CheckpointSettings

# A gap of many lines may grow to so many times the longest block.
LONGEST_SPAN = 4
NOT_TAUGHT = "has no `beams` in its midspan.json: it was not taught to write from left to right; take diffusion"
NO_STRENGTH = "what is written from left to right rewrites no part of a draft; leave the strength out"


class CausalReading:
    """See fill_path.FillPath; not for two threads at once, nor beside its Infiller on another."""

    def __init__(self, infiller: Infiller, name: str) -> None:
        """Raises CheckpointError for a checkpoint that was not taught to be read so."""
        if not infiller.settings.hypotheses.beams:
            raise CheckpointError(f"{name}: {NOT_TAUGHT}")
        self._infiller = infiller

    @property
    def judge(self) -> Judge | None:
        """Checks the syntax of fills: the Infiller's."""
        return self._infiller.judge

    @judge.setter
    def judge(self, judge: Judge | None) -> None:
        self._infiller.judge = judge

    @property
    def backend(self) -> Backend:
        """The network."""
        return self._infiller.backend

    @property
    def prompt(self) -> Prompt:
        """The tokenizer."""
        return self._infiller.prompt

    @property
    def settings(self) -> CheckpointSettings:
        """The checkpoint's settings."""
        return self._infiller.settings

    @property
    def context_budget(self) -> ContextBudget | None:
        """How much text from elsewhere there is time for: the Infiller's."""
        return self._infiller.context_budget

    @property
    def prefix(self) -> PrefixCache:
        """The cache kept between fills."""
        return self._infiller.fim.prefix

    def reset(self) -> None:
        """Release all memory but the weights'."""
        self._infiller.reset()

    def confidence(self, hypothesis: Hypothesis, layout: Layout) -> float:
        """The share of such fills that are right."""
        rule = self.settings.show.early_exit
        return hypothesis.confidence(self.settings.show.calibration if rule is None else rule.calibration)

    @torch.inference_mode()
    def infill(self, hole: Hole, budget: Budget, observer: FillObserver) -> Infilling:
        """Fill a hole; a token is a step. Raises ValueError for a hole that keeps its draft."""
        if hole.keeps_draft:
            raise ValueError(NO_STRENGTH)
        task = Task.begin(self._infiller, hole, budget, observer)
        out, rule = task.out, self.settings.show.early_exit
        out.proposals = _propose(task)
        if out.stopped == "cancelled":
            return out
        if not out.proposals.reach(task.search_floor):
            out.stopped = "empty"
            return out
        weights = self.settings.hypotheses.ranking if rule is None else rule.ranking
        with out.timed("rank"):
            ranked, out.proposals = rank_proposals(out.proposals, weights)
            checker = replace(task.checker, penalty=weights.syntax)
            out.ranked = checker.order(ranked)
        return out


def _propose(task: Task) -> Proposals:
    """Similar lines, and the beams of a search that ends when the best are settled, or hopeless, or time is up."""
    fim, layout, out, observer = task.fim, task.layout, task.out, task.observer
    assert fim is not None
    wanted, limit = task.budget.candidates, max(task.slots) * (LONGEST_SPAN if task.many_lines else 1)
    lines = similar_gaps(task.hole, task.settings.hypotheses.similar_lines, task.prompt, layout.heal, limit)
    found, ended = Proposals(similar_lines=lines), list[Beam]()
    with out.timed("encode"):
        fim.prefix.encode(task.prompt.fim_ids(layout))
    floor = task.search_floor
    nats = -torch.inf if floor is None or found.reach(floor) else floor.log_prob
    gap, width = fim.gap(layout, task.hole.kind), max(task.settings.hypotheses.beams, min(MAX_EACH, wanted))
    with out.timed("denoise"), fim.beam_cache() as cache:
        for beams, ended in gap.steps(cache, width, limit):
            out.steps += 1
            done = is_settled(beams, ended, min(width, wanted))
            if observer.on_frame is not None:
                best = next(iter((*ended[:done], *beams, *ended)), Beam())
                observer.on_frame(beam_frame(task.prompt, out, best, limit, settled=done))
            if observer.interrupted():
                out.stopped = "cancelled"
                return found
            if done or is_below(beams, ended, nats) or observer.late():
                out.stopped = "deadline" if observer.late() and not done else "settled"
                break
    return Proposals(similar_lines=lines, beams={beam.ids: beam for beam in ended}, read=gap.read)
