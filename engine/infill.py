"""One hole, start to finish on the calling thread: lay out, encode, denoise canvas by canvas, rank."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from midspan.engine.api import Budget, Cell, CellState, Frame, Hole, OnFrame, Stopped
from midspan.engine.cache import Cache
from midspan.engine.candidates import Scored, lay_canvases, rank
from midspan.engine.canvas import Canvas, Draws, Plan
from midspan.engine.denoise import Step, denoise
from midspan.engine.model import DiffusionGemma
from midspan.engine.prefix_cache import PrefixCache
from midspan.engine.prompt import Layout, Prompt
from midspan.engine.settings import CheckpointSettings

MAX_BLOCKS = 4
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
        self._steps = 0
        self.vocab_size = model.config.vocab_size

    def logits(self, ids: torch.Tensor, soft: torch.Tensor | None, free: torch.Tensor) -> torch.Tensor:
        """See denoise.Network."""
        rows = ids.shape[1] if self._steps == 0 or self._later_rows is None else self._later_rows
        self._steps += 1
        soft = None if soft is None else soft[:, :rows]
        frozen = ids.shape[1] - rows
        hidden = self._model.denoise(ids[:, :rows], self._cache, soft, self._valid, frozen_rows=frozen)
        return self._model.logits(hidden[free[:, :rows]])

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
            ranked = self._block(out, layout, plan, draws, budget, watch)
            if out.stopped == "cancelled":
                return out
            out.ranked = [_after(out.ranked[0], tail) for tail in ranked] if out.ranked and ranked else ranked
            if not ranked or ranked[0].ended or hole.kind not in ("block", "span") or out.stopped == "deadline":
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
        )

    def _block(
        self, out: Infilling, layout: Layout, plan: Plan, draws: Draws, budget: Budget, watch: Watch
    ) -> list[Scored]:
        """One batch of canvases behind one prefix, ranked; nothing when the request was cancelled."""
        clock = time.perf_counter()
        self.prefix.encode(layout.prefix)
        out.encode_s += time.perf_counter() - clock
        slots = self.settings.slots
        # As in training: half of a canvas is slots at most, and a narrow one costs half of a wide one.
        width = min(self.model.config.canvas_length, 2 * max(slots))
        each = max(self.settings.draws, min(MAX_DRAWS, -(-budget.candidates // len(slots))))
        canvas = lay_canvases(layout, self.prompt, slots, each, width, self.model.device)
        clock = time.perf_counter()
        drafts = self._denoise(out, canvas, plan, draws, watch)
        out.denoise_s += time.perf_counter() - clock
        if drafts is None:
            return []
        clock = time.perf_counter()
        memory, last_hidden = self.prefix.memory, self.prefix.last_hidden
        ranked = rank(self.model, memory, last_hidden, drafts, canvas, layout, self.prompt)
        out.rank_s += time.perf_counter() - clock
        return ranked

    def _denoise(self, out: Infilling, canvas: Canvas, plan: Plan, draws: Draws, watch: Watch) -> torch.Tensor | None:
        """The drafts when the canvases settle, the steps or the time run out; None when the request was cancelled."""
        later_rows = max(self.settings.slots) if self.settings.reuse_suffix else None
        network = CanvasNetwork(self.model, self.prefix.memory, canvas.valid, later_rows)
        drafts = canvas.ids
        out.stopped = "steps"
        for step in denoise(network, canvas, plan, draws):
            out.steps += 1
            drafts = step.draft
            if watch.on_frame is not None:
                watch.on_frame(self._frame(step, canvas, plan, out.layout))
            if watch.interrupted():
                out.stopped = "cancelled"
                return None
            if bool(step.finished.all()):
                out.stopped = "settled"
            elif watch.late():
                out.stopped = "deadline"
                break
        return drafts

    def _frame(self, step: Step, canvas: Canvas, plan: Plan, layout: Layout) -> Frame:
        """The hypothesis in the middle of the batch as a person would see it."""
        row = len(canvas.free) // 2
        tokens, free, kept = step.draft[row].tolist(), canvas.free[row].tolist(), step.accepted[row].tolist()
        shown = canvas.free.shape[1] if canvas.valid is None else int(canvas.valid[row].sum())
        cells = []
        for token, is_free, is_kept in zip(tokens[:shown], free, kept, strict=False):
            state: CellState = "frozen" if not is_free else "settled" if is_kept else "free"
            if is_free and token == self.prompt.filler_id:
                state = "filler"
            cells.append(Cell(text=self.prompt.cell_text(token), state=state))
        gap = self.prompt.gap_ids([token for token, is_free in zip(tokens, free, strict=True) if is_free])
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
