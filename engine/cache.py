"""Keys and values: of one clean prefix, and of the canvases behind it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch

# Batches of canvases are rounded up to a multiple of this.
BATCHES = 4


class KeyValueShape(Protocol):
    """The sizes of a layer's keys and values."""

    @property
    def kv_heads(self) -> int:
        """G."""

    @property
    def head_dim(self) -> int:
        """D."""


class Cache:
    """Keys and values of clean text: per layer [1, G, capacity, D]; the first `length` positions are valid."""

    def __init__(
        self, layers: Sequence[KeyValueShape], *, dtype: torch.dtype, device: torch.device, capacity: int = 512
    ) -> None:
        self.length = 0
        self.canvases = CanvasMemory(self)
        self._keys = [
            torch.empty(1, layer.kv_heads, capacity, layer.head_dim, dtype=dtype, device=device) for layer in layers
        ]
        self._values = [torch.empty_like(keys) for keys in self._keys]

    @property
    def layers(self) -> int:
        """The number of layers."""
        return len(self._keys)

    def write(self, layer: int, k: torch.Tensor, v: torch.Tensor) -> None:
        """Write k, v [1, G, N, D] behind the valid part; `advance` makes them valid once every layer has written."""
        end = self.length + k.shape[2]
        if end > self._keys[layer].shape[2]:
            self._grow(layer, end)
        self._keys[layer][:, :, self.length : end] = k
        self._values[layer][:, :, self.length : end] = v

    def _grow(self, layer: int, end: int) -> None:
        capacity = 1 << (end - 1).bit_length()
        for buffers in (self._keys, self._values):
            old = buffers[layer]
            buffers[layer] = old.new_empty(*old.shape[:2], capacity, old.shape[3])
            buffers[layer][:, :, : self.length] = old[:, :, : self.length]

    def reserve(self, tokens: int) -> None:
        """Make room for so many more tokens in every layer, so that no buffer moves while they are written."""
        end = self.length + tokens
        for layer, keys in enumerate(self._keys):
            if end > keys.shape[2]:
                self._grow(layer, end)

    def whole(self, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The buffers of keys and values [1, G, capacity, D], valid up to `length`."""
        return self._keys[layer], self._values[layer]

    def advance(self, tokens: int) -> None:
        """Make the last `tokens` written positions valid."""
        self.length += tokens

    def truncate(self, length: int) -> None:
        """Drop everything from position `length` on."""
        assert 0 <= length <= self.length
        self.length = length
        self.canvases.forget(length)

    def read(self, layer: int, start: int, end: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Views of keys and values [1, G, end - start, D]."""
        return self._keys[layer][:, :, start:end], self._values[layer][:, :, start:end]


class CanvasMemory:
    """Keys and values of a batch of canvases behind a cache's prefix, in buffers that outlive a step and a fill.

    Per layer [B, G, prefix + canvas, D]. The prefix is copied once for every row of the batch, later only its changed
    part. Each step overwrites the canvas' part in place.
    """

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._keys: list[torch.Tensor] = []
        self._values: list[torch.Tensor] = []
        self._laid = 0  # prefix positions that were copied already

    def forget(self, length: int) -> None:
        """Note that the prefix has changed from position `length` on."""
        self._laid = min(self._laid, length)

    def lay(self, batch: int, rows: int) -> None:
        """Make room for `batch` canvases of `rows` behind the cache's valid part, and copy that part in."""
        cache = self._cache
        if not self._keys or self._keys[0].shape[0] < batch or self._keys[0].shape[2] < cache.length + rows:
            self._allocate(batch, 1 << (cache.length + rows - 1).bit_length())
        for layer in range(cache.layers):
            k, v = cache.read(layer, self._laid, cache.length)
            self._keys[layer][:, :, self._laid : cache.length] = k
            self._values[layer][:, :, self._laid : cache.length] = v
        self._laid = cache.length

    def _allocate(self, batch: int, capacity: int) -> None:
        self._laid = 0
        # The old buffers are freed first, so that the new ones can take their place.
        self._keys, self._values = [], []
        batch = -(-batch // BATCHES) * BATCHES
        likes = [self._cache.read(layer, 0, 0)[0] for layer in range(self._cache.layers)]
        self._keys = [like.new_empty(batch, like.shape[1], capacity, like.shape[3]) for like in likes]
        self._values = [torch.empty_like(keys) for keys in self._keys]

    def put(
        self, layer: int, start: int, rows: int, k: torch.Tensor, v: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Overwrite the first N of `rows` canvas positions with k, v [B, G, N, D].

        Returns views [B, G, prefix - start + rows, D]; positions from N on still hold an earlier step's values.
        """
        batch, prefix = k.shape[0], self._laid
        views = []
        for buffers, new in ((self._keys, k), (self._values, v)):
            buffers[layer][:batch, :, prefix : prefix + k.shape[2]] = new
            views.append(buffers[layer][:batch, :, start : prefix + rows])
        return views[0], views[1]

    def keep(self, rows: torch.Tensor, width: int) -> None:
        """Move canvases `rows` [B'] (ascending) to the front of the batch, with their keys and values."""
        part = slice(self._laid, self._laid + width)
        for buffers in (self._keys, self._values):
            for layer in buffers:
                layer[: len(rows), :, part] = layer[rows, :, part]
