"""Parse-guided renoising: the tokens of a fill that stand in a syntax error are denoised again, the others stay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from midspan.engine.hypotheses.canvas_layouts import CanvasLayout
from midspan.engine.hypotheses.canvases import Block
from midspan.engine.hypotheses.hypothesis import Hypothesis, Proposals
from midspan.engine.hypotheses.renoise import lay_draft
from midspan.engine.prompts.prompt import Layout, Prompt

REPAIRS = 3  # canvases
REPAIR_STEPS = 2


def repair(block: Block, ordered: list[Hypothesis]) -> list[Hypothesis]:
    """A block's hypotheses, the best first, and the repairs of that one, in their final order."""
    task, best = block.task, ordered[0]
    wrong = wrong_tokens(task.prompt, best.ids, task.layout, task.checker.errors(best.ids))
    if not any(wrong):
        return ordered
    # A similar line may be longer than the largest slot size.
    layout = CanvasLayout.of(task, block.layout, 2 * max(*task.settings.layout.slots, len(best.ids)))
    canvas = lay_draft(layout, best.ids, wrong, REPAIRS, task.prompt.banned)
    # The proposals are among `ordered` already; only their readings are needed.
    only_readings = Proposals(read=task.out.proposals.read)
    more = block.denoise(canvas, replace(task.plan, steps=REPAIR_STEPS), only_readings)
    known = {one.ids for one in ordered}
    return task.checker.order([*ordered, *(one for one in more if one.ids not in known)])


def wrong_tokens(prompt: Prompt, ids: Sequence[int], layout: Layout, spans: Sequence[tuple[int, int]]) -> list[bool]:
    """Whether each of a gap's ids writes characters in `spans` [begin, end) of the inserted text."""
    shift, wrong, written = len(layout.heal), [], 0
    for count in range(1, len(ids) + 1):
        begin, written = written, len(prompt.decode(list(ids[:count])))
        wrong.append(any(begin - shift < stop and start < written - shift for start, stop in spans))
    return wrong
