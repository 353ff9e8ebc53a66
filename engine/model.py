"""DiffusionGemma's text network, from config to logits, in plain torch over kernels.*.

One stack of layers, three ways to run it: `prefill` (causal, writes the cache), `denoise` (bidirectional over cache and
canvas, writes nothing) and `score` (causal over a finished canvas, writes nothing). Encoder and decoder share every
weight but the layer scalars. Source: transformers 5.23.0, models/diffusion_gemma/modeling_diffusion_gemma.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from midspan.engine.cache import Cache
from midspan.engine.next_token import Following, following
from midspan.engine.weights.config_json import TextConfig, read_config_values
from midspan.kernels.attention import attention_reference
from midspan.kernels.experts import expert_mlp, experts_reference
from midspan.kernels.geglu import geglu_reference
from midspan.kernels.rms_norm import rms_norm_reference
from midspan.kernels.rope import rope_reference
from midspan.kernels.router import router_reference

# 128 MB in float32, beside which the release's weights fit on a card of 24 GB.
LOGITS = 1 << 25
Attend = Callable[[int, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""(layer, q [B, H, N, D], k [B, G, N, D], v [B, G, N, D]) -> [B, H, N, D]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerShape:
    """What differs between sliding and full layers; `window` is None in full layers, which also take V from K."""

    head_dim: int
    kv_heads: int
    window: int | None
    rope_theta: float
    rope_fraction: float
    rope_proportional: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """Every size of the network; all come from config.json, none has a default."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    heads: int
    experts: int
    top_k: int
    expert_size: int
    softcap: float
    eps: float
    canvas_length: int
    layers: tuple[LayerShape, ...]

    @classmethod
    def from_json(cls, config: Mapping[str, Any], file: str = "config.json") -> ModelConfig:
        """Read a DiffusionGemma config.json. Raises CheckpointError naming `file`, the key and what is allowed."""
        found = read_config_values(config, file)
        text = found.text_config
        return cls(
            vocab_size=text.vocab_size,
            hidden_size=text.hidden_size,
            intermediate_size=text.intermediate_size,
            heads=text.num_attention_heads,
            experts=text.num_experts,
            top_k=text.top_k_experts,
            expert_size=text.moe_intermediate_size,
            softcap=text.final_logit_softcapping,
            eps=text.rms_norm_eps,
            canvas_length=found.canvas_length,
            layers=tuple(_layer_shape(text, index) for index in range(text.num_hidden_layers)),
        )


def _layer_shape(text: TextConfig, index: int) -> LayerShape:
    (head_dim, kv_heads), rope = text.layer(index), text.rope(index)
    return LayerShape(
        head_dim=head_dim,
        kv_heads=kv_heads,
        window=text.sliding_window if text.layer_types[index] == "sliding_attention" else None,
        rope_theta=rope.rope_theta,
        rope_fraction=rope.partial_rotary_factor,
        rope_proportional=rope.rope_type == "proportional",
    )


class RMSNorm(nn.Module):
    """Root-mean-square norm with a learned scale [d]."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return rms_norm_reference(x, self.weight, self.eps)


class MLP(nn.Module):
    """Gated MLP: down(geglu(gate(x), up(x)))."""

    def __init__(self, size: int, inner: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(size, inner, bias=False)
        self.up_proj = nn.Linear(size, inner, bias=False)
        self.down_proj = nn.Linear(inner, size, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.down_proj(geglu_reference(self.gate_proj(x), self.up_proj(x)))
        return out


class SelfConditioning(MLP):
    """Adds the previous step's soft embeddings to the canvas embeddings, then normalises without a scale."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config.hidden_size, config.intermediate_size)
        self.pre_norm = RMSNorm(config.hidden_size, config.eps)

    def combine(self, embedded: torch.Tensor, soft: torch.Tensor) -> torch.Tensor:
        """Both [B, C, d]; zeros in `soft` on the first step, where the norm still applies."""
        return rms_norm_reference(embedded + self(self.pre_norm(soft)), None, self.pre_norm.eps)


