"""Fill a gap with canvases: within a line by one block of them, of many lines by several blocks, one behind another."""

from __future__ import annotations

from dataclasses import replace

from midspan.engine.hypotheses.canvas_layouts import CanvasLayout
from midspan.engine.hypotheses.canvases import Block
from midspan.engine.hypotheses.hypothesis import Hypothesis, Proposals
from midspan.engine.hypotheses.lengths import canvas_width, fitting, likely_lengths, near_lengths, read_lengths
from midspan.engine.hypotheses.repair import repair
from midspan.engine.hypotheses.task import MAX_EACH, Task

MAX_BLOCKS = 4


def fill_line(task: Task) -> None:
    """Fill a gap within a line by one block; if no hypothesis parses, repair the best."""
    out, observer = task.out, task.observer
    if observer.interrupted():
        out.stopped = "cancelled"
        return
    block = Block(task, task.layout, task.rng(0))
    ranked = task.checker.order(_fill(block))
    # A repaired fill is never confident enough where only a sure one is wanted.
    good_enough = not ranked or ranked[0].parses or task.search_floor is not None
    if not (good_enough or out.stopped == "deadline" or observer.late()):
        ranked = repair(block, ranked)
    if out.stopped != "cancelled":
        out.ranked = ranked


def fill_blocks(task: Task) -> None:
    """Fill a gap of many lines block by block, until a block ends the gap."""
    out, layout = task.out, task.layout
    for number in range(MAX_BLOCKS if task.settings.layout.kind != "clamped" else 1):
        if task.observer.interrupted():
            out.stopped = "cancelled"
            return
        ranked = _fill(Block(task, layout, task.rng(number)))
        if out.stopped == "cancelled":
            return
        # Behind the best of the blocks before it.
        out.ranked = [out.ranked[0].followed_by(one) for one in ranked] if out.ranked else ranked
        if not ranked or ranked[0].ended or out.stopped == "deadline":
            break
        # Proposals are for the whole gap.
        out.proposals = Proposals()
        layout = replace(layout, prefix=[*layout.prefix, *ranked[0].ids], heal="")
    out.ranked = task.checker.order(out.ranked)


def _fill(block: Block) -> list[Hypothesis]:
    """Denoise canvases of the gap lengths that are tried, and rank what they come to and the proposals.

    The best comes first; [] after a cancel.
    """
    task, settings, wanted = block.task, block.task.settings, block.task.budget.candidates
    proposals, longest = task.out.proposals, task.backend.canvas_length
    slots = fitting(settings, task.slots, longest)
    if wanted == 1 and not task.many_lines:
        slots = near_lengths(slots, proposals.lengths, settings.hypotheses.length_slack)
    layout = CanvasLayout.of(task, block.layout, canvas_width(settings, slots, longest))
    if settings.layout.kind == "clamped":
        slots = _likely_lengths(block, layout, slots)
    each = max(settings.denoise.draws, min(MAX_EACH, -(-wanted // len(slots))))
    return block.denoise(layout.lay_canvases(slots, each), task.plan, proposals)


def _likely_lengths(block: Block, layout: CanvasLayout, slots: tuple[int, ...]) -> tuple[int, ...]:
    """The likeliest gap lengths; reading them counts as a step."""
    task, settings = block.task, block.task.settings
    with task.out.timed("encode"):
        task.prefix.encode(block.layout.prefix)
    with task.out.timed("denoise"):
        canvas = layout.lay_canvases(slots, settings.denoise.draws)
        scores = read_lengths(task.backend, task.prefix.memory, canvas, block.rng)
    task.out.steps += 1
    count = max(settings.denoise.survivors, task.budget.candidates)
    return likely_lengths(scores, settings, count, many_lines=task.many_lines)
