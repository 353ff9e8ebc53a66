"""One hole, start to finish on the calling thread: lay out, encode, denoise canvas by canvas, rank."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from midspan.engine.api import Budget, Cell, CellState, Frame, GapKind, Hole, Judge, OnFrame, Stopped
from midspan.engine.cache import Cache
from midspan.engine.candidates import Scored, judged, lay_canvases, rank
from midspan.engine.canvas import Canvas, Draws, Plan
from midspan.engine.denoise import Step, denoise
from midspan.engine.model import DiffusionGemma
from midspan.engine.prefix_cache import PrefixCache
from midspan.engine.prompt import Layout, Prompt
from midspan.engine.repair import lay_repairs, spoilt_slots
from midspan.engine.settings import CheckpointSettings

MAX_BLOCKS = 4
# A block of its own gets its first line only: the tiny network has no more to say that is likely right.
MANY_LINES: tuple[GapKind, ...] = ("span",)
REPAIR_STEPS = 2
# More draws than this find little that is new, and every one costs memory and time.
MAX_DRAWS = 8


class CanvasNetwork:
    """The model bound to one prefix, as the denoising loop sees it.

    With `later_rows` only so many leading rows run from the second step on: the suffix behind them keeps the keys and
    values that it had in the first step, when the gap before it was all noise.
    """

    def __init__(
        self, model: DiffusionGemma, cache: Cache, valid: torch.Tensor | None, later_rows: int | None = None
    ) -> None:
        self._model, self._cache, self._valid, self._later_rows = model, cache, valid, later_rows
        self._steps = self._width = 0
        self.vocab_size = model.config.vocab_size

    def logits(self, ids: torch.Tensor, soft: torch.Tensor | None, free: torch.Tensor) -> torch.Tensor:
        """See denoise.Network."""
        self._width = ids.shape[1]
        rows = self._width if self._steps == 0 or self._later_rows is None else self._later_rows
        self._steps += 1
        soft = None if soft is None else soft[:, :rows]
        frozen = ids.shape[1] - rows
        hidden = self._model.denoise(ids[:, :rows], self._cache, soft, self._valid, frozen_rows=frozen)
        return self._model.logits(hidden[free[:, :rows]])

    def keep(self, rows: torch.Tensor) -> None:
        """See denoise.Network."""
        self._cache.canvases.keep(rows, self._width)
        self._valid = None if self._valid is None else self._valid[rows]

    def soft(self, logits: torch.Tensor) -> torch.Tensor:
        """See denoise.Network; the logits are rounded to the weights' dtype first, as in the release."""
        probabilities = torch.softmax(logits.to(self._model.dtype), dim=-1, dtype=torch.float32)
        return self._model.soft_embed(probabilities)


@dataclass(slots=True)
class Watch:
    """Who waits for a fill: `interrupted` and `late` are asked between steps, `on_frame` sees every step."""

    interrupted: Callable[[], bool]
    late: Callable[[], bool]
    on_frame: OnFrame | None = None


@dataclass(slots=True)
class Infilling:
    """What one hole gave and cost: ranked hypotheses (best first), steps, seconds by phase."""

    layout: Layout
    ranked: list[Scored]
    steps: int = 0
    stopped: Stopped = "steps"
    encode_s: float = 0.0
    denoise_s: float = 0.0
    rank_s: float = 0.0


