"""DiffusionGemma over the Triton kernels: the weights of model.py, every op a launch.

Projections that share an input are one product (QKV; gate and up), a layer's end and the next one's first norm are one
kernel, and keys and values are written where they stay. FP8 and 4-bit weights (weights/quantized.py) go to kernels of
their own. Denoise steps are captured as CUDA graphs (graph_loop.py); `branch`, which a beam search takes, stays plain
torch's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from midspan.engine.cache import Cache
from midspan.engine.model import MLP, Attention, DiffusionGemma, Experts, Layer, LayerShape, ModelConfig
from midspan.engine.weights.quantized import FourBitExperts, Fp8Experts, Fp8Linear
from midspan.kernels.attention import attention
from midspan.kernels.experts import experts, experts_fp8
from midspan.kernels.experts_4bit import experts_4bit
from midspan.kernels.geglu import geglu
from midspan.kernels.launch import INSTALLED
from midspan.kernels.linear import linear_fp8
from midspan.kernels.qkv import qkv
from midspan.kernels.rms_norm import rms_norm, rms_norm_join, rms_norm_residual
from midspan.kernels.router import router

Product = Callable[[torch.Tensor], torch.Tensor]
"""Rows [T, a] -> [T, b]."""

Mixture = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""(rows [T, d], weights [T, k] float32, experts [T, k] int32) -> [T, d]."""


