"""The early exit: no canvas is denoised if proposals alone are confident enough, or hopeless."""

from __future__ import annotations

from dataclasses import replace

import torch

from midspan.engine.hypotheses.beam_search import Beam
from midspan.engine.hypotheses.hypothesis import Hypothesis, Proposals
from midspan.engine.hypotheses.signs import Signs, hypotheses_of
from midspan.engine.hypotheses.syntax import SyntaxChecker, with_syntax
from midspan.engine.hypotheses.task import Task
from midspan.engine.settings import EarlyExit, Ranking


def ends_early(task: Task) -> bool:
    """Whether proposals alone decide, if only a sure fill is wanted; `task.out` then holds the answer."""
    out, rule = task.out, task.settings.show.early_exit
    if not out.proposals.reach(task.search_floor):
        out.stopped = "empty"
        return True
    if rule is None or not task.only_sure or task.budget.candidates > 1:
        return False
    with out.timed("rank"):
        found, out.proposals = decide(out.proposals, rule, task.checker, task.budget.min_confidence)
    if found is None:
        return False
    out.ranked, out.stopped = found, "settled" if found else "empty"
    return True


def decide(
    proposals: Proposals, rule: EarlyExit, checker: SyntaxChecker, min_confidence: float
) -> tuple[list[Hypothesis] | None, Proposals]:
    """[best] if proposals alone are confident enough, [] if hopeless, None if canvases must decide.

    Also returns the proposals with the readings that this took.
    """
    ranked, read = rank_proposals(proposals, rule.ranking)
    ranked = with_syntax(ranked, checker.parses, rule.ranking.syntax, lambda order: len(order) > 1)
    confidence = ranked[0].confidence(rule.calibration) if ranked else 0.0
    if confidence < rule.reject:
        return [], read
    sure = confidence >= max(rule.accept, min_confidence)
    return ([replace(ranked[0], early_confidence=confidence)] if sure else None), read


@torch.inference_mode()
def rank_proposals(proposals: Proposals, weights: Ranking) -> tuple[list[Hypothesis], Proposals]:
    """Rank proposals by fill-in-the-middle alone, the best first; also returns the proposals with these readings.

    Features of the causal reading are zero.
    """
    gaps = [*dict.fromkeys((*proposals.beams, *proposals.similar_lines))]
    by_fim = proposals.read_all(gaps)
    signs = [Signs(gap, [], ended=True, denoised=False, by_fim=by_fim.get(gap, Beam())) for gap in gaps]
    return hypotheses_of(signs, proposals, weights), replace(proposals, readings=by_fim)
