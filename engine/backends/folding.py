"""Fold norm scales into weights and concatenate projections that share an input (QKV, gate and up); for one expert."""

from __future__ import annotations

from typing import NamedTuple

import torch

from midspan.engine.model import Layer, SelfConditioning


class FoldedLayer(NamedTuple):
    """A layer's concatenated projections; rows of the dense MLP come before the expert's."""

    qkv: torch.Tensor
    gates: torch.Tensor
    ups: torch.Tensor
    expert_down: torch.Tensor

    @classmethod
    def of(cls, layer: Layer) -> FoldedLayer:
        """Fold a layer whose weights are read."""
        attention, mlp, experts = layer.self_attn, layer.mlp, layer.experts
        # Full layers have no v_proj: V is K before its norm and rotation.
        values = attention.k_proj if attention.v_proj is None else attention.v_proj
        qkv = torch.cat([part.weight for part in (attention.q_proj, attention.k_proj, values)])
        dense, expert = layer.pre_feedforward_layernorm.weight, layer.pre_feedforward_layernorm_2.weight
        gate, up = experts.gate_up_proj[0].chunk(2)
        return cls(
            qkv=_folded(qkv, layer.input_layernorm.weight),
            gates=torch.cat((_folded(mlp.gate_proj.weight, dense), _folded(gate, expert))),
            ups=torch.cat((_folded(mlp.up_proj.weight, dense), _folded(up, expert))),
            # The routing weight of the only expert is the softmax of one number, 1.
            expert_down=experts.down_proj[0] * layer.router.per_expert_scale,
        )


def condition_gate_up(parts: SelfConditioning) -> tuple[torch.Tensor, torch.Tensor]:
    """Self-conditioning's gate and up, each with the scale of the norm before them."""
    scale = parts.pre_norm.weight
    return _folded(parts.gate_proj.weight, scale), _folded(parts.up_proj.weight, scale)


def _folded(weight: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Weight [n, d] with the scale [d] of the norm before it in its columns."""
    return weight.float() * scale.float()
