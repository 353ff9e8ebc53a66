"""Proposals for a gap: similar lines, and the beams of a left-to-right search, as the checkpoint's settings allow."""

from __future__ import annotations

import torch

from midspan.engine.hypotheses.beam_search import Beam, FillInTheMiddle, FimGap, is_below, is_settled
from midspan.engine.hypotheses.hypothesis import Gap, Proposals
from midspan.engine.hypotheses.similar_lines import similar_lines
from midspan.engine.hypotheses.task import MAX_EACH, Task


def propose(task: Task) -> Proposals:
    """Make the proposals for a task's gap; an interrupted or late search ends where it is."""
    proposals, out = Proposals(similar_lines=_similar_gaps(task)), task.out
    if task.fim is None:
        return proposals
    with out.timed("encode"):
        task.fim.encode(task.layout)
    with out.timed("denoise"):
        gap = task.fim.gap(task.layout, task.hole.kind)
        floor = task.search_floor
        nats = -torch.inf if floor is None or proposals.reach(floor) else floor.log_prob
        beams = {beam.ids: beam for beam in _search(task, task.fim, gap, nats)}
    return Proposals(similar_lines=proposals.similar_lines, beams=beams, read=gap.read)


@torch.inference_mode()
def _search(task: Task, fim: FillInTheMiddle, gap: FimGap, floor: float) -> list[Beam]:
    """The ended beams, the likeliest first.

    The search stops when the best are settled, no beam can reach `floor` nats any more, or it is interrupted or late.
    """
    ended, observer, wanted = list[Beam](), task.observer, task.budget.candidates
    width = max(task.settings.hypotheses.beams, min(MAX_EACH, wanted))
    with fim.beam_cache() as cache:
        for beams, ended in gap.steps(cache, width, max(task.slots)):
            enough = is_settled(beams, ended, min(width, wanted)) or is_below(beams, ended, floor)
            if enough or observer.interrupted() or observer.late():
                break
    return ended


def _similar_gaps(task: Task) -> dict[Gap, float]:
    """Gap ids and evidence of the similar lines that token healing allows."""
    count, heal, prompt = task.settings.hypotheses.similar_lines, task.layout.heal, task.prompt
    if not count:
        return {}
    allowed = prompt.allowed_first(heal)
    longest, out = task.backend.canvas_length // 2, dict[Gap, float]()
    for line in similar_lines(task.hole, count):
        gap = tuple(prompt.encode(heal + line.text))
        if len(gap) <= longest and (allowed is None or bool(allowed[gap[0]])):
            out[gap] = line.evidence
    return out
