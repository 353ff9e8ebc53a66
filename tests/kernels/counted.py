"""The torch loop with the draws of the kernels: what the captured loop must decide, step by step."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from midspan.engine.backends.graph_loop import sizes
from midspan.engine.backends.runner import CanvasNetwork, Loop
from midspan.engine.cache import Cache
from midspan.engine.canvas import Canvas, Draws, Plan
from midspan.engine.denoise import Step, denoise
from midspan.engine.model import DiffusionGemma
from midspan.kernels.counter import DRAW, NOISE, below_reference, gumbel_reference, philox_reference


class Counted(Draws):
    """Draws from counters, as kernels/vocabulary.py and kernels/settle.py number rows, columns and steps."""

    def __init__(self, draws: Draws, device: torch.device) -> None:
        super().__init__(0)
        self._device = device
        # The first noise comes from the generator in either loop, and before the counters.
        self._first, self._key, self._step = draws, draws.counter_seed(), -1
        self.rows = torch.empty(0, dtype=torch.long)

    def noise(self, shape: tuple[int, int], vocab_size: int) -> torch.Tensor:
        """Of the canvases before the first step, and after each step."""
        self._step += 1
        if self._step == 0:
            return self._first.noise(shape, vocab_size)
        column, row = (torch.arange(size, device=self._device) for size in reversed(shape))
        bits = self._bits(column, row[:, None], self._step - 1, NOISE)[0]
        return below_reference(bits, vocab_size)

    def sample(self, probabilities: torch.Tensor) -> torch.Tensor:
        """Gumbel-max over log-probabilities: adding a constant to logits changes no race."""
        column = torch.arange(probabilities.shape[1], device=self._device)
        four = self._bits(column // 4, self.rows[:, None], self._step, DRAW)
        lane = (column % 4).expand(len(self.rows), -1)[..., None]
        bits = torch.stack(four, dim=-1).gather(-1, lane).squeeze(-1)
        return (probabilities.log() + gumbel_reference(bits)).argmax(dim=-1)

    def _bits(self, column: torch.Tensor, row: torch.Tensor, step: int, stream: int) -> tuple[torch.Tensor, ...]:
        return philox_reference(self._key, column, row, torch.full_like(column, step), torch.full_like(column, stream))


class Numbered(CanvasNetwork):
    """The torch network, which tells the draws how the captured step numbers the rows that are read."""

    def __init__(self, model: DiffusionGemma, cache: Cache, canvas: Canvas, plan: Plan, later_rows: int | None) -> None:
        super().__init__(model, cache, canvas.valid, later_rows)
        first, later = sizes(canvas.free.cpu(), plan, later_rows)
        self._widths = [first.rows, (later or first).rows]
        self.draws: Counted | None = None

    def logits(self, ids: torch.Tensor, soft: torch.Tensor | None, free: torch.Tensor) -> torch.Tensor:
        """See denoise.Network."""
        assert self.draws is not None
        canvas, column = free.nonzero().unbind(dim=1)
        self.draws.rows = canvas * self._widths[min(self._steps, 1)] + column
        return super().logits(ids, soft, free)


def counted_loop(model: DiffusionGemma) -> Loop:
    """denoise.py over plain torch, with the draws that a captured loop of the same seed takes."""

    def loop(cache: Cache, canvas: Canvas, plan: Plan, draws: Draws, later_rows: int | None) -> Iterator[Step]:
        network, counted = Numbered(model, cache, canvas, plan, later_rows), Counted(draws, canvas.free.device)
        network.draws = counted
        return denoise(network, canvas, plan, counted)

    return loop


def recorded(loop: Loop, steps: list[Step]) -> Loop:
    """The same loop, whose steps are kept."""

    def run(cache: Cache, canvas: Canvas, plan: Plan, draws: Draws, later_rows: int | None) -> Iterator[Step]:
        for step in loop(cache, canvas, plan, draws, later_rows):
            steps.append(step)
            yield step

    return run
