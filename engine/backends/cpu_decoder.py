"""The `llama` family in int8 and int4 over the CPU's own kernels (kernels/cpu/decoder.cpp); see llama.py."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable, Sequence

import torch

from midspan.engine.backends.backend import BranchMask, Interrupted
from midspan.engine.backends.cpu_calls import CpuCalls, Mask, addresses, call, product_threads
from midspan.engine.backends.cpu_decoder_weights import DecoderWeights
from midspan.engine.backends.plain import FIRST_CAPACITY
from midspan.engine.backends.trie import Trie
from midspan.engine.cache import Cache
from midspan.engine.llama import LlamaConfig
from midspan.engine.weights.load_llama import Matrix
from midspan.kernels import native
from midspan.kernels.native import Library

# Products of two numbers between two questions whether to go on: about 10 ms on two cores.
PRODUCTS = 500_000_000


class CpuDecoder(CpuCalls):
    """A llama-family network whose layers and vocabulary are C++; see Backend."""

    @torch.no_grad()
    def __init__(self, config: LlamaConfig, tensors: Iterable[tuple[str, Matrix]], library: Library) -> None:
        """From all tensors of a network, under Hugging Face's names."""
        self.config, self.shapes = config, config.shapes
        self._weights = DecoderWeights(config, tensors, library.lanes, product_threads())
        self._turns = torch.empty(2, 0, self.config.head_dim // 2)
        self._stop: Callable[[], bool] = lambda: False
        super().__init__(library, self._weights.network, self._weights.parameters, tuple(sorted(self._weights.forms)))

    def new_cache(self, expected: int = FIRST_CAPACITY) -> Cache:
        """See Backend."""
        capacity = min(expected, FIRST_CAPACITY)
        return Cache(self.shapes, dtype=torch.float32, device=self.device, capacity=capacity)

    def watch(self, stop: Callable[[], bool]) -> None:
        """See Backend."""
        self._stop = stop

    def release(self) -> None:
        """See Backend; only caches hold memory."""

    def prefill(self, ids: torch.Tensor, cache: Cache, last: int | None = None) -> torch.Tensor:
        """See Backend."""
        rows = ids.shape[1]
        unread = 0 if last is None else max(0, rows - last)
        sees = torch.ones(rows, rows, dtype=torch.bool).tril()
        mask = Mask.by_row(sees, cache.length)
        hidden = self._read(ids, cache.length + torch.arange(rows), mask, cache, unread)
        cache.advance(rows)
        return hidden[:, unread:]

    def score(self, texts: Sequence[Sequence[int]], cache: Cache) -> tuple[torch.Tensor, torch.Tensor]:
        """See Backend; equal beginnings are read once."""
        trie = Trie.of(texts)
        mask = Mask.by_row(trie.sees, cache.length)
        return self._read(trie.ids[None], cache.length + trie.depths, mask, cache)[0], trie.rows

    def branch(self, ids: torch.Tensor, mask: BranchMask, cache: Cache) -> torch.Tensor:
        """See Backend."""
        rows = ids.shape[1]
        hidden = self._read(ids, torch.full((rows,), mask.place), Mask.by_row(mask.sees, 0), cache)
        cache.advance(rows)
        return hidden

    def _read(
        self, ids: torch.Tensor, positions: torch.Tensor, mask: Mask, cache: Cache, unread: int = 0
    ) -> torch.Tensor:
        """Ids [1, N] at positions [N] -> hidden [1, N, d]; writes keys and values behind the cache's valid part.

        Raises Interrupted between two layers; what is written then is not valid.
        """
        x = self._weights.embed(ids[0])
        cache.reserve(len(x))
        both = [cache.whole(layer) for layer in range(cache.layers)]
        keys, values = (addresses([pair[side].data_ptr() for pair in both]) for side in range(2))
        cos, sin = self._tables(int(positions.max()) + 1)
        at_once = max(1, PRODUCTS // (len(x) * self._weights.layer_products))
        for first in range(0, cache.layers, at_once):
            if first and self._stop():
                raise Interrupted
            text = native.Text(
                *(len(x), unread, first, min(first + at_once, cache.layers), x.data_ptr()),
                *(positions.data_ptr(), cache.length, ctypes.addressof(keys), ctypes.addressof(values)),
                *(both[0][0].stride(1), cos.data_ptr(), sin.data_ptr(), mask.sees),
            )
            call(self.library, "decode", self._weights.decoder, text)
        return x[None]

    def _tables(self, count: int) -> torch.Tensor:
        """RoPE's cosines and sines [2, M, D / 2], of at least `count` positions."""
        if self._turns.shape[1] < count:
            positions = torch.arange(1 << (count - 1).bit_length())
            half = self.config.head_dim // 2
            both = self.config.rope.turns(positions, torch.float32)
            self._turns = torch.stack([table[:, :half] for table in both])
        return self._turns
