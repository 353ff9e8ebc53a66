"""The `llama` family in plain torch: llama, qwen2 and qwen3 decoders with grouped heads, RoPE, SwiGLU and RMS norms.

Parameters are named as in Hugging Face's checkpoints (`model.layers.0.self_attn.q_proj.weight`), so that a folder's
safetensors load as they are. Read around an attention rule that a backend brings (backends/plain.py), or, in training,
by itself behind a KeyValueCache.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from midspan.engine.api import CheckpointError
from midspan.engine.rope import Rope, yarn_gain
from midspan.engine.weights.llama_json import LlamaValues, RopeValues, read_llama_values

Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""(layer, q [B, H, N, D] scaled, k [B, G, N, D], v [B, G, N, D]) -> [B, H, N, D]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerSizes:
    """Sizes of a layer's keys and values; every token sees all before it."""

    kv_heads: int
    head_dim: int
    window: None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LlamaConfig:
    """Sizes and switches of one decoder, as its config.json states them."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    rope: Rope
    rms_eps: float
    tied: bool
    qkv_bias: bool
    output_bias: bool
    qk_norm: bool
    max_positions: int

    @property
    def shapes(self) -> Sequence[LayerSizes]:
        """Keys and values by layer."""
        return (LayerSizes(kv_heads=self.kv_heads, head_dim=self.head_dim),) * self.layers

    @classmethod
    def from_json(cls, found: Mapping[str, Any], file: str = "config.json") -> LlamaConfig:
        """Read a config.json's object. Raises CheckpointError naming `file`, the key and what is allowed."""
        values, stretch = read_llama_values(found, file)
        family, bias = values.model_type, values.attention_bias
        return cls(
            vocab_size=values.vocab_size,
            hidden_size=values.hidden_size,
            intermediate_size=values.intermediate_size,
            layers=values.num_hidden_layers,
            heads=values.num_attention_heads,
            kv_heads=values.groups,
            head_dim=values.head,
            rope=_rope(values, stretch),
            rms_eps=values.rms_norm_eps,
            tied=values.tie_word_embeddings,
            qkv_bias=family == "qwen2" or bias,
            output_bias=family != "qwen2" and bias,
            qk_norm=family == "qwen3",
            max_positions=values.max_position_embeddings,
        )


def _rope(values: LlamaValues, stretch: RopeValues) -> Rope:
    """Rotary positions with what is left out as transformers has it."""
    factor = stretch.factor or 1.0
    gain = stretch.attention_factor or yarn_gain(factor, stretch.mscale, stretch.mscale_all_dim)
    return Rope(
        size=values.head,
        theta=stretch.rope_theta or values.rope_theta,
        kind=stretch.rope_type,
        factor=factor,
        trained=stretch.original_max_position_embeddings or values.max_position_embeddings,
        low=stretch.low_freq_factor,
        high=stretch.high_freq_factor,
        fast=stretch.beta_fast or 32.0,
        slow=stretch.beta_slow or 1.0,
        truncate=stretch.truncate,
        gain=gain if stretch.rope_type == "yarn" else 1.0,
    )