class Attention(nn.Module):
    """Projections, norms and RoPE around an attention rule that the caller chooses."""

    def __init__(self, config: ModelConfig, shape: LayerShape) -> None:
        super().__init__()
        size, head = config.hidden_size, shape.head_dim
        self.head_dim, self.eps = head, config.eps
        self.q_proj = nn.Linear(size, config.heads * head, bias=False)
        self.k_proj = nn.Linear(size, shape.kv_heads * head, bias=False)
        self.v_proj = None if shape.window is None else nn.Linear(size, shape.kv_heads * head, bias=False)
        self.o_proj = nn.Linear(config.heads * head, size, bias=False)
        self.q_norm = RMSNorm(head, config.eps)
        self.k_norm = RMSNorm(head, config.eps)

    def forward(
        self, x: torch.Tensor, rope: tuple[torch.Tensor, torch.Tensor], layer: int, attend: Attend
    ) -> torch.Tensor:
        batch, rows, _ = x.shape
        heads = (batch, rows, -1, self.head_dim)
        q = rope_reference(self.q_norm(self.q_proj(x).view(heads)), *rope).transpose(1, 2)
        raw_k = self.k_proj(x).view(heads)
        # Full layers have no v_proj: V is K before its norm and rotation.
        raw_v = raw_k if self.v_proj is None else self.v_proj(x).view(heads)
        k = rope_reference(self.k_norm(raw_k), *rope).transpose(1, 2)
        v = rms_norm_reference(raw_v, None, self.eps).transpose(1, 2)
        out: torch.Tensor = self.o_proj(attend(layer, q, k, v).transpose(1, 2).reshape(batch, rows, -1))
        return out