def unsupported(config: ModelConfig) -> str | None:
    """Why the kernels cannot run this network here; None if they can."""
    if not INSTALLED:
        return "triton is not installed"
    sizes = sorted({shape.head_dim for shape in config.layers})
    wrong = [size for size in sizes if not 16 <= size <= 512 or size & (size - 1)]
    return f"heads of size {wrong[0]} are not a power of two from 16 to 512" if wrong else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Keys and values of B requests: a prefix, read only, and their own, written and read.

    By layer: keys, values [1, G, M, D], valid up to length [B], and own_keys, own_values [B, G, C, D]. valid [B, C] is
    None if every own position is visible. length and causal [B] are on the device.
    """

    keys: Sequence[torch.Tensor]
    values: Sequence[torch.Tensor]
    own_keys: Sequence[torch.Tensor]
    own_values: Sequence[torch.Tensor]
    length: torch.Tensor
    causal: torch.Tensor
    valid: torch.Tensor | None
    slot: torch.Tensor  # zeros [B]: all requests share the one prefix
    place: torch.Tensor  # 0 .. B - 1: where each writes its keys and values
    start: torch.Tensor  # zeros [B]: each writes from its first position on


def reading(
    cache: Cache, own: Sequence[tuple[torch.Tensor, torch.Tensor]], *, causal: bool, valid: torch.Tensor | None = None
) -> Reading:
    """A reading behind the valid part of `cache`, with a pair of own keys and values per layer."""
    batch, device = own[0][0].shape[0], own[0][0].device
    whole = [cache.whole(layer) for layer in range(cache.layers)]
    zeros = torch.zeros(batch, dtype=torch.int32, device=device)
    return Reading(
        keys=[keys for keys, _ in whole],
        values=[values for _, values in whole],
        own_keys=[keys for keys, _ in own],
        own_values=[values for _, values in own],
        length=torch.full((batch,), cache.length, dtype=torch.int32, device=device),
        causal=torch.full((batch,), causal, device=device),
        valid=valid,
        slot=zeros,
        place=torch.arange(batch, dtype=torch.int32, device=device),
        start=zeros,
    )


class FusedLayer:
    """A `Layer`, from its normed input to the next layer's normed input."""

    def __init__(self, layer: Layer, shape: LayerShape, number: int) -> None:
        self._layer, self._eps, self._window, self._number = layer, layer.eps, shape.window, number
        self._project, self._out = _projection(layer.self_attn), product(layer.self_attn.o_proj)
        self._dense = dense(layer.mlp)
        self._mixture = mixture(layer.experts)

    def __call__(
        self,
        x: torch.Tensor,
        normed: torch.Tensor,
        rope: tuple[torch.Tensor, torch.Tensor],
        scalars: tuple[torch.Tensor, torch.Tensor],
        at: Reading,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Residual rows x and their norm [B, N, d] -> the layer's x and its norm for the next layer.

        `scalars` are the layer's own [1] and the weight [d] of the next norm.
        """
        layer, eps, (scalar, next_norm) = self._layer, self._eps, scalars
        attended = self._attend(normed, rope, at)
        x, dense_in, expert_in = rms_norm_residual(
            attended,
            layer.post_attention_layernorm.weight,
            x,
            None,
            (layer.pre_feedforward_layernorm.weight, layer.pre_feedforward_layernorm_2.weight),
            eps,
        )
        route = layer.router
        weights, index = router(
            x.flatten(0, 1), route.scale, route.proj.weight, route.per_expert_scale, layer.top_k, eps
        )
        pair = (self._dense(dense_in), self._mixture(expert_in.flatten(0, 1), weights, index).view_as(x))
        pair_weights = (layer.post_feedforward_layernorm_1.weight, layer.post_feedforward_layernorm_2.weight)
        outer = layer.post_feedforward_layernorm.weight
        x, normed = rms_norm_join(pair, pair_weights, outer, x, scalar, (next_norm,), eps)
        return x, normed

    def _attend(self, normed: torch.Tensor, rope: tuple[torch.Tensor, torch.Tensor], at: Reading) -> torch.Tensor:
        number = self._number
        parts, own = self._layer.self_attn, (at.own_keys[number], at.own_values[number])
        q, k, v = self._project(normed)
        turned = qkv(q, k, v, parts.q_norm.weight, parts.k_norm.weight, *rope, *own, at.place, at.start, self._eps)
        mixed = attention(
            turned.transpose(1, 2),
            *(at.keys[number], at.values[number], *own, at.slot, at.length, at.causal, at.valid),
            self._window,
        )
        return self._out(mixed.transpose(1, 2).flatten(2))


class FusedNetwork:
    """DiffusionGemma's stack over the kernels; made from loaded weights, which it lays out anew."""

    @torch.no_grad()
    def __init__(self, model: DiffusionGemma) -> None:
        self.model = model
        layers = enumerate(zip(model.layers, model.shapes, strict=True))
        self._fused = [
            FusedLayer(layer, shape, number) for number, (layer, shape) in layers if isinstance(layer, Layer)
        ]
        self._condition = dense(model.self_conditioning)

    @torch.no_grad()
    def prefill(self, ids: torch.Tensor, cache: Cache) -> torch.Tensor:
        """Encode clean ids [1, N] causally behind the cache and write them into it. Returns hidden [1, N, d]."""
        begin, rows = cache.length, ids.shape[1]
        cache.reserve(rows)
        own = [cache.read(layer, begin, begin + rows) for layer in range(cache.layers)]
        positions = torch.arange(begin, begin + rows, device=ids.device)[None]
        hidden = self.read(self.model.embed(ids), positions, reading(cache, own, causal=True), encoder=True)
        cache.advance(rows)
        return hidden

    @torch.no_grad()
    def score(self, ids: torch.Tensor, cache: Cache) -> torch.Tensor:
        """Texts padded to one length [B, N], each read causally behind the cache -> hidden [B, N, d]."""
        batch, rows = ids.shape
        positions = torch.arange(cache.length, cache.length + rows, device=ids.device)[None]
        at = reading(cache, self.room(batch, rows), causal=True)
        return self.read(self.model.embed(ids), positions, at, encoder=True)

    @torch.no_grad()
    def denoise(
        self, ids: torch.Tensor, cache: Cache, soft: torch.Tensor | None = None, valid: torch.Tensor | None = None
    ) -> torch.Tensor:
        """A forward pass over canvases; see bound.CanvasReader. It keeps nothing, so there are no frozen rows."""
        batch, rows = ids.shape
        own, weight = self.room(batch, rows), self.model.embed_tokens.weight
        at = reading(cache, own, causal=False, valid=None if valid is None else valid.contiguous())
        none = weight.new_zeros(batch, rows, self.model.config.hidden_size)
        return self.read_canvas(ids, none if soft is None else soft, at)

    def room(self, batch: int, width: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Memory for keys and values of `batch` canvases [B, G, width, D], a pair per layer."""
        like = self.model.embed_tokens.weight
        shapes = [(batch, layer.kv_heads, width, layer.head_dim) for layer in self.model.shapes]
        return [(like.new_empty(shape), like.new_empty(shape)) for shape in shapes]

    def read_canvas(self, ids: torch.Tensor, soft: torch.Tensor, at: Reading) -> torch.Tensor:
        """Canvases [B, N] and soft embeddings [B, N, d] (zeros at first) -> hidden [B, N, d], without the host."""
        parts = self.model.self_conditioning
        conditioned = self._condition(rms_norm(soft, parts.pre_norm.weight, parts.pre_norm.eps))
        x = rms_norm(self.model.embed(ids) + conditioned, None, parts.pre_norm.eps)
        positions = (at.length[:1, None] + torch.arange(ids.shape[1], device=ids.device)).contiguous()
        return self.read(x, positions, at, encoder=False)

    def read(self, x: torch.Tensor, positions: torch.Tensor, at: Reading, *, encoder: bool) -> torch.Tensor:
        """The stack: embeddings x [B, N, d] at positions [1, N] -> the last norm's rows [B, N, d]."""
        model = self.model
        tables = {shape: model.rope(shape, positions) for shape in dict.fromkeys(model.shapes)}
        inputs = [layer.get_submodule("input_layernorm").get_parameter("weight") for layer in model.layers]
        pairs = zip(model.scalars(encoder=encoder), [*inputs[1:], model.norm.weight], strict=True)
        normed = rms_norm(x, inputs[0], model.config.eps)
        for layer, shape, scalars in zip(self._fused, model.shapes, pairs, strict=True):
            x, normed = layer(x, normed, tables[shape], scalars, at)
        return normed


def dense(mlp: MLP) -> Product:
    """A dense MLP [.., d] -> [.., d] whose gate and up are one product."""
    both, down = concatenated(mlp.gate_proj, mlp.up_proj), product(mlp.down_proj)
    return lambda x: down(geglu(both(x).flatten(0, -2))).view_as(x)


def mixture(layer: nn.Module) -> Mixture:
    """The experts of a layer, in any form."""
    if isinstance(layer, Fp8Experts):
        gate_up, down = (layer.gate_up_proj, layer.gate_up_scale), (layer.down_proj, layer.down_scale)
        return lambda x, weights, index: experts_fp8(x, weights, index, *gate_up, *down)
    if isinstance(layer, FourBitExperts):
        packed = layer.gate_up, layer.down
        return lambda x, weights, index: experts_4bit(x, weights, index, *packed)
    assert isinstance(layer, Experts)
    plain = layer.gate_up_proj, layer.down_proj
    return lambda x, weights, index: experts(x, weights, index, *plain)


def concatenated(*layers: nn.Module) -> Product:
    """Projections of the same rows as one product, if all have the same form, else one by one."""
    if len({type(layer) for layer in layers}) > 1:
        each = [product(layer) for layer in layers]
        return lambda x: torch.cat([one(x) for one in each], dim=-1)
    whole = _whole(layers, "weight")
    if isinstance(layers[0], Fp8Linear):
        scale = _whole(layers, "scale")
        return lambda x: _fp8(x, whole, scale)
    return lambda x: F.linear(x, whole)


def product(layer: nn.Module) -> Product:
    """One product."""
    return concatenated(layer)


def _whole(layers: Sequence[nn.Module], name: str) -> torch.Tensor:
    """The layers' tensors of this name, stacked in memory; their own become views of it."""
    own: list[torch.Tensor] = [getattr(layer, name).detach() for layer in layers]
    if len(own) == 1:
        return own[0]
    # FP8 is concatenated as bytes: not every device concatenates it as numbers.
    raw = torch.cat([one.view(torch.uint8) if one.element_size() == 1 else one for one in own])
    whole = raw.view(own[0].dtype)
    for layer, part in zip(layers, whole.split([len(one) for one in own]), strict=True):
        setattr(layer, name, nn.Parameter(part, requires_grad=False) if name == "weight" else part)
    return whole


def _fp8(x: torch.Tensor, weight: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    rows: torch.Tensor = linear_fp8(x.flatten(0, -2), weight, scale).unflatten(0, x.shape[:-1])
    return rows


def _projection(parts: Attention) -> Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]]:
    """Rows [B, N, d] -> q [B, N, H, D] and k, v [B, N, G, D], slices of one product; v None where V comes from K."""
    layers = [layer for layer in (parts.q_proj, parts.k_proj, parts.v_proj) if layer is not None]
    widths, whole, size = [len(layer.weight) for layer in layers], concatenated(*layers), parts.head_dim

    def run(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        q, k, *v = (part.unflatten(-1, (-1, size)) for part in whole(x).split(widths, dim=-1))
        return q, k, v[0] if v else None

    return run
