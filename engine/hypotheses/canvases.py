"""The canvases of one block: laid out behind an encoded prefix, denoised, and ranked."""

from __future__ import annotations

from dataclasses import replace

from midspan.engine.api import Cell, CellState, Frame
from midspan.engine.canvas import Canvas, Plan
from midspan.engine.denoise import Step
from midspan.engine.hypotheses.canvas_layouts import CanvasLayout
from midspan.engine.hypotheses.hypothesis import Hypothesis, Proposals
from midspan.engine.hypotheses.lengths import canvas_width, fitting, likely_lengths, near_lengths, read_lengths
from midspan.engine.hypotheses.ranking import Ranker
from midspan.engine.hypotheses.task import MAX_EACH, Task
from midspan.engine.prompts.prompt import Layout

# The rows computed from the second step on are rounded up to this, so that few matrix sizes occur.
ROWS = 8


def denoise_block(task: Task, layout: Layout, number: int = 0) -> Block:
    """Denoise canvases behind a layout's prefix and rank what they come to; within a line, with their syntax."""
    block = Block(task, layout, number)
    block.ranked = block.fill(task.out.proposals)
    if block.ranked and not task.many_lines:
        block.ranked = task.checker.order(block.ranked)
    return block


class Block:
    """One batch of canvases behind one prefix; `number` counts the blocks or pieces of a fill.

    `ranked` are its hypotheses, the best first; none after a cancel.
    """

    def __init__(self, task: Task, layout: Layout, number: int = 0) -> None:
        self.task, self._layout = task, layout
        self.ranked: list[Hypothesis] = []
        self._rng = task.rng(number)
        self._ranker = Ranker(task.prefix, task.prompt, layout, task.settings.hypotheses.ranking)
        with task.out.timed("encode"):
            task.prefix.encode(layout.prefix)

    def layout(self, width: int) -> CanvasLayout:
        """A layout for canvases of at most this width."""
        width = min(self.task.backend.canvas_length, width)
        return CanvasLayout(prompt=self.task.prompt, layout=self._layout, width=width, device=self.task.backend.device)

    def fill(self, proposals: Proposals) -> list[Hypothesis]:
        """Denoise canvases of all gap lengths and rank their drafts and the proposals; [] after a cancel."""
        task, settings, wanted = self.task, self.task.settings, self.task.budget.candidates
        slots = fitting(settings, task.slots, task.backend.canvas_length)
        if wanted == 1 and not task.many_lines:
            slots = near_lengths(slots, proposals.lengths, settings.hypotheses.length_slack)
        layout = self.layout(canvas_width(settings, slots, task.backend.canvas_length))
        if settings.layout.kind == "clamped":
            slots = self._likely_lengths(layout, slots)
        each = max(settings.denoise.draws, min(MAX_EACH, -(-wanted // len(slots))))
        return self.denoise(layout.lay_canvases(slots, each), task.plan, proposals)

    def _likely_lengths(self, layout: CanvasLayout, slots: tuple[int, ...]) -> tuple[int, ...]:
        """The likeliest gap lengths; reading them counts as a step."""
        task, settings = self.task, self.task.settings
        with task.out.timed("denoise"):
            canvas = layout.lay_canvases(slots, settings.denoise.draws)
            scores = read_lengths(task.backend, task.prefix.memory, canvas, self._rng)
        task.out.steps += 1
        count = max(settings.denoise.survivors, task.budget.candidates)
        return likely_lengths(scores, settings, count, many_lines=task.many_lines)

    def denoise(self, canvas: Canvas, plan: Plan, proposals: Proposals) -> list[Hypothesis]:
        """Denoise a batch and rank its drafts and the proposals, the best first; [] after a cancel."""
        out = self.task.out
        with out.timed("denoise"):
            last = self._last_step(canvas, plan)
        if last is None:
            return []
        with out.timed("rank"):
            return self._ranker.rank(last.draft, canvas.select(last.rows), proposals)

    def _last_step(self, canvas: Canvas, plan: Plan) -> Step | None:
        """The last step, when the canvases settle or steps or time run out; None after a cancel."""
        task, out, observer = self.task, self.task.out, self.task.observer
        if task.settings.denoise.reuse_suffix:
            later_rows = min(canvas.ids.shape[1], -(-max(canvas.gap_sizes) // ROWS) * ROWS)
            canvas = replace(canvas, later_rows=later_rows)
        step = None
        out.stopped = "steps"
        for step in task.backend.bind(task.prefix.memory, canvas).steps(plan, self._rng):
            out.steps += 1
            if observer.on_frame is not None:
                observer.on_frame(self._frame(step, canvas.select(step.rows), plan))
            if observer.interrupted():
                out.stopped = "cancelled"
                return None
            if bool(step.finished.all()):
                out.stopped = "settled"
            elif observer.late():
                out.stopped = "deadline"
                break
        return step

    def _frame(self, step: Step, canvas: Canvas, plan: Plan) -> Frame:
        """The canvas with the lowest entropy, as a person sees it."""
        prompt, row = self.task.prompt, int(step.entropy.sum(dim=-1).argmin())
        tokens, free, kept = step.draft[row].tolist(), canvas.free[row].tolist(), step.accepted[row].tolist()
        shown = canvas.free.shape[1] if canvas.valid is None else int(canvas.valid[row].sum())
        cells = []
        for token, is_free, is_kept in zip(tokens[:shown], free, kept, strict=False):
            state: CellState = "frozen" if not is_free else "settled" if is_kept else "free"
            if is_free and token == prompt.filler_id:
                state = "filler"
            cells.append(Cell(text=prompt.cell_text(token), state=state))
        gap = prompt.gap_ids(tokens[: canvas.gap_sizes[row]])
        text, done = prompt.text(gap, self.task.layout), bool(step.finished[row])
        return Frame(step=step.number, steps=plan.steps, text=text, cells=tuple(cells), settled=done)