class KeyValueCache:
    """Keys and values [B, kv heads, capacity, head_dim] of every layer; `length` positions of them are filled."""

    def __init__(self, config: LlamaConfig, rows: int, capacity: int, dtype: torch.dtype) -> None:
        shape = (config.layers, 2, rows, config.kv_heads, capacity, config.head_dim)
        self.stored = torch.zeros(shape, dtype=dtype)
        self.length = 0

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write [B, kv heads, N, head_dim] behind `length`, which the whole pass then advances; returns all filled."""
        end = self.length + keys.shape[2]
        stored = self.stored[layer]
        stored[0, :, :, self.length : end] = keys
        stored[1, :, :, self.length : end] = values
        return stored[0, :, :, :end], stored[1, :, :, :end]

    def truncate(self, length: int) -> None:
        """Forget what stands behind `length` positions."""
        self.length = min(self.length, length)


class RmsNorm(nn.Module):
    """Root mean square norm of the last dimension, computed in float32."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """[..., width] to the same."""
        wide = x.float()
        return self.weight * (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)).to(x.dtype)


class Attention(nn.Module):
    """Causal attention with grouped key and value heads."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.config, size = config, config.head_dim
        self.q_proj = nn.Linear(config.hidden_size, config.heads * size, bias=config.qkv_bias)
        self.k_proj = nn.Linear(config.hidden_size, config.kv_heads * size, bias=config.qkv_bias)
        self.v_proj = nn.Linear(config.hidden_size, config.kv_heads * size, bias=config.qkv_bias)
        self.o_proj = nn.Linear(config.heads * size, config.hidden_size, bias=config.output_bias)
        self.q_norm: nn.Module = RmsNorm(size, config.rms_eps) if config.qk_norm else nn.Identity()
        self.k_norm: nn.Module = RmsNorm(size, config.rms_eps) if config.qk_norm else nn.Identity()

    def project(self, x: Tensor, rope: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """[B, N, hidden] to rotated queries [B, heads, N, head_dim] and keys, and values [B, kv heads, N, head_dim]."""
        rows, tokens, _ = x.shape
        size = self.config.head_dim
        queries = self.q_norm(self.q_proj(x).view(rows, tokens, -1, size)).transpose(1, 2)
        keys = self.k_norm(self.k_proj(x).view(rows, tokens, -1, size)).transpose(1, 2)
        values = self.v_proj(x).view(rows, tokens, -1, size).transpose(1, 2)
        return rotate(queries, *rope), rotate(keys, *rope), values

    def output(self, mixed: Tensor) -> Tensor:
        """Mixed values [B, heads, N, head_dim] to [B, N, hidden]."""
        out: Tensor = self.o_proj(mixed.transpose(1, 2).flatten(2))
        return out

    def forward(self, x: Tensor, rope: tuple[Tensor, Tensor], cache: KeyValueCache | None, layer: int) -> Tensor:
        """[B, N, hidden] behind what `cache` holds to [B, N, hidden]."""
        queries, keys, values = self.project(x, rope)
        mask, tokens = None, x.shape[1]
        if cache is not None:
            keys, values = cache.append(layer, keys, values)
            seen = keys.shape[2]
            mask = torch.ones(tokens, seen, dtype=torch.bool).tril(seen - tokens) if 1 < tokens < seen else None
        causal = mask is None and tokens > 1
        # Grouped heads by repetition are slower, and the fused kernel takes them as they are.
        mixed = F.scaled_dot_product_attention(queries, keys, values, mask, is_causal=causal, enable_gqa=True)
        return self.output(mixed)

    def read(self, x: Tensor, rope: tuple[Tensor, Tensor], layer: int, attend: Attend) -> Tensor:
        """[B, N, hidden] to the same, around an attention rule that scales nothing."""
        queries, keys, values = self.project(x, rope)
        return self.output(attend(layer, queries * self.config.head_dim**-0.5, keys, values))


class Mlp(nn.Module):
    """SwiGLU (Shazeer 2020, arXiv:2002.05202)."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, N, hidden] to the same."""
        out: Tensor = self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
        return out


class DecoderLayer(nn.Module):
    """One block: attention and SwiGLU, each behind a norm and beside a residual."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.self_attn, self.mlp = Attention(config), Mlp(config)
        self.input_layernorm = RmsNorm(config.hidden_size, config.rms_eps)
        self.post_attention_layernorm = RmsNorm(config.hidden_size, config.rms_eps)

    def forward(
        self, x: Tensor, rope: tuple[Tensor, Tensor], cache: KeyValueCache | None = None, layer: int = 0
    ) -> Tensor:
        """[B, N, hidden] to the same."""
        x = x + self.self_attn(self.input_layernorm(x), rope, cache, layer)
        out: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return out

    def read(self, x: Tensor, rope: tuple[Tensor, Tensor], layer: int, attend: Attend) -> Tensor:
        """[B, N, hidden] to the same, around an attention rule."""
        x = x + self.self_attn.read(self.input_layernorm(x), rope, layer, attend)
        out: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return out


class Decoder(nn.Module):
    """Embedding, blocks and last norm: what Hugging Face calls `model`."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.layers))
        self.norm = RmsNorm(config.hidden_size, config.rms_eps)

    def blocks(self) -> list[DecoderLayer]:
        """The layers, first to last."""
        return [layer for layer in self.layers if isinstance(layer, DecoderLayer)]


class Llama(nn.Module):
    """The whole network: hidden states, and logits where they are wanted."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.config, self.model = config, Decoder(config)
        if not config.tied:
            self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    @property
    def head(self) -> Tensor:
        """The output embedding [vocabulary, hidden]."""
        weight: Tensor = self.model.embed_tokens.weight if self.config.tied else self.lm_head.weight
        return weight

    def forward(self, ids: Tensor, cache: KeyValueCache | None = None) -> Tensor:
        """Hidden states [B, N, hidden] before the last norm; ids [B, N] stand behind what `cache` holds."""
        start = 0 if cache is None else cache.length
        x: Tensor = self.model.embed_tokens(ids)
        rope = rotations(self.config, start, ids.shape[1], x.dtype)
        for place, layer in enumerate(self.model.layers):
            x = layer(x, rope, cache, place)
        if cache is not None:
            cache.length += ids.shape[1]
        return x

    @property
    def shapes(self) -> Sequence[LayerSizes]:
        """Keys and values by layer."""
        return self.config.shapes

    @property
    def vocab_size(self) -> int:
        """V."""
        return self.config.vocab_size

    @property
    def dtype(self) -> torch.dtype:
        """Of weights and activations."""
        return self.model.embed_tokens.weight.dtype

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.embed_tokens.weight.device

    def embed(self, ids: Tensor) -> Tensor:
        """Token ids [B, N] to [B, N, hidden]."""
        out: Tensor = self.model.embed_tokens(ids)
        return out

    def read(self, x: Tensor, positions: Tensor, attend: Attend) -> Tensor:
        """[B, N, hidden] at positions [B or 1, N] to hidden states before the last norm, around an attention rule."""
        cosines, sines = self.config.rope.turns(positions, x.dtype)
        for place, layer in enumerate(self.model.blocks()):
            x = layer.read(x, (cosines[:, None], sines[:, None]), place, attend)
        return x

    def logits(self, hidden: Tensor) -> Tensor:
        """Hidden states [..., hidden] to logits [..., vocabulary] in float32."""
        return F.linear(self.model.norm(hidden), self.head).float()


def rotations(config: LlamaConfig, start: int, tokens: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """RoPE's cosines and sines [tokens, head_dim] from position `start` on."""
    return config.rope.turns(torch.arange(start, start + tokens), dtype)


def rotate(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Turn [..., tokens, head_dim] by its positions; first and second half of a head are a pair's two parts."""
    first, second = x.chunk(2, dim=-1)
    return x * cosines + torch.cat([-second, first], dim=-1) * sines


def load_state(network: Llama, tensors: dict[str, Tensor]) -> None:
    """Copy a checkpoint's tensors in. Raises CheckpointError where names or shapes are not the network's."""
    own = dict(network.named_parameters())
    if differing := _first(
        sorted(set(own) ^ (set(tensors) - {"lm_head.weight"} if network.config.tied else set(tensors)))
    ):
        raise CheckpointError(
            f"model.safetensors: tensor `{differing}` is missing or unknown; copy the whole checkpoint"
        )
    for name, parameter in own.items():
        if parameter.shape != tensors[name].shape:
            shapes = f"{list(tensors[name].shape)}, config.json says {list(parameter.shape)}"
            raise CheckpointError(f"model.safetensors: `{name}` is {shapes}; copy both from one checkpoint")
        with torch.no_grad():
            parameter.copy_(tensors[name])


def _first(names: Sequence[str]) -> str | None:
    return names[0] if names else None
