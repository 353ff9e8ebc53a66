"""Repairs: the tokens of a fill that are wrong are denoised again, the others stay.

Of a fill of this engine's own the judge says which are wrong (parse-guided renoising); of a draft the hole does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from midspan.engine.hypotheses.canvas_layouts import CanvasLayout
from midspan.engine.hypotheses.canvases import Block
from midspan.engine.hypotheses.hypothesis import Gap, Hypothesis, Proposals
from midspan.engine.hypotheses.proposals import propose
from midspan.engine.hypotheses.ranking import Ranker
from midspan.engine.hypotheses.renoise import healed_ids, lay_draft
from midspan.engine.hypotheses.task import Task
from midspan.engine.prompts.prompt import Layout, Prompt

REPAIRS = 3  # canvases
REPAIR_STEPS = 2
# Of a draft: the wrong runs that are repaired, and by how much a repair's length in tokens may differ.
RUNS, LONGER = 3, (-1, 0, 1, 2)


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


def repair_draft(task: Task) -> None:
    """Renoise the tokens of the hole's draft that write what the hole says is wrong; every other token stays.

    What comes of that is ranked together with the gap's proposals; the draft itself takes no part. If the time runs out
    before the last wrong run, nothing is ranked.
    """
    out, hole, laid = task.out, task.hole, task.layout
    ids = task.prompt.encode(laid.heal + hole.draft.removesuffix(laid.append))
    wrong = wrong_tokens(task.prompt, ids, laid, hole.wrong)
    kept = healed_ids(task.prompt, ids, len(laid.heal))
    runs = list(_runs([False] * kept + wrong[kept:]))[:RUNS]
    out.proposals = propose(task)
    gaps, longer = [tuple(ids)], 0
    for number, (begin, end) in enumerate(runs):
        whole, span = gaps[0], (begin + longer, end + longer)
        found = _denoised(task, whole, span, number)
        unfinished = out.stopped == "deadline" and number < len(runs) - 1
        if out.stopped == "cancelled" or unfinished or not found:
            return
        gaps = [(*whole[: span[0]], *one, *whole[span[1] :]) for one in found]
        longer += len(found[0]) - (end - begin)
    ranked = _ranked(task, gaps)
    out.ranked = task.checker.order([one for one in ranked if task.checker.text(one.ids) != hole.draft])


def _runs(wrong: Sequence[bool]) -> Iterator[tuple[int, int]]:
    """Spans [begin, end) of wrong tokens side by side."""
    begin = None
    for at, is_wrong in enumerate([*wrong, False]):
        if is_wrong and begin is None:
            begin = at
        elif not is_wrong and begin is not None:
            yield begin, at
            begin = None


def _denoised(task: Task, whole: Gap, span: tuple[int, int], number: int) -> list[Gap]:
    """What may stand in place of a span of a gap's ids, the likeliest first; [] after a cancel."""
    begin, end = span
    laid, longest = task.layout, task.backend.canvas_length
    prefix, suffix = [*laid.prefix, *whole[:begin]], [*whole[end:], *laid.suffix]
    layout = replace(laid, prefix=prefix, suffix=suffix, heal="" if begin else laid.heal)
    slots = tuple(sorted({min(longest, max(1, end - begin + more)) for more in LONGER}))
    canvas = CanvasLayout.of(task, layout, 2 * slots[-1]).lay_canvases(slots, max(1, task.settings.denoise.draws))
    ranked = Block(task, layout, task.rng(number)).denoise(canvas, task.plan, Proposals())
    return [one.ids for one in ranked if one.ids != whole[begin:end]]


def _ranked(task: Task, gaps: list[Gap]) -> list[Hypothesis]:
    """Whole gaps, read behind the hole's own prefix, and the proposals; the best first."""
    out, layout = task.out, task.layout
    with out.timed("encode"):
        task.prefix.encode(layout.prefix)
    with out.timed("rank"):
        ranker = Ranker(task.prefix, task.prompt, layout, task.settings.hypotheses.ranking)
        first = CanvasLayout.of(task, layout, 1).allowed_first()
        return ranker.rank_gaps(dict.fromkeys(gaps, True), first, out.proposals)


def wrong_tokens(prompt: Prompt, ids: Sequence[int], layout: Layout, spans: Sequence[tuple[int, int]]) -> list[bool]:
    """Whether each of a gap's ids writes characters in `spans` [begin, end) of the inserted text."""
    shift, wrong, written = len(layout.heal), [], 0
    for count in range(1, len(ids) + 1):
        begin, written = written, len(prompt.decode(list(ids[:count])))
        wrong.append(any(begin - shift < stop and start < written - shift for start, stop in spans))
    return wrong
