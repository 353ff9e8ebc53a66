"""The torch loop with the kernels' random numbers, so that the captured loop must make the same decisions."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from midspan.engine.backends.backend import CanvasBackend
from midspan.engine.backends.bound import BoundCanvases, CanvasReader
from midspan.engine.backends.graph_loop import sizes
from midspan.engine.backends.plain import TorchCanvasBackend
from midspan.engine.cache import Cache
from midspan.engine.canvas import Canvas, Plan, Rng
from midspan.engine.denoise import Denoiser, Step, denoise
from midspan.kernels.counter import DRAW, NOISE, below_reference, gumbel_reference, philox_reference


class Counted(Rng):
    """Rng from Philox counters, with rows, columns and steps numbered as in kernels/vocabulary.py and settle.py."""

    def __init__(self, rng: Rng, device: torch.device) -> None:
        super().__init__(0)
        self._device = device
        # In both loops the first noise comes from the generator; counters serve the steps.
        self._first, self._key, self._step = rng, rng.counter_seed(), -1
        self.rows = torch.empty(0, dtype=torch.long)

    def noise(self, shape: tuple[int, int], vocab_size: int) -> torch.Tensor:
        """Noise for the canvases before the first step, and after each step."""
        self._step += 1
        if self._step == 0:
            return self._first.noise(shape, vocab_size)
        column, row = (torch.arange(size, device=self._device) for size in reversed(shape))
        bits = self._bits(column, row[:, None], self._step - 1, NOISE)[0]
        return below_reference(bits, vocab_size)

    def sample(self, probabilities: torch.Tensor) -> torch.Tensor:
        """Gumbel-max over log-probabilities, which gives the same samples as over logits."""
        column = torch.arange(probabilities.shape[1], device=self._device)
        four = self._bits(column // 4, self.rows[:, None], self._step, DRAW)
        lane = (column % 4).expand(len(self.rows), -1)[..., None]
        bits = torch.stack(four, dim=-1).gather(-1, lane).squeeze(-1)
        return (probabilities.log() + gumbel_reference(bits)).argmax(dim=-1)

    def _bits(self, column: torch.Tensor, row: torch.Tensor, step: int, stream: int) -> tuple[torch.Tensor, ...]:
        return philox_reference(self._key, column, row, torch.full_like(column, step), torch.full_like(column, stream))


class Numbered(BoundCanvases):
    """The torch network; before each read it sets the numbers that the captured step gives to the rows."""

    def __init__(self, backend: CanvasReader, cache: Cache, canvas: Canvas) -> None:
        super().__init__(backend, cache, canvas)
        self._given = canvas
        self._widths = [0, 0]
        self.counted: Counted | None = None

    def steps(self, plan: Plan, rng: Rng) -> Iterator[Step]:
        """The steps of denoise.py with the random numbers of a captured loop of the same seed."""
        first, later = sizes(self._given.free.cpu(), plan, self._given.later_rows)
        self._widths = [first.rows, (later or first).rows]
        self.counted = Counted(rng, self._given.free.device)
        return denoise(self, self._given, plan, self.counted)

    def logits(self, ids: torch.Tensor, soft: torch.Tensor | None, free: torch.Tensor) -> torch.Tensor:
        """See denoise.Network."""
        assert self.counted is not None
        canvas, column = free.nonzero().unbind(dim=1)
        self.counted.rows = canvas * self._widths[min(self._steps, 1)] + column
        return super().logits(ids, soft, free)


class CountedBackend(TorchCanvasBackend):
    """Plain torch, whose canvases are denoised with random numbers from counters."""

    def bind(self, cache: Cache, canvas: Canvas) -> Denoiser:
        return Numbered(self, cache, canvas)


class Recorded:
    """Bound canvases whose steps are appended to a list."""

    def __init__(self, inner: Denoiser, kept: list[Step]) -> None:
        self._inner, self._kept = inner, kept

    def steps(self, plan: Plan, rng: Rng) -> Iterator[Step]:
        for step in self._inner.steps(plan, rng):
            self._kept.append(step)
            yield step

    def read(self, ids: torch.Tensor) -> torch.Tensor:
        return self._inner.read(ids)


def record(backend: CanvasBackend, kept: list[Step]) -> None:
    """From now on append all steps of canvases that the backend binds to `kept`."""
    bind = backend.bind
    backend.bind = lambda cache, canvas: Recorded(bind(cache, canvas), kept)  # type: ignore[method-assign]