class Router(nn.Module):
    """Parameters of the expert choice; see kernels/router.py."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.proj = nn.Linear(config.hidden_size, config.experts, bias=False)
        self.scale = nn.Parameter(torch.ones(config.hidden_size))
        self.per_expert_scale = nn.Parameter(torch.ones(config.experts))


class Experts(nn.Module):
    """Stacked expert weights; see kernels/experts.py."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate_up_proj = nn.Parameter(torch.empty(config.experts, 2 * config.expert_size, config.hidden_size))
        self.down_proj = nn.Parameter(torch.empty(config.experts, config.hidden_size, config.expert_size))

    def forward(self, x: torch.Tensor, weights: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        return experts_reference(x, weights, index, self.gate_up_proj, self.down_proj)


class Layer(nn.Module):
    """Attention, then a dense MLP and the experts side by side, each between norms; then the layer scalar."""

    layer_scalar: torch.Tensor
    encoder_layer_scalar: torch.Tensor

    def __init__(self, config: ModelConfig, shape: LayerShape) -> None:
        super().__init__()
        size, eps = config.hidden_size, config.eps
        self.top_k, self.eps = config.top_k, eps
        self.self_attn = Attention(config, shape)
        self.mlp = MLP(size, config.intermediate_size)
        self.router = Router(config)
        self.experts = Experts(config)
        self.input_layernorm = RMSNorm(size, eps)
        self.post_attention_layernorm = RMSNorm(size, eps)
        self.pre_feedforward_layernorm = RMSNorm(size, eps)
        self.pre_feedforward_layernorm_2 = RMSNorm(size, eps)
        self.post_feedforward_layernorm = RMSNorm(size, eps)
        self.post_feedforward_layernorm_1 = RMSNorm(size, eps)
        self.post_feedforward_layernorm_2 = RMSNorm(size, eps)
        self.register_buffer("layer_scalar", torch.ones(1))
        self.register_buffer("encoder_layer_scalar", torch.ones(1))

    def forward(
        self,
        x: torch.Tensor,
        rope: tuple[torch.Tensor, torch.Tensor],
        scalar: torch.Tensor,
        layer: int,
        attend: Attend,
    ) -> torch.Tensor:
        attended = self.self_attn(self.input_layernorm(x), rope, layer, attend)
        x = x + self.post_attention_layernorm(attended)
        dense = self.post_feedforward_layernorm_1(self.mlp(self.pre_feedforward_layernorm(x)))
        mixed = self.post_feedforward_layernorm_2(self._mixture(x))
        out: torch.Tensor = (x + self.post_feedforward_layernorm(dense + mixed)) * scalar
        return out

    def _mixture(self, x: torch.Tensor) -> torch.Tensor:
        """The experts' share; the router reads the raw residual x [B, N, d], the experts its norm."""
        rows = self.pre_feedforward_layernorm_2(x).flatten(0, 1)
        experts, router = self.experts, self.router
        if isinstance(experts, Experts) and experts.gate_up_proj.shape[0] == 1:
            # The softmax over one expert is 1, so a dense checkpoint needs no routing.
            only = expert_mlp(rows, experts.gate_up_proj[0], experts.down_proj[0])
            return (only * router.per_expert_scale).view_as(x)
        weights, index = router_reference(
            x.flatten(0, 1), router.scale, router.proj.weight, router.per_expert_scale, self.top_k, self.eps
        )
        out: torch.Tensor = experts(rows, weights, index)
        return out.view_as(x)


class DiffusionGemma(nn.Module):
    """The whole text network; parameter names are the release's without their `model.decoder.` prefix."""

    embed_scale: torch.Tensor
    # Whether products run on other threads than torch's.
    own_threads = False

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.self_conditioning = SelfConditioning(config)
        self.layers = nn.ModuleList(Layer(config, shape) for shape in config.layers)
        self.norm = RMSNorm(config.hidden_size, config.eps)
        self.register_buffer("embed_scale", torch.tensor(config.hidden_size**0.5), persistent=False)
        self._frequencies: dict[LayerShape, torch.Tensor] = {}

    def scalars(self, *, encoder: bool) -> list[torch.Tensor]:
        """The layer scalars [1] of the causal (encoder) or of the bidirectional (decoder) reading."""
        name = "encoder_layer_scalar" if encoder else "layer_scalar"
        return [layer.get_buffer(name) for layer in self.layers]

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of weights and activations."""
        return self.embed_tokens.weight.dtype

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.embed_tokens.weight.device

    @property
    def threads(self) -> int:
        """On how many threads products run on a CPU."""
        return torch.get_num_threads()

    def new_cache(self, capacity: int = 512) -> Cache:
        """An empty cache with room for `capacity` tokens; it grows."""
        return Cache(self.config.layers, dtype=self.dtype, device=self.device, capacity=capacity)

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        """Token ids [B, N] -> embeddings [B, N, d], scaled by sqrt(d) rounded to the weights' dtype."""
        out: torch.Tensor = self.embed_tokens(ids) * self.embed_scale.to(self.dtype)
        return out

    def soft_embed(self, probabilities: torch.Tensor) -> torch.Tensor:
        """Probabilities [..., V] in float32 -> the expected embedding [..., d], for self-conditioning."""
        return probabilities.to(self.dtype) @ self.embed_tokens.weight * self.embed_scale.to(self.dtype)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Hidden rows [..., d] -> soft-capped logits [..., V] in float32."""
        raw = F.linear(hidden, self.embed_tokens.weight).float()
        return raw.div_(self.config.softcap).tanh_() * self.config.softcap

    def log_probabilities(self, hidden: torch.Tensor, rows: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        """Of the ids `wanted` [R] after `rows` [R] of hidden [M, d], in nats [R]; LOGITS are in memory at once."""
        size, out = max(1, LOGITS // self.config.vocab_size), torch.empty(len(wanted), device=wanted.device)
        for first in range(0, len(hidden), size):
            here = (rows >= first) & (rows < first + size)
            logits, at = self.logits(hidden[first : first + size]), rows[here] - first
            out[here] = logits[at, wanted[here]] - logits.logsumexp(dim=-1)[at]
        return out

    def following(self, hidden: torch.Tensor, inner: torch.Tensor, stops: torch.Tensor, width: int) -> Following:
        """What may follow hidden rows [R, d]; see following.following."""
        return following(self.logits(hidden), inner, stops, width)

    def prefill(self, ids: torch.Tensor, cache: Cache) -> torch.Tensor:
        """Encode clean ids [1, N] causally behind the cache and write them into it. Returns hidden [1, N, d]."""
        rows = ids.shape[1]

        def attend(layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
            cache.write(layer, k, v)
            k, v = cache.read(layer, 0, cache.length + rows)
            return self._causal(layer, q, k, v)

        positions = torch.arange(cache.length, cache.length + rows, device=ids.device)[None]
        hidden = self.run(self.embed(ids), positions, self.scalars(encoder=True), attend)
        cache.advance(rows)
        return hidden

    def score(self, texts: Sequence[Sequence[int]], cache: Cache) -> tuple[torch.Tensor, torch.Tensor]:
        """Read texts behind the cache, each by itself from left to right, adding nothing to it.

        Returns hidden rows [M, d] and, text after text, which of them each id has [R]; equal beginnings may share rows.
        """
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

        positions = torch.arange(cache.length, cache.length + rows, device=ids.device)[None]
        return self.run(self.embed(ids), positions, self.scalars(encoder=True), attend)

    def denoise(
        self,
        ids: torch.Tensor,
        cache: Cache,
        soft: torch.Tensor | None = None,
        valid: torch.Tensor | None = None,
        *,
        frozen_rows: int = 0,
    ) -> torch.Tensor:
        """One bidirectional read of canvases [B, C] over the cache, adding nothing to it; returns hidden [B, C, d].

        `soft` [B, C, d] is the previous step's soft embedding (None on the first); `valid` [B, C + frozen_rows] is
        False where a canvas is only padded to the batch's width. Sliding layers see the last window - 1 cached keys.
        With `frozen_rows` the canvases go on for so many rows, whose keys and values are those of the last call.
        """
        rows = ids.shape[1] + frozen_rows
        cache.canvases.lay(ids.shape[0], rows)
        embedded = self.embed(ids)
        x = self.self_conditioning.combine(embedded, torch.zeros_like(embedded) if soft is None else soft)

        def attend(layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
            window = self.config.layers[layer].window
            start = 0 if window is None else max(0, cache.length - window + 1)
            k, v = cache.canvases.put(layer, start, rows, k, v)
            mask = None
            if valid is not None:
                mask = F.pad(valid, (cache.length - start, 0), value=True)[:, None, None, :]
            return attention_reference(q, k, v, mask)

        positions = torch.arange(cache.length, cache.length + ids.shape[1], device=ids.device)[None]
        return self.run(x, positions, self.scalars(encoder=False), attend)

    def keep(self, cache: Cache, rows: torch.Tensor, width: int) -> None:
        """Of the canvases [B, width] that `denoise` read last behind this cache, only `rows` [B'] (ascending) go on."""
        cache.canvases.keep(rows, width)

    def branch(
        self, ids: torch.Tensor, place: int, cache: Cache, sees: Mapping[int | None, torch.Tensor]
    ) -> torch.Tensor:
        """Read ids [1, N], each the end of a text of its own at position `place`; the cache's texts grow by them.

        Tokens of all texts stand behind their prefix in the cache. `sees` [N, all of the cache and these N] says by
        layer window which of them each id sees. Returns hidden [1, N, d].
        """
        rows = ids.shape[1]

        def attend(layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
            cache.write(layer, k, v)
            k, v = cache.read(layer, 0, cache.length + rows)
            return attention_reference(q, k, v, sees[self.config.layers[layer].window])

        positions = torch.full((1, rows), place, device=ids.device)
        hidden = self.run(self.embed(ids), positions, self.scalars(encoder=True), attend)
        cache.advance(rows)
        return hidden

    def run(
        self, x: torch.Tensor, positions: torch.Tensor, scalars: list[torch.Tensor], attend: Attend
    ) -> torch.Tensor:
        """The stack: embeddings x [B, N, d] at positions [B or 1, N], a scalar a layer, an attention rule."""
        tables = {shape: self._rope(shape, positions) for shape in dict.fromkeys(self.config.layers)}
        for index, layer in enumerate(self.layers):
            x = layer(x, tables[self.config.layers[index]], scalars[index], index, attend)
        out: torch.Tensor = self.norm(x)
        return out

    def _rope(self, shape: LayerShape, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if shape not in self._frequencies:
            self._frequencies[shape] = _rope_frequencies(shape).to(positions.device)
        angles = positions[..., None].float() * self._frequencies[shape]
        angles = torch.cat((angles, angles), dim=-1)
        return angles.cos().to(self.dtype), angles.sin().to(self.dtype)

    def _causal(self, layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Queries are the last rows of the keys; sliding layers see `window` keys, themselves included."""
        rows, keys, window = q.shape[2], k.shape[2], self.config.layers[layer].window
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


@cache
def product_threads() -> int:
    """Threads of products outside torch: as many as torch's at the first load, before a worker gives torch one."""
    return torch.get_num_threads()


def _rope_frequencies(shape: LayerShape) -> torch.Tensor:
    """Inverse frequencies [D / 2]; "proportional" keeps the exponent over D and sets the other pairs to zero."""
    if not shape.rope_proportional:
        rotated = int(shape.head_dim * shape.rope_fraction)
        return 1.0 / shape.rope_theta ** (torch.arange(0, rotated, 2).float() / rotated)
    live = int(shape.rope_fraction * shape.head_dim // 2)
    frequencies = 1.0 / shape.rope_theta ** (torch.arange(0, 2 * live, 2).float() / shape.head_dim)
    return F.pad(frequencies, (0, shape.head_dim // 2 - live))