class Infiller:
    """A model, its prompt rules and its prefix cache; not for two threads at once."""

    def __init__(self, model: DiffusionGemma, prompt: Prompt, settings: CheckpointSettings) -> None:
        self.model, self.prompt, self.settings = model, prompt, settings
        self.prefix = PrefixCache(model)
        self.judge: Judge | None = None

    def reset(self) -> None:
        """Forget the prefix, as after a failure halfway through an encode."""
        self.prefix = PrefixCache(self.model)

    def infill(self, hole: Hole, budget: Budget, watch: Watch) -> Infilling:
        """Fill a hole; a gap of many lines that no canvas has ended goes on in the next block."""
        out = Infilling(layout=self.prompt.lay_out(hole), ranked=[])
        layout, plan = out.layout, self._plan(budget)
        for block in range(MAX_BLOCKS):
            if watch.interrupted():
                out.stopped = "cancelled"
                return out
            draws = Draws(budget.seed + block, self.model.device)
            ranked = self._block(out, layout, hole.kind, plan, draws, budget, watch)
            if ranked and hole.kind not in MANY_LINES:
                ranked = self._judged(out, hole, layout, ranked, plan, draws, watch)
            if out.stopped == "cancelled":
                return out
            out.ranked = [_after(out.ranked[0], tail) for tail in ranked] if out.ranked and ranked else ranked
            if not ranked or ranked[0].ended or hole.kind not in MANY_LINES or out.stopped == "deadline":
                break
            longer = [*layout.prefix, *ranked[0].ids]
            layout = Layout(prefix=longer, suffix=layout.suffix, heal="", append=layout.append)
        return out

    def _plan(self, budget: Budget) -> Plan:
        settings = self.settings
        return Plan(
            steps=min(budget.steps, settings.steps),
            t_min=settings.t_min,
            t_max=settings.t_max,
            entropy_bound=settings.entropy_bound,
            confidence_threshold=settings.confidence_threshold,
            keep=max(settings.keep, budget.candidates),
        )

    def _block(
        self, out: Infilling, layout: Layout, kind: GapKind, plan: Plan, draws: Draws, budget: Budget, watch: Watch
    ) -> list[Scored]:
        """One batch of canvases behind one prefix, ranked; nothing when the request was cancelled."""
        clock = time.perf_counter()
        self.prefix.encode(layout.prefix)
        out.encode_s += time.perf_counter() - clock
        slots = self.settings.block_slots if kind in MANY_LINES else self.settings.slots
        # As in training: half of a canvas is slots at most, and a narrow one costs half of a wide one.
        width = min(self.model.config.canvas_length, 2 * max(slots))
        each = max(self.settings.draws, min(MAX_DRAWS, -(-budget.candidates // len(slots))))
        canvas = lay_canvases(layout, self.prompt, slots, each, width, self.model.device)
        return self._finish(out, canvas, layout, plan, draws, watch)

    def _finish(
        self, out: Infilling, canvas: Canvas, layout: Layout, plan: Plan, draws: Draws, watch: Watch
    ) -> list[Scored]:
        """Denoise a batch and rank what it came to; nothing when the request was cancelled."""
        clock = time.perf_counter()
        last = self._denoise(out, canvas, plan, draws, watch)
        out.denoise_s += time.perf_counter() - clock
        if last is None:
            return []
        clock = time.perf_counter()
        memory, last_hidden = self.prefix.memory, self.prefix.last_hidden
        ranked = rank(self.model, memory, last_hidden, last.draft, canvas.select(last.rows), layout, self.prompt)
        out.rank_s += time.perf_counter() - clock
        return ranked

    def _judged(
        self, out: Infilling, hole: Hole, layout: Layout, ranked: list[Scored], plan: Plan, draws: Draws, watch: Watch
    ) -> list[Scored]:
        """What parses before what does not; where nothing does, the best is denoised again where it is wrong."""
        judge = self.judge
        if judge is None:
            return judged(ranked, lambda one: True)
        errors: dict[tuple[int, ...], tuple[tuple[int, int], ...]] = {}

        def parses(one: Scored) -> bool:
            if one.ids not in errors:
                errors[one.ids] = judge(hole, self.prompt.text(list(one.ids), layout))
            return not errors[one.ids]

        ordered = judged(ranked, parses)
        if ordered[0].parses or out.stopped == "deadline" or watch.late():
            return ordered
        best = ordered[0]
        spoilt = spoilt_slots(self.prompt, best.ids, layout, errors[best.ids])
        if not any(spoilt):
            return ordered
        width = min(self.model.config.canvas_length, 2 * max(self.settings.slots))
        canvas = lay_repairs(self.prompt, best.ids, spoilt, layout, width, self.model.device)
        again = self._finish(out, canvas, layout, replace(plan, steps=REPAIR_STEPS), draws, watch)
        known = {one.ids for one in ordered}
        return judged([*ordered, *(one for one in again if one.ids not in known)], parses)

    def _denoise(self, out: Infilling, canvas: Canvas, plan: Plan, draws: Draws, watch: Watch) -> Step | None:
        """The last step when the canvases settle, the steps or the time run out; None after a cancel."""
        later_rows = max(canvas.gap_sizes) if self.settings.reuse_suffix else None
        network = CanvasNetwork(self.model, self.prefix.memory, canvas.valid, later_rows)
        step = None
        out.stopped = "steps"
        for step in denoise(network, canvas, plan, draws):
            out.steps += 1
            if watch.on_frame is not None:
                watch.on_frame(self._frame(step, canvas.select(step.rows), plan, out.layout))
            if watch.interrupted():
                out.stopped = "cancelled"
                return None
            if bool(step.finished.all()):
                out.stopped = "settled"
            elif watch.late():
                out.stopped = "deadline"
                break
        return step

    def _frame(self, step: Step, canvas: Canvas, plan: Plan, layout: Layout) -> Frame:
        """The hypothesis of least entropy as a person would see it."""
        row = int(step.entropy.sum(dim=-1).argmin())
        tokens, free, kept = step.draft[row].tolist(), canvas.free[row].tolist(), step.accepted[row].tolist()
        shown = canvas.free.shape[1] if canvas.valid is None else int(canvas.valid[row].sum())
        cells = []
        for token, is_free, is_kept in zip(tokens[:shown], free, kept, strict=False):
            state: CellState = "frozen" if not is_free else "settled" if is_kept else "free"
            if is_free and token == self.prompt.filler_id:
                state = "filler"
            cells.append(Cell(text=self.prompt.cell_text(token), state=state))
        gap = self.prompt.gap_ids(tokens[: canvas.gap_sizes[row]])
        text, done = self.prompt.text(gap, layout), bool(step.finished[row])
        return Frame(step=step.number, steps=plan.steps, text=text, cells=tuple(cells), settled=done)


def _after(head: Scored, tail: Scored) -> Scored:
    """The next block's hypothesis behind the best of the blocks before it."""
    return Scored(
        ids=head.ids + tail.ids,
        log_probability=head.log_probability + tail.log_probability,
        features=tuple(map(min, head.features, tail.features)),
        ended=tail.ended,
    )
