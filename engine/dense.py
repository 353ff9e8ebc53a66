"""The layers of a one-expert checkpoint, folded for few rows: the same function in half of the operations.

At a batch of some dozen rows a CPU spends as long on starting operations as on multiplying. So the norms' scales go
into the matrices that follow them, and what reads the same rows becomes one product: q, k and v; the gates and ups of
the dense MLP and of the only expert (whose routing weight is the softmax of one number, 1).
"""

from __future__ import annotations

import torch

from midspan.engine.model import Attend, DiffusionGemma, Layer
from midspan.kernels.geglu import geglu_reference
from midspan.kernels.rms_norm import rms_norm_reference
from midspan.kernels.rope import rope_reference
from midspan.kernels.rows import linear_in_steps


def fold(model: DiffusionGemma) -> None:
    """Let the model run through folded layers from now on. Its weights must be in place, and of one expert."""
    model.stack = [DenseLayer(layer) for layer in model.layers if isinstance(layer, Layer)]
    model.head = linear_in_steps


class DenseLayer:
    """What `Layer` computes, from folded copies of its weights; made once, after the weights are loaded."""

    @torch.no_grad()
    def __init__(self, layer: Layer) -> None:
        attention, mlp, experts = layer.self_attn, layer.mlp, layer.experts
        assert experts.gate_up_proj.shape[0] == 1, "only a checkpoint of one expert is dense"
        self._eps, self._head_dim = layer.eps, attention.head_dim
        parts = [attention.q_proj.weight, attention.k_proj.weight]
        self._own_values = attention.v_proj is not None
        if attention.v_proj is not None:
            parts.append(attention.v_proj.weight)
        self._qkv = _folded(torch.cat(parts), layer.input_layernorm.weight)
        query, key = attention.q_norm.weight, attention.k_norm.weight
        self._heads = len(attention.q_proj.weight) // self._head_dim
        self._key_heads = len(attention.k_proj.weight) // self._head_dim
        self._head_scale = torch.cat((query.expand(self._heads, -1), key.expand(self._key_heads, -1)))
        self._out = attention.o_proj.weight
        expert_gate, expert_up = experts.gate_up_proj[0].chunk(2)
        dense, expert = layer.pre_feedforward_layernorm.weight, layer.pre_feedforward_layernorm_2.weight
        self._gate_up = torch.cat(
            (
                _folded(mlp.gate_proj.weight, dense),
                _folded(expert_gate, expert),
                _folded(mlp.up_proj.weight, dense),
                _folded(expert_up, expert),
            )
        )
        self._down = mlp.down_proj.weight
        self._expert_down = experts.down_proj[0] * layer.router.per_expert_scale
        self._after_attention = layer.post_attention_layernorm.weight
        self._after_dense = layer.post_feedforward_layernorm_1.weight
        self._after_expert = layer.post_feedforward_layernorm_2.weight
        self._after = layer.post_feedforward_layernorm.weight

    def __call__(
        self,
        x: torch.Tensor,
        rope: tuple[torch.Tensor, torch.Tensor],
        scalar: torch.Tensor,
        layer: int,
        attend: Attend,
    ) -> torch.Tensor:
        """See model.Layer."""
        attended = linear_in_steps(self._attention(self._unit(x), rope, layer, attend), self._out)
        x = torch.addcmul(x, self._unit(attended), self._after_attention)
        gate, up = linear_in_steps(self._unit(x), self._gate_up).chunk(2, dim=-1)
        inner = geglu_reference(gate, up)
        size = self._down.shape[1]
        dense = self._unit(linear_in_steps(inner[..., :size], self._down)) * self._after_dense
        mixed = torch.addcmul(
            dense, self._unit(linear_in_steps(inner[..., size:], self._expert_down)), self._after_expert
        )
        return torch.addcmul(x, self._unit(mixed), self._after) * scalar

    def _attention(
        self, x: torch.Tensor, rope: tuple[torch.Tensor, torch.Tensor], layer: int, attend: Attend
    ) -> torch.Tensor:
        batch, rows, _ = x.shape
        raw = linear_in_steps(x, self._qkv).view(batch, rows, -1, self._head_dim)
        both = self._heads + self._key_heads
        normed = self._unit(raw)
        turned = rope_reference(normed[:, :, :both] * self._head_scale, *rope)
        q, k = turned.transpose(1, 2).split((self._heads, self._key_heads), dim=1)
        v = normed[:, :, both:] if self._own_values else normed[:, :, self._heads : both]
        return attend(layer, q, k, v.transpose(1, 2)).transpose(1, 2).reshape(batch, rows, -1)

    def _unit(self, x: torch.Tensor) -> torch.Tensor:
        return rms_norm_reference(x, None, self._eps)


def _folded(weight: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Weight [n, d] with the scale [d] of the norm before it in its columns."""
    return (weight.float() * scale.float()).to(weight.dtype)
