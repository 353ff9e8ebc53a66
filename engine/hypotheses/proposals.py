"""Proposals for a gap: similar lines, and the beams of a left-to-right search, as the checkpoint's settings allow."""

from __future__ import annotations

import torch

from midspan.engine.hypotheses.beam_search import Beam, is_below, is_settled
from midspan.engine.hypotheses.hypothesis import Proposals
from midspan.engine.hypotheses.similar_lines import similar_gaps
from midspan.engine.hypotheses.task import MAX_EACH, Task


def propose(task: Task) -> Proposals:
    """Make the proposals for a task's gap.

    The search stops when its best beams are settled, none can reach the search floor any more, or it is interrupted or
    late.
    """
    fim, layout, out, observer = task.fim, task.layout, task.out, task.observer
    count, wanted = task.settings.hypotheses.similar_lines, task.budget.candidates
    lines = similar_gaps(task.hole, count, task.prompt, layout.heal, task.backend.canvas_length // 2)
    found, ended = Proposals(similar_lines=lines), list[Beam]()
    if fim is None:
        return found
    with out.timed("encode"):
        fim.prefix.encode(task.prompt.fim_ids(layout))
    with out.timed("denoise"):
        gap, width = fim.gap(layout, task.hole.kind), max(task.settings.hypotheses.beams, min(MAX_EACH, wanted))
        floor = task.search_floor
        nats = -torch.inf if floor is None or found.reach(floor) else floor.log_prob
        with torch.inference_mode(), fim.beam_cache() as cache:
            for beams, ended in gap.steps(cache, width, max(task.slots)):
                enough = is_settled(beams, ended, min(width, wanted)) or is_below(beams, ended, nats)
                if enough or observer.interrupted() or observer.late():
                    break
    return Proposals(similar_lines=lines, beams={beam.ids: beam for beam in ended}, read=gap.read)
