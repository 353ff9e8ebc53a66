"""DiffusionGemma in int8 over the CPU's own kernels (kernels/cpu): the verbs of model.py, one call each.

Keys and values stay where they are: a text's are written behind the cache's own, a canvas' where its last step's were.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch

from midspan.engine.cache import Cache
from midspan.engine.draw import Drawn
from midspan.engine.following import Following
from midspan.engine.model import DiffusionGemma, ModelConfig, product_threads
from midspan.engine.native_weights import Weights
from midspan.engine.tree import Tree
from midspan.engine.weights import Uninitialised
from midspan.kernels import native
from midspan.kernels.native import Library

FLOAT = 4  # bytes


class Stretch(NamedTuple):
    """Where `length` keys and values [.., D] lie: addresses by layer, numbers from one head or canvas to the next."""

    keys: list[int]
    values: list[int]
    length: int
    of_head: int
    of_canvas: int = 0


class NativeGemma(DiffusionGemma):
    """DiffusionGemma whose layers and vocabulary are C++; `of` makes it of one whose weights are read."""

    own_threads = True
    library: Library
    _weights: Weights
    # Room for keys and values, and those of the canvases that were denoised last [2, L, B, H, width, D].
    _room: torch.Tensor
    _canvases: torch.Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self._kinds = list(dict.fromkeys(config.layers))
        self._tables: list[tuple[torch.Tensor, torch.Tensor]] = []

    @classmethod
    @torch.no_grad()
    def of(cls, model: DiffusionGemma, library: Library) -> NativeGemma:
        """The same network; of the other's weights only the embeddings are kept."""
        with torch.device("meta"), Uninitialised():
            made = cls(model.config)
        made.library, made.embed_tokens, made.embed_scale = library, model.embed_tokens, model.embed_scale
        made.requires_grad_(False)
        made._room = made._canvases = torch.empty(0)
        made._weights = Weights(model, made._kinds, library.lanes, product_threads())
        return made

    @property
    def network(self) -> native.Network:
        """What the kernels are given."""
        return self._weights.network

    @property
    def threads(self) -> int:
        """See DiffusionGemma."""
        return product_threads()

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """See DiffusionGemma."""
        rows = _rows(hidden)
        out = torch.empty(len(rows), self.config.vocab_size)
        self._call("logits", rows, len(rows), out)
        return out.view(*hidden.shape[:-1], self.config.vocab_size)

    def soft_embed(self, probabilities: torch.Tensor) -> torch.Tensor:
        """See DiffusionGemma; any weights of ids do, of which those below the last bit of 1 are none."""
        rows = _rows(probabilities)
        out = torch.empty(len(rows), self.config.hidden_size)
        self._call("soft", rows, len(rows), out)
        return out.view(*probabilities.shape[:-1], self.config.hidden_size)

    def log_probabilities(self, hidden: torch.Tensor, rows: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        """See DiffusionGemma."""
        hidden, out = _rows(hidden), torch.empty(len(wanted))
        room = torch.empty(len(hidden), self.config.vocab_size)
        self._call("log_probabilities", hidden, len(hidden), rows, wanted, len(wanted), room, out)
        return out

    def following(self, hidden: torch.Tensor, inner: torch.Tensor, stops: torch.Tensor, width: int) -> Following:
        """See DiffusionGemma."""
        rows, count = _rows(hidden), len(hidden)
        logits, values = torch.empty(count, self.config.vocab_size), torch.empty(count, width)
        ids, (ends, whole) = torch.empty(count, width, dtype=torch.long), torch.empty(2, count)
        self._call("following", rows, count, inner, stops, width, logits, values, ids, ends, whole)
        return Following(values, ids, ends, whole, logits)

    def draw(
        self, hidden: torch.Tensor, temperature: float, allowed: torch.Tensor, first: torch.Tensor, at: torch.Tensor
    ) -> Drawn:
        """A denoise step's decisions for hidden rows [R, d]; see draw.draw, which computes the same of logits.

        `allowed` [2, V] and `first` [R] are booleans, `at` [R] is where in the cumulative distribution samples are.
        """
        rows, count = _rows(hidden), len(hidden)
        weights, entropy = torch.empty(count, self.config.vocab_size), torch.empty(count)
        sample, argmax = torch.empty(2, count, dtype=torch.long)
        heat = ctypes.c_float(temperature)
        self._call("draw", rows, count, heat, allowed, first, at, weights, entropy, sample, argmax)
        return Drawn(
            entropy,
            sample,
            argmax,
            lambda kept: self.soft_embed(weights if kept is None else weights[kept]),
        )

    def _call(self, name: str, *arguments: torch.Tensor | int | ctypes.c_float | ctypes.Structure) -> None:
        """One of the library's functions, with the network and these. Raises ValueError, as for ids out of range."""
        given: list[object] = []
        for one in arguments:
            if isinstance(one, torch.Tensor):
                assert one.is_contiguous(), "the kernels know no strides"
                given.append(ctypes.c_void_p(one.data_ptr()))
            elif isinstance(one, ctypes.Structure):
                given.append(ctypes.byref(one))
            else:
                given.append(ctypes.c_int64(one) if isinstance(one, int) else one)
        wrong = getattr(self.library.functions, f"midspan_{name}")(ctypes.byref(self.network), *given)
        if wrong is not None:
            raise ValueError(wrong.decode())

    def prefill(self, ids: torch.Tensor, cache: Cache) -> torch.Tensor:
        """See DiffusionGemma."""
        rows = ids.shape[1]
        sees = torch.ones(rows, rows, dtype=torch.bool).tril()
        hidden = self._causal_read(ids, torch.arange(rows), sees, cache)
        cache.advance(rows)
        return hidden

    def score(self, texts: Sequence[Sequence[int]], cache: Cache) -> tuple[torch.Tensor, torch.Tensor]:
        """See DiffusionGemma; what begins alike is read once."""
        tree = Tree.of(texts)
        return self._causal_read(tree.ids[None], tree.depths, tree.sees, cache)[0], tree.rows

    def branch(
        self, ids: torch.Tensor, place: int, cache: Cache, sees: Mapping[int | None, torch.Tensor]
    ) -> torch.Tensor:
        """See DiffusionGemma."""
        rows = ids.shape[1]
        masks = [Mask.by_row(sees[shape.window], 0) for shape in self._kinds]
        hidden = self._read_text(ids, torch.full((rows,), place), cache, masks)
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
        """See DiffusionGemma."""
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
        return self._read(ids, positions, _prefix(cache), own, masks, soft, encoder=False)

    def keep(self, cache: Cache, rows: torch.Tensor, width: int) -> None:
        """See DiffusionGemma."""
        self._canvases = self._canvases[:, :, rows]

    @staticmethod
    def _sees(window: int | None, length: int, width: int, valid: torch.Tensor | None) -> Mask:
        """What canvases see: the last window - 1 of the cache, and of their own what is `valid` [B, width]."""
        first = 0 if window is None else max(0, length - window + 1)
        if not first and valid is None:
            return Mask.of_none()
        own = torch.ones(1, width, dtype=torch.bool) if valid is None else valid
        if not first:
            return Mask.by_key(own, length)
        return Mask.by_key(torch.cat(((torch.arange(length) >= first).expand(len(own), -1), own), dim=1), 0)

    def _causal_read(self, ids: torch.Tensor, depths: torch.Tensor, own: torch.Tensor, cache: Cache) -> torch.Tensor:
        """Ids [1, N] at `depths` [N] behind the cache; `own` [N, N] says which of them each may see."""
        length, positions = cache.length, cache.length + depths
        masks = []
        for shape in self._kinds:
            if shape.window is None or int(positions.max()) < shape.window:
                masks.append(Mask.by_row(own, length))
                continue
            seen = torch.cat((torch.ones(len(own), length, dtype=torch.bool), own), dim=1)
            near = positions[:, None] - torch.cat((torch.arange(length), positions)) < shape.window
            masks.append(Mask.by_row(seen & near, 0))
        return self._read_text(ids, positions, cache, masks)

    def _read_text(self, ids: torch.Tensor, positions: torch.Tensor, cache: Cache, masks: list[Mask]) -> torch.Tensor:
        """Ids [1, N] at positions [N] -> hidden [1, N, d]; their keys and values lie behind the cache's length."""
        rows, size = ids.shape[1], self.config.layers[0].head_dim
        cache.reserve(rows)
        before = _prefix(cache)
        behind = FLOAT * cache.length * size
        keys, values = ([address + behind for address in all_of] for all_of in (before.keys, before.values))
        own = Stretch(keys, values, rows, before.of_head)
        return self._read(ids, positions, before, own, masks, None, encoder=True)

    def _read(
        self,
        ids: torch.Tensor,
        positions: torch.Tensor,
        before: Stretch,
        own: Stretch,
        masks: list[Mask],
        soft: torch.Tensor | None,
        *,
        encoder: bool,
    ) -> torch.Tensor:
        """Ids [B, N] at positions [N] -> hidden [B, N, d]."""
        ids, soft = ids.contiguous(), None if soft is None else soft.contiguous()
        out = torch.empty(*ids.shape, self.config.hidden_size)
        lists = [_array(each) for each in (before.keys, before.values, own.keys, own.values)]
        tables = self._turns(int(positions.max()) + 1)
        lists += [_array([table.data_ptr() for table in of_kind]) for of_kind in zip(*tables, strict=True)]
        sees = (native.Sees * len(masks))(*(mask.sees for mask in masks))
        before_k, before_v, own_k, own_v, cos, sin = map(ctypes.addressof, lists)
        read = native.Read(
            *(*ids.shape, ids.data_ptr(), None if soft is None else soft.data_ptr(), encoder, positions.data_ptr()),
            *(before.length, before_k, before_v, before.of_head),
            *(own.length, own_k, own_v, own.of_head, own.of_canvas),
            *(cos, sin, ctypes.addressof(sees), out.data_ptr()),
        )
        self._call("read", read)
        return out

    def _turns(self, least: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """RoPE's cos and sin [M, D / 2] by kind of layer, for `least` positions or more."""
        if not self._tables or len(self._tables[0][0]) < least:
            positions, half = torch.arange(1 << (least - 1).bit_length())[None], self.config.layers[0].head_dim // 2
            both = [self._rope(shape, positions) for shape in self._kinds]
            self._tables = [(cos[0, :, :half].contiguous(), sin[0, :, :half].contiguous()) for cos, sin in both]
        return self._tables


class Mask(NamedTuple):
    """Which keys rows see, and the tensor that says so; it must live as long as `sees` is used."""

    sees: native.Sees
    seen: torch.Tensor | None = None

    @classmethod
    def of_none(cls) -> Mask:
        """Every row sees every key."""
        return cls(native.Sees())

    @classmethod
    def by_row(cls, seen: torch.Tensor, first: int) -> Mask:
        """Boolean [N, keys from `first` on]; those before are seen."""
        if len(seen) == 1 and bool(seen.all()):
            return cls.of_none()
        rows, keys = seen.shape
        out = torch.zeros(keys, rows + native.SPARE, dtype=torch.bool)
        out[:, :rows] = seen.T
        return cls(native.Sees(out.data_ptr(), first, 0, rows + native.SPARE, 1), out)

    @classmethod
    def by_key(cls, seen: torch.Tensor, first: int) -> Mask:
        """Boolean [1 or B, keys from `first` on], for all rows of a canvas; those before are seen."""
        out = seen.contiguous()
        return cls(native.Sees(out.data_ptr(), first, out.shape[1] if len(out) > 1 else 0, 1, 0), out)


def _prefix(cache: Cache) -> Stretch:
    """The valid part of a cache."""
    both = [cache.whole(layer) for layer in range(cache.layers)]
    keys, values = ([pair[side].data_ptr() for pair in both] for side in range(2))
    return Stretch(keys, values, cache.length, both[0][0].stride(1))


def _rows(tensor: torch.Tensor) -> torch.Tensor:
    """[.., d] as [R, d] without gaps."""
    return tensor.reshape(tensor.numel() // tensor.shape[-1], tensor.shape[-1]).contiguous()


def _array(addresses: Sequence[int]) -> ctypes.Array[ctypes.c_void_p]:
    return (ctypes.c_void_p * len(addresses))(*addresses)
