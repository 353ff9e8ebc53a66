"""The GPU backend: forward passes by Triton kernels (triton.py), denoise steps as CUDA graphs (graph_loop.py)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from midspan.engine.backends.graph_loop import CapturedLoop
from midspan.engine.backends.plain import FIRST_CAPACITY, TorchCanvasBackend
from midspan.engine.backends.triton import FusedNetwork
from midspan.engine.cache import Cache
from midspan.engine.canvas import Canvas, Plan, Rng
from midspan.engine.denoise import Denoiser, Step
from midspan.engine.model import DiffusionGemma

TRITON_PARTS = ("attention", "qkv", "rms_norm", "geglu", "router", "experts", "vocabulary", "settle")


class TritonBackend(TorchCanvasBackend):
    """DiffusionGemma over the Triton kernels; see CanvasBackend. A beam search's branches are read in plain torch."""

    def __init__(self, model: DiffusionGemma) -> None:
        super().__init__(model)
        self._kernels = (*((part, "triton") for part in TRITON_PARTS), ("step", "cuda graph"))
        self.network = FusedNetwork(model)
        self.loop = CapturedLoop(self.network)

    def new_cache(self, expected: int = FIRST_CAPACITY) -> Cache:
        """See Backend; captured steps hold its address, so it gets its full size at once."""
        model = self.model
        return Cache(model.shapes, dtype=model.dtype, device=model.device, capacity=expected)

    def prefill(self, ids: torch.Tensor, cache: Cache, last: int | None = None) -> torch.Tensor:
        """See Backend."""
        hidden = self.network.prefill(ids, cache)
        return hidden if last is None else hidden[:, -last:]

    def _score(self, ids: torch.Tensor, cache: Cache) -> torch.Tensor:
        """See TorchBackend."""
        return self.network.score(ids, cache)

    def bind(self, cache: Cache, canvas: Canvas) -> Denoiser:
        """See CanvasBackend."""
        return CapturedCanvases(self, cache, canvas)

    def warm(self, run: Callable[[], object]) -> None:
        """See Backend: kernels are compiled and steps captured when they first run."""
        run()

    def release(self) -> None:
        """See Backend."""
        self.loop.forget()


class CapturedCanvases:
    """Canvases bound to a prefix whose steps are captured; see denoise.Denoiser."""

    def __init__(self, backend: TritonBackend, cache: Cache, canvas: Canvas) -> None:
        self._backend, self._cache, self._canvas = backend, cache, canvas

    def steps(self, plan: Plan, rng: Rng) -> Iterator[Step]:
        """See denoise.Denoiser."""
        return self._backend.loop(self._cache, self._canvas, plan, rng)

    def read(self, ids: torch.Tensor) -> torch.Tensor:
        """See denoise.Denoiser."""
        return self._backend.network.denoise(ids, self._cache, None, self._canvas.valid)
