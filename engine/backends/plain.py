"""Backends in plain torch, for any device: the reference for all others, and the fallback where none of them runs.

`TorchBackend` serves any family whose model file has embeddings, a stack around an attention rule, and a head.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import nn

from midspan.engine.backends.backend import BranchMask, Description
from midspan.engine.backends.bound import BoundCanvases
from midspan.engine.cache import Cache, KeyValueShape
from midspan.engine.canvas import Canvas
from midspan.engine.denoise import Denoiser
from midspan.engine.model import Attend, DiffusionGemma
from midspan.engine.next_token import NextToken, next_token
from midspan.engine.weights.quantized import count_parameters, precision
from midspan.kernels.attention import attention_reference

# Logits in memory at once: 128 MB in float32, which a card of 24 GB holds beside the release's weights.
LOGITS = 1 << 25
# The first capacity of a cache in tokens; it grows by doubling.
FIRST_CAPACITY = 512
PLAIN_PARTS = ("attention", "rms_norm", "rope", "geglu", "router", "experts")


class LayerLike(KeyValueShape, Protocol):
    """The sizes of a layer that a causal pass needs."""

    @property
    def window(self) -> int | None:
        """How many positions a token sees, itself included; None for all."""


class CausalModel(Protocol):
    """A family's network as `TorchBackend` needs it."""

    @property
    def shapes(self) -> Sequence[LayerLike]:
        """Keys, values and windows by layer."""

    @property
    def vocab_size(self) -> int:
        """V."""

    @property
    def dtype(self) -> torch.dtype:
        """Of weights and activations."""

    @property
    def device(self) -> torch.device:
        """Where the weights are."""

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        """Token ids [B, N] -> the first layer's input [B, N, d]."""

    def read(self, x: torch.Tensor, positions: torch.Tensor, attend: Attend) -> torch.Tensor:
        """The stack, read causally: x [B, N, d] at positions [B or 1, N] -> hidden [B, N, d], ready for the head."""

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Hidden rows [..., d] -> logits [..., V] in float32."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """Every weight."""


class TorchBackend:
    """Any family's model in plain torch; see Backend."""

    def __init__(self, model: CausalModel, kernels: tuple[tuple[str, str], ...] = (("network", "torch"),)) -> None:
        self._causal_model, self._kernels = model, kernels

    @property
    def vocab_size(self) -> int:
        """See Backend."""
        return self._causal_model.vocab_size

    @property
    def device(self) -> torch.device:
        """See Backend."""
        return self._causal_model.device

    def new_cache(self, expected: int = FIRST_CAPACITY) -> Cache:
        """See Backend."""
        model, capacity = self._causal_model, min(expected, FIRST_CAPACITY)
        return Cache(model.shapes, dtype=model.dtype, device=model.device, capacity=capacity)

    def prefill(self, ids: torch.Tensor, cache: Cache, last: int | None = None) -> torch.Tensor:
        """See Backend."""
        rows = ids.shape[1]

        def attend(layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
            cache.write(layer, k, v)
            k, v = cache.read(layer, 0, cache.length + rows)
            return self._causal(layer, q, k, v)

        hidden = self._read(ids, _behind(cache, ids), attend)
        cache.advance(rows)
        return hidden if last is None else hidden[:, -last:]

    def score(self, texts: Sequence[Sequence[int]], cache: Cache) -> tuple[torch.Tensor, torch.Tensor]:
        """See Backend."""
        ids = nn.utils.rnn.pad_sequence([torch.tensor(text, dtype=torch.long) for text in texts], batch_first=True)
        there = torch.arange(ids.shape[1]) < torch.tensor([len(text) for text in texts])[:, None]
        hidden = self._score(ids.to(self.device), cache)[there.to(self.device)]
        return hidden, torch.arange(len(hidden), device=self.device)

    def _score(self, ids: torch.Tensor, cache: Cache) -> torch.Tensor:
        """Texts padded to one length [B, N] -> hidden [B, N, d]."""
        rows = ids.shape[1]
        cache.canvases.lay(ids.shape[0], rows)

        def attend(layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
            return self._causal(layer, q, *cache.canvases.put(layer, 0, rows, k, v))

        return self._read(ids, _behind(cache, ids), attend)

    def branch(self, ids: torch.Tensor, mask: BranchMask, cache: Cache) -> torch.Tensor:
        """See Backend."""
        rows, shapes = ids.shape[1], self._causal_model.shapes
        masks = {window: mask.within(window) for window in {shape.window for shape in shapes}}

        def attend(layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
            cache.write(layer, k, v)
            k, v = cache.read(layer, 0, cache.length + rows)
            return attention_reference(q, k, v, masks[shapes[layer].window])

        hidden = self._read(ids, torch.full((1, rows), mask.place, device=ids.device), attend)
        cache.advance(rows)
        return hidden

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """See Backend."""
        return self._causal_model.logits(hidden)

    def log_probabilities(self, hidden: torch.Tensor, rows: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        """See Backend; computed in parts of LOGITS."""
        size, out = max(1, LOGITS // self.vocab_size), torch.empty(len(wanted), device=wanted.device)
        for first in range(0, len(hidden), size):
            here = (rows >= first) & (rows < first + size)
            logits, at = self.logits(hidden[first : first + size]), rows[here] - first
            out[here] = logits[at, wanted[here]] - logits.logsumexp(dim=-1)[at]
        return out

    def next_token(self, hidden: torch.Tensor, inner: torch.Tensor, stops: torch.Tensor, width: int) -> NextToken:
        """See Backend."""
        return next_token(self.logits(hidden), inner, stops, width)

    def watch(self, stop: Callable[[], bool]) -> None:
        """See Backend; a pass is one call, and asks nobody."""

    def describe(self) -> Description:
        """See Backend."""
        model = self._causal_model
        return Description(
            device=str(model.device),
            dtype=str(model.dtype).removeprefix("torch."),
            threads=torch.get_num_threads(),
            parameters=sum(parameter.numel() for parameter in model.parameters()),
            kernels=self._kernels,
        )

    def warm(self, run: Callable[[], object]) -> None:
        """See Backend; there is nothing to compile."""

    def release(self) -> None:
        """See Backend; only caches hold memory."""

    def _read(self, ids: torch.Tensor, positions: torch.Tensor, attend: Attend) -> torch.Tensor:
        model = self._causal_model
        return model.read(model.embed(ids), positions, attend)

    def _causal(self, layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Causal attention; queries are the last rows of the keys, and sliding layers see `window` keys."""
        rows, keys, window = q.shape[2], k.shape[2], self._causal_model.shapes[layer].window
        if window is not None and keys > rows + window - 1:
            first = keys - rows - window + 1
            k, v, keys = k[:, :, first:], v[:, :, first:], keys - first
        if rows == keys and (window is None or keys <= window):
            return attention_reference(q, k, v, causal=True)
        distance = torch.arange(keys - rows, keys, device=q.device)[:, None] - torch.arange(keys, device=q.device)
        allowed = distance >= 0
        if window is not None:
            allowed &= distance < window
        return attention_reference(q, k, v, allowed)


class TorchCanvasBackend(TorchBackend):
    """DiffusionGemma in plain torch; see CanvasBackend. `why` is the reason that no other backend runs it."""

    def __init__(self, model: DiffusionGemma, why: str = "") -> None:
        parts = tuple((part, "reference") for part in PLAIN_PARTS)
        super().__init__(model, (*parts, ("network", f"torch, as {why}")) if why else parts)
        self.model = model

    @property
    def canvas_length(self) -> int:
        """See CanvasBackend."""
        return self.model.config.canvas_length

    def describe(self) -> Description:
        """See Backend."""
        model = self.model
        return Description(
            device=str(model.device),
            dtype=precision(model),
            threads=torch.get_num_threads(),
            parameters=count_parameters(model),
            kernels=self._kernels,
        )

    def bind(self, cache: Cache, canvas: Canvas) -> Denoiser:
        """See CanvasBackend."""
        return BoundCanvases(self, cache, canvas)

    def soft(self, logits: torch.Tensor) -> torch.Tensor:
        """See bound.CanvasReader; logits are rounded to the weights' dtype first, as in the release."""
        probabilities = torch.softmax(logits.to(self.model.dtype), dim=-1, dtype=torch.float32)
        return self.model.soft_embed(probabilities)

    def denoise(
        self,
        ids: torch.Tensor,
        cache: Cache,
        soft: torch.Tensor | None = None,
        valid: torch.Tensor | None = None,
        *,
        frozen_rows: int = 0,
    ) -> torch.Tensor:
        """See bound.CanvasReader. Sliding layers see the last window - 1 cached keys."""
        rows = ids.shape[1] + frozen_rows
        cache.canvases.lay(ids.shape[0], rows)
        model, embedded = self.model, self.model.embed(ids)
        x = model.self_conditioning.combine(embedded, torch.zeros_like(embedded) if soft is None else soft)

        def attend(layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
            window = model.shapes[layer].window
            start = 0 if window is None else max(0, cache.length - window + 1)
            k, v = cache.canvases.put(layer, start, rows, k, v)
            mask = None
            if valid is not None:
                mask = F.pad(valid, (cache.length - start, 0), value=True)[:, None, None, :]
            return attention_reference(q, k, v, mask)

        return model.run(x, _behind(cache, ids), model.scalars(encoder=False), attend)

    def keep_canvases(self, cache: Cache, rows: torch.Tensor, width: int) -> None:
        """See bound.CanvasReader."""
        cache.canvases.keep(rows, width)


def _behind(cache: Cache, ids: torch.Tensor) -> torch.Tensor:
    """Positions [1, N] of ids [B, N] behind a cache's text."""
    return torch.arange(cache.length, cache.length + ids.shape[1], device=ids.device)[None]
