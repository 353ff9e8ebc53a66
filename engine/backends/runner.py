"""Denoising canvases behind a cached prefix: the loop that fits how a model computes, chosen once."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from midspan.engine.backends.cpu import NativeGemma
from midspan.engine.backends.graph_loop import CapturedLoop
from midspan.engine.backends.triton import FusedGemma
from midspan.engine.cache import Cache
from midspan.engine.canvas import Canvas, Draws, Plan
from midspan.engine.denoise import Step, denoise
from midspan.engine.model import DiffusionGemma
from midspan.engine.sampling import ByLogits, Drawn, permitted


class CanvasNetwork(ByLogits):
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
        """See draw.ByLogits."""
        return self._model.logits(self._hidden(ids, soft, free))

    def _hidden(self, ids: torch.Tensor, soft: torch.Tensor | None, free: torch.Tensor) -> torch.Tensor:
        """The free rows' hidden [R, d]."""
        self._width = ids.shape[1]
        rows = self._width if self._steps == 0 or self._later_rows is None else self._later_rows
        self._steps += 1
        soft = None if soft is None else soft[:, :rows]
        frozen = ids.shape[1] - rows
        hidden = self._model.denoise(ids[:, :rows], self._cache, soft, self._valid, frozen_rows=frozen)
        return hidden[free[:, :rows]]

    def keep(self, rows: torch.Tensor) -> None:
        """See denoise.Network."""
        self._model.keep(self._cache, rows, self._width)
        self._valid = None if self._valid is None else self._valid[rows]

    def soft(self, logits: torch.Tensor) -> torch.Tensor:
        """See draw.ByLogits; the logits are rounded to the weights' dtype first, as in the release."""
        probabilities = torch.softmax(logits.to(self._model.dtype), dim=-1, dtype=torch.float32)
        return self._model.soft_embed(probabilities)


class NativeNetwork(CanvasNetwork):
    """The same where the vocabulary's share of a step is one call."""

    _model: NativeGemma
    _allowed: torch.Tensor | None = None  # the same in every step

    def draw(
        self,
        ids: torch.Tensor,
        soft: torch.Tensor | None,
        free: torch.Tensor,
        canvas: Canvas,
        temperature: float,
        draws: Draws,
    ) -> Drawn:
        """See denoise.Network."""
        hidden, first = self._hidden(ids, soft, free), free.nonzero()[:, 1] == 0
        if self._allowed is None:
            self._allowed = permitted(canvas, self.vocab_size)
        return self._model.draw(hidden, temperature, self._allowed, first, draws.uniform(len(hidden)))


Loop = Callable[[Cache, Canvas, Plan, Draws, int | None], Iterator[Step]]
"""Denoises canvases behind a cached prefix; the last argument is CanvasNetwork's `later_rows`."""


def loop_over(model: DiffusionGemma) -> Loop:
    """The loop that fits how a model computes: steps captured whole over kernels, or denoise.py in plain torch."""
    if isinstance(model, FusedGemma):
        return CapturedLoop(model)

    network = NativeNetwork if isinstance(model, NativeGemma) else CanvasNetwork

    def loop(cache: Cache, canvas: Canvas, plan: Plan, draws: Draws, later_rows: int | None) -> Iterator[Step]:
        return denoise(network(model, cache, canvas.valid, later_rows), canvas, plan, draws)

    return loop
