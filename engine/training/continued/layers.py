"""A decoder's blocks as training runs them on a CPU: whole texts, no cache."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from midspan.engine.llama import DecoderLayer

Layer = Callable[[DecoderLayer, Tensor, tuple[Tensor, Tensor]], Tensor]
# Up to here plain products and a fused softmax are faster than torch's flash attention for CPUs: at 272 tokens twice as
# fast, at 768 half as fast.
SHORT_TOKENS = 384


def long_layer(layer: DecoderLayer, x: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
    """One block as the network has it."""
    out: Tensor = layer(x, rope)
    return out


def short_layer(layer: DecoderLayer, x: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
    """The same block with attention by products; to be compiled, which joins what lies between them."""
    attention = layer.self_attn
    x = x + attention.output(by_products(*attention.project(layer.input_layernorm(x), rope)))
    out: Tensor = x + layer.mlp(layer.post_attention_layernorm(x))
    return out


def by_products(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Causal attention: [B, heads, N, d] over [B, kv heads, N, d] to [B, heads, N, d], softmax in float32."""
    rows, heads, tokens, size = queries.shape
    groups = keys.shape[1]
    per_group = queries.reshape(rows * groups, heads // groups * tokens, size)
    scores = torch.bmm(per_group, keys.reshape(rows * groups, tokens, size).transpose(1, 2)).float() * size**-0.5
    places = torch.arange(tokens)
    scores = scores.view(rows * groups, heads // groups, tokens, tokens)
    shares = scores.masked_fill(places > places[:, None], -torch.inf).softmax(-1).to(queries.dtype)
    mixed = torch.bmm(shares.view(rows * groups, -1, tokens), values.reshape(rows * groups, tokens, size))
    return mixed.view(rows, heads, tokens, size)


def compiled() -> tuple[Layer, Layer]:
    """Short and long layer through torch.compile; each is compiled once for each shape of its rows."""
    return torch.compile(short_layer, dynamic=False), torch.compile(long_layer, dynamic=False)
