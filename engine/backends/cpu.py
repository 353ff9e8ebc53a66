"""DiffusionGemma in int8 over the CPU's own kernels (kernels/cpu): each verb of a backend is one call.

Keys and values are never copied: a text's are written behind the cache's valid part, a canvas' over its last step's.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch

from midspan.engine.backends.backend import BranchMask
from midspan.engine.backends.bound import SampledCanvases
from midspan.engine.backends.cpu_calls import CpuCalls, Mask, addresses, product_threads, rows_of
from midspan.engine.backends.cpu_weights import Weights
from midspan.engine.backends.plain import FIRST_CAPACITY
from midspan.engine.backends.trie import Trie
from midspan.engine.cache import Cache
from midspan.engine.canvas import Canvas
from midspan.engine.denoise import Denoiser
from midspan.engine.model import DiffusionGemma, rope_frequencies, rope_tables
from midspan.engine.sampling import Samples
from midspan.engine.weights.quantized import count_parameters
from midspan.kernels import native
from midspan.kernels.native import Library

FLOAT = 4  # bytes


class Stretch(NamedTuple):
    """Addresses, by layer, of `length` keys and values [.., D]; strides, in numbers, from head to head and canvas."""

    keys: list[int]
    values: list[int]
    length: int
    of_head: int
    of_canvas: int = 0


class CpuBackend(CpuCalls):
    """DiffusionGemma whose layers and vocabulary are C++; see CanvasBackend. Keeps nothing of the model itself."""

    @torch.no_grad()
    def __init__(self, model: DiffusionGemma, library: Library) -> None:
        self.config = model.config
        self._kinds = list(dict.fromkeys(model.shapes))
        self._frequencies = [rope_frequencies(shape) for shape in self._kinds]
        self._tables: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._weights = Weights(model, self._kinds, library.lanes, product_threads())
        super().__init__(library, self._weights.network, count_parameters(model))
        # Memory for keys and values, and its view for the canvases of the last step [2, L, B, H, width, D].
        self._room = self._canvases = torch.empty(0)

    @property
    def canvas_length(self) -> int:
        """See CanvasBackend."""
        return self.config.canvas_length

    def new_cache(self, expected: int = FIRST_CAPACITY) -> Cache:
        """See Backend."""
        capacity = min(expected, FIRST_CAPACITY)
        return Cache(self.config.layers, dtype=torch.float32, device=self.device, capacity=capacity)

    def release(self) -> None:
        """See Backend."""
        self._room = self._canvases = torch.empty(0)

    def bind(self, cache: Cache, canvas: Canvas) -> Denoiser:
        """See CanvasBackend."""
        return SampledCanvases(self, cache, canvas)

    def soft_embed(self, probabilities: torch.Tensor) -> torch.Tensor:
        """The expected embeddings [..., d] of weights of ids [..., V]; those below the last bit of 1 count as none."""
        rows = rows_of(probabilities)
        out = torch.empty(len(rows), self.config.hidden_size)
        self._call("soft", rows, len(rows), out)
        return out.view(*probabilities.shape[:-1], self.config.hidden_size)

    def soft(self, logits: torch.Tensor) -> torch.Tensor:
        """See bound.CanvasReader."""
        return self.soft_embed(torch.softmax(logits, dim=-1))

    def sample(
        self, hidden: torch.Tensor, temperature: float, allowed: torch.Tensor, first: torch.Tensor, at: torch.Tensor
    ) -> Samples:
        """See bound.CanvasSampler."""
        rows, count = rows_of(hidden), len(hidden)
        weights, entropy = torch.empty(count, self.config.vocab_size), torch.empty(count)
        sample, argmax = torch.empty(2, count, dtype=torch.long)
        heat = ctypes.c_float(temperature)
        self._call("draw", rows, count, heat, allowed, first, at, weights, entropy, sample, argmax)
        return Samples(
            entropy,
            sample,
            argmax,
            lambda kept: self.soft_embed(weights if kept is None else weights[kept]),
        )

    def prefill(self, ids: torch.Tensor, cache: Cache, last: int | None = None) -> torch.Tensor:
        """See Backend."""
        rows = ids.shape[1]
        unread = 0 if last is None else max(0, rows - last)
        sees = torch.ones(rows, rows, dtype=torch.bool).tril()
        hidden = self._causal_read(ids, torch.arange(rows), sees, cache, unread)
        cache.advance(rows)
        return hidden[:, unread:]

    def score(self, texts: Sequence[Sequence[int]], cache: Cache) -> tuple[torch.Tensor, torch.Tensor]:
        """See Backend; equal beginnings are read once."""
        trie = Trie.of(texts)
        return self._causal_read(trie.ids[None], trie.depths, trie.sees, cache)[0], trie.rows

    def branch(self, ids: torch.Tensor, mask: BranchMask, cache: Cache) -> torch.Tensor:
        """See Backend."""
        rows = ids.shape[1]
        masks = [Mask.by_row(mask.within(shape.window), 0) for shape in self._kinds]
        hidden = self._read_text(Rows(ids, torch.full((rows,), mask.place), masks), cache)
        cache.advance(rows)
        return hidden

    def denoise(
        self,
        ids: torch.Tensor,
        cache: Cache,
        soft: torch.Tensor | None = None,
        valid: torch.Tensor | None = None,
        *,
        frozen_rows: int = 0,
    ) -> torch.Tensor:
        """See bound.CanvasReader."""
        (batch, rows), size, heads = ids.shape, self.config.layers[0].head_dim, self.config.heads
        width = rows + frozen_rows
        if not frozen_rows:
            shape = (2, cache.layers, batch, heads, width, size)
            if self._room.numel() < math.prod(shape):
                self._room = torch.empty(math.prod(shape))
            self._canvases = self._room[: math.prod(shape)].view(shape)
        step = FLOAT * self._canvases.stride(1)
        at = [self._canvases.data_ptr() + number * step for number in range(2 * cache.layers)]
        own = Stretch(at[: cache.layers], at[cache.layers :], width, width * size, heads * width * size)
        positions = torch.arange(cache.length, cache.length + rows)
        masks = [self._sees(shape.window, cache.length, width, valid) for shape in self._kinds]
        text = Rows(ids, positions, masks, soft, encoder=False)
        return self._read(text, _prefix(cache), own)

    def keep_canvases(self, cache: Cache, rows: torch.Tensor, width: int) -> None:
        """See bound.CanvasReader."""
        self._canvases = self._canvases[:, :, rows]

    @staticmethod
    def _sees(window: int | None, length: int, width: int, valid: torch.Tensor | None) -> Mask:
        """Canvases see the last window - 1 cached keys, and their own keys where `valid` [B, width]."""
        first = 0 if window is None else max(0, length - window + 1)
        if not first and valid is None:
            return Mask.of_none()
        own = torch.ones(1, width, dtype=torch.bool) if valid is None else valid
        if not first:
            return Mask.by_key(own, length)
        return Mask.by_key(torch.cat(((torch.arange(length) >= first).expand(len(own), -1), own), dim=1), 0)

    def _causal_read(
        self, ids: torch.Tensor, depths: torch.Tensor, own: torch.Tensor, cache: Cache, unread: int = 0
    ) -> torch.Tensor:
        """Read ids [1, N] at `depths` [N] behind the cache; `own` [N, N] says which of them each sees; see Rows."""
        length, positions = cache.length, cache.length + depths
        masks = []
        for shape in self._kinds:
            if shape.window is None or int(positions.max()) < shape.window:
                masks.append(Mask.by_row(own, length))
                continue
            seen = torch.cat((torch.ones(len(own), length, dtype=torch.bool), own), dim=1)
            near = positions[:, None] - torch.cat((torch.arange(length), positions)) < shape.window
            masks.append(Mask.by_row(seen & near, 0))
        return self._read_text(Rows(ids, positions, masks, unread=unread), cache)

    def _read_text(self, text: Rows, cache: Cache) -> torch.Tensor:
        """Hidden [1, N, d] of a text; writes keys and values behind the cache's valid part."""
        rows, size = text.ids.shape[1], self.config.layers[0].head_dim
        cache.reserve(rows)
        before = _prefix(cache)
        behind = FLOAT * cache.length * size
        keys, values = ([address + behind for address in all_of] for all_of in (before.keys, before.values))
        own = Stretch(keys, values, rows, before.of_head)
        return self._read(text, before, own)

    def _read(self, rows: Rows, before: Stretch, own: Stretch) -> torch.Tensor:
        """Rows behind the keys and values `before` -> hidden [B, N, d]; theirs are written to `own`."""
        ids, positions, masks = rows.ids.contiguous(), rows.positions, rows.masks
        soft = None if rows.soft is None else rows.soft.contiguous()
        out = torch.empty(*ids.shape, self.config.hidden_size)
        lists = [addresses(each) for each in (before.keys, before.values, own.keys, own.values)]
        tables = self._turns(int(positions.max()) + 1)
        lists += [addresses([table.data_ptr() for table in of_kind]) for of_kind in zip(*tables, strict=True)]
        sees = (native.Sees * len(masks))(*(mask.sees for mask in masks))
        before_k, before_v, own_k, own_v, cos, sin = map(ctypes.addressof, lists)
        read = native.Read(
            *(
                *ids.shape,
                rows.unread,
                ids.data_ptr(),
                None if soft is None else soft.data_ptr(),
                rows.encoder,
                positions.data_ptr(),
            ),
            *(before.length, before_k, before_v, before.of_head),
            *(own.length, own_k, own_v, own.of_head, own.of_canvas),
            *(cos, sin, ctypes.addressof(sees), out.data_ptr()),
        )
        self._call("read", read)
        return out

    def _turns(self, count: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """RoPE's cos and sin [M, D / 2] by kind of layer, for at least `count` positions."""
        if not self._tables or len(self._tables[0][0]) < count:
            positions, half = torch.arange(1 << (count - 1).bit_length())[None], self.config.layers[0].head_dim // 2
            both = [rope_tables(frequencies, positions, torch.float32) for frequencies in self._frequencies]
            self._tables = [(cos[0, :, :half].contiguous(), sin[0, :, :half].contiguous()) for cos, sin in both]
        return self._tables


class Rows(NamedTuple):
    """The input of one call: ids [B, N], positions [N], masks by kind of layer, soft embeddings [B, N, d].

    With `encoder` the layer scalars are those of the causal stack. Of the first `unread` rows only keys and values are
    computed, no hidden rows.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    masks: list[Mask]
    soft: torch.Tensor | None = None
    encoder: bool = True
    unread: int = 0


def _prefix(cache: Cache) -> Stretch:
    """The valid part of a cache."""
    both = [cache.whole(layer) for layer in range(cache.layers)]
    keys, values = ([pair[side].data_ptr() for pair in both] for side in range(2))
    return Stretch(keys, values, cache.length, both[0][0].stride(1))
