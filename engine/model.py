"""DiffusionGemma's text network, from config to logits, in plain torch over kernels.*.

One stack of layers around an attention rule that a backend brings (backends/plain.py): read causally it is the encoder,
read in both directions over a cache and a canvas the decoder. They share every weight but the layer scalars. Source:
transformers 5.23.0, models/diffusion_gemma/modeling_diffusion_gemma.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from midspan.engine.weights.config_json import TextConfig, read_config_values
from midspan.kernels.experts import expert_mlp, experts_reference
from midspan.kernels.geglu import geglu_reference
from midspan.kernels.rms_norm import rms_norm_reference
from midspan.kernels.rope import rope_reference
from midspan.kernels.router import router_reference

Attend = Callable[[int, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""(layer, q [B, H, N, D], k [B, G, N, D], v [B, G, N, D]) -> [B, H, N, D]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerShape:
    """Sizes that differ between sliding and full layers; `window` is None in full layers, which also take V from K."""

    head_dim: int
    kv_heads: int
    window: int | None
    rope_theta: float
    rope_fraction: float
    rope_proportional: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """The sizes of the network; all come from config.json, none has a default."""

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
    """Projections, norms and RoPE around an attention rule that the caller gives."""

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
        """The experts' output; the router reads the raw residual x [B, N, d], the experts its norm."""
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
        """The layer scalars [1] of the causal (encoder) or of the bidirectional (decoder) pass."""
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
    def vocab_size(self) -> int:
        """V."""
        return self.config.vocab_size

    @property
    def shapes(self) -> tuple[LayerShape, ...]:
        """Each layer's keys, values and window."""
        return self.config.layers

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

    def read(self, x: torch.Tensor, positions: torch.Tensor, attend: Attend) -> torch.Tensor:
        """The causal (encoder) pass: embeddings x [B, N, d] at positions [B or 1, N] -> hidden [B, N, d]."""
        return self.run(x, positions, self.scalars(encoder=True), attend)

    def run(
        self, x: torch.Tensor, positions: torch.Tensor, scalars: list[torch.Tensor], attend: Attend
    ) -> torch.Tensor:
        """The stack: embeddings x [B, N, d] at positions [B or 1, N], one scalar per layer, an attention rule."""
        tables = {shape: self.rope(shape, positions) for shape in dict.fromkeys(self.config.layers)}
        for index, layer in enumerate(self.layers):
            x = layer(x, tables[self.config.layers[index]], scalars[index], index, attend)
        out: torch.Tensor = self.norm(x)
        return out

    def rope(self, shape: LayerShape, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """RoPE's cos and sin [B or 1, N, D] of a kind of layer at positions [B or 1, N]."""
        if shape not in self._frequencies:
            self._frequencies[shape] = rope_frequencies(shape).to(positions.device)
        return rope_tables(self._frequencies[shape], positions, self.dtype)


def rope_tables(
    frequencies: torch.Tensor, positions: torch.Tensor, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cos and sin [B or 1, N, D] of frequencies [D / 2] at positions [B or 1, N]."""
    angles = positions[..., None].float() * frequencies
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos().to(dtype), angles.sin().to(dtype)


def rope_frequencies(shape: LayerShape) -> torch.Tensor:
    """Inverse frequencies [D / 2]; "proportional" keeps the exponent over D and sets the other pairs to zero."""
    if not shape.rope_proportional:
        rotated = int(shape.head_dim * shape.rope_fraction)
        return 1.0 / shape.rope_theta ** (torch.arange(0, rotated, 2).float() / rotated)
    live = int(shape.rope_fraction * shape.head_dim // 2)
    frequencies = 1.0 / shape.rope_theta ** (torch.arange(0, 2 * live, 2).float() / shape.head_dim)
    return F.pad(frequencies, (0, shape.head_dim // 2 - live))
