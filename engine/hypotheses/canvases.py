"""The canvases of one block: denoised behind its prefix, and ranked."""

from __future__ import annotations

from dataclasses import dataclass, replace

from midspan.engine.canvas import Canvas, Plan, Rng
from midspan.engine.denoise import Step
from midspan.engine.hypotheses.frames import canvas_frame
from midspan.engine.hypotheses.hypothesis import Hypothesis, Proposals
from midspan.engine.hypotheses.ranking import Ranker
from midspan.engine.hypotheses.task import Task
from midspan.engine.prompts.prompt import Layout

# The rows computed from the second step on are rounded up to this, so that few matrix sizes occur.
ROWS = 8


@dataclass(frozen=True, slots=True)
class Block:
    """A block or piece of a fill: what stands around it, and its random numbers."""

    task: Task
    layout: Layout
    rng: Rng

    def denoise(self, canvas: Canvas, plan: Plan, proposals: Proposals) -> list[Hypothesis]:
        """Denoise a batch and rank its drafts and the proposals, the best first; [] after a cancel."""
        task, out, weights = self.task, self.task.out, self.task.settings.hypotheses.ranking
        with out.timed("encode"):
            task.prefix.encode(self.layout.prefix)
        with out.timed("denoise"):
            last = self._last_step(canvas, plan)
        if last is None:
            return []
        with out.timed("rank"):
            ranker = Ranker(task.prefix, task.prompt, self.layout, weights)
            return ranker.rank(last.draft, canvas.select(last.rows), proposals)

    def _last_step(self, canvas: Canvas, plan: Plan) -> Step | None:
        """The last step, when the canvases settle or steps or time run out; None after a cancel."""
        task, out, observer = self.task, self.task.out, self.task.observer
        if task.settings.denoise.reuse_suffix:
            later_rows = min(canvas.ids.shape[1], -(-max(canvas.gap_sizes) // ROWS) * ROWS)
            canvas = replace(canvas, later_rows=later_rows)
        step = None
        out.stopped = "steps"
        for step in task.backend.bind(task.prefix.memory, canvas).steps(plan, self.rng):
            out.steps += 1
            if observer.on_frame is not None:
                shown = canvas.select(step.rows)
                observer.on_frame(canvas_frame(task.prompt, task.layout, step, shown, plan.steps))
            if observer.interrupted():
                out.stopped = "cancelled"
                return None
            if bool(step.finished.all()):
                out.stopped = "settled"
            elif observer.late():
                out.stopped = "deadline"
                break
        return step
