"""Canvases bound to a cached prefix: a denoise.Network for backends that run one forward pass per step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch

from midspan.engine.cache import Cache
from midspan.engine.canvas import Canvas, Plan, Rng
from midspan.engine.denoise import Step, denoise
from midspan.engine.sampling import LogitsNetwork, Samples, permitted


class CanvasReader(Protocol):
    """A backend that runs one forward pass over canvases at a time."""

    @property
    def vocab_size(self) -> int:
        """V."""

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Hidden rows [..., d] -> logits [..., V] in float32."""

    def soft(self, logits: torch.Tensor) -> torch.Tensor:
        """Logits [R, V] -> the expected embeddings [R, d] that condition the next step."""

    def denoise(
        self,
        ids: torch.Tensor,
        cache: Cache,
        soft: torch.Tensor | None = None,
        valid: torch.Tensor | None = None,
        *,
        frozen_rows: int = 0,
    ) -> torch.Tensor:
        """A bidirectional forward pass over canvases [B, C] behind an unchanged cache -> hidden [B, C, d].

        `soft` [B, C, d] is the previous step's soft embedding (None on the first). `valid` [B, C + frozen_rows] is
        False where a canvas is padded to the batch's width. The canvases have `frozen_rows` more rows, whose keys and
        values are those of the last call.
        """

    def keep_canvases(self, cache: Cache, rows: torch.Tensor, width: int) -> None:
        """Keep only canvases `rows` [B'] (ascending) of those [B, width] that `denoise` has read last."""


class CanvasSampler(CanvasReader, Protocol):
    """One that also samples."""

    def sample(
        self, hidden: torch.Tensor, temperature: float, allowed: torch.Tensor, first: torch.Tensor, at: torch.Tensor
    ) -> Samples:
        """A denoise step's samples for hidden rows [R, d]; sampling.sample computes the same from logits.

        `allowed` [2, V] and `first` [R] are booleans, `at` [R] is where in the cumulative distribution samples are.
        """


class BoundCanvases(LogitsNetwork):
    """A backend bound to one prefix and one batch of canvases; see denoise.Denoiser and denoise.Network.

    If `canvas.later_rows` is set, only so many leading rows are computed from the second step on. The suffix behind
    them keeps the keys and values of the first step, when the gap was all noise.
    """

    def __init__(self, backend: CanvasReader, cache: Cache, canvas: Canvas) -> None:
        self._backend, self._cache, self._canvas = backend, cache, canvas
        self._valid, self._steps, self._width = canvas.valid, 0, 0
        self.vocab_size = backend.vocab_size

    def steps(self, plan: Plan, rng: Rng) -> Iterator[Step]:
        """See denoise.Denoiser."""
        return denoise(self, self._canvas, plan, rng)

    def read(self, ids: torch.Tensor) -> torch.Tensor:
        """See denoise.Denoiser."""
        return self._backend.denoise(ids, self._cache, None, self._valid)

    def logits(self, ids: torch.Tensor, soft: torch.Tensor | None, free: torch.Tensor) -> torch.Tensor:
        """See sampling.LogitsNetwork."""
        return self._backend.logits(self._hidden(ids, soft, free))

    def _hidden(self, ids: torch.Tensor, soft: torch.Tensor | None, free: torch.Tensor) -> torch.Tensor:
        """Hidden rows [R, d] of the free positions."""
        self._width, later = ids.shape[1], self._canvas.later_rows
        rows = self._width if self._steps == 0 or later is None else later
        self._steps += 1
        soft = None if soft is None else soft[:, :rows]
        frozen = ids.shape[1] - rows
        hidden = self._backend.denoise(ids[:, :rows], self._cache, soft, self._valid, frozen_rows=frozen)
        return hidden[free[:, :rows]]

    def keep(self, rows: torch.Tensor) -> None:
        """See denoise.Network."""
        self._backend.keep_canvases(self._cache, rows, self._width)
        self._valid = None if self._valid is None else self._valid[rows]

    def soft(self, logits: torch.Tensor) -> torch.Tensor:
        """See sampling.LogitsNetwork."""
        return self._backend.soft(logits)


class SampledCanvases(BoundCanvases):
    """Bound canvases whose samples are the backend's own."""

    def __init__(self, backend: CanvasSampler, cache: Cache, canvas: Canvas) -> None:
        super().__init__(backend, cache, canvas)
        self._sampler = backend
        self._allowed = permitted(canvas, backend.vocab_size)  # the same in every step

    def sample(
        self, ids: torch.Tensor, soft: torch.Tensor | None, canvas: Canvas, temperature: float, rng: Rng
    ) -> Samples:
        """See denoise.Network."""
        hidden, first = self._hidden(ids, soft, canvas.free), canvas.free.nonzero()[:, 1] == 0
        return self._sampler.sample(hidden, temperature, self._allowed, first, rng.uniform(len(hidden)))
