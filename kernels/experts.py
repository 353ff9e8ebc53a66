"""Grouped expert MLPs: sum over a row's experts of weight * down_e(geglu(gate_up_e(x)))."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from midspan.kernels.geglu import geglu_reference


def experts_reference(
    x: torch.Tensor, weights: torch.Tensor, index: torch.Tensor, gate_up: torch.Tensor, down: torch.Tensor
) -> torch.Tensor:
    """Run rows x [T, d] through experts index [T, k]; gate_up [E, 2f, d], down [E, d, f]. Returns [T, d]."""
    out = torch.zeros_like(x)
    for expert in range(gate_up.shape[0]):
        row, slot = torch.where(index == expert)
        if row.numel() == 0:
            continue
        share = expert_mlp(x[row], gate_up[expert], down[expert]) * weights[row, slot, None]
        out.index_add_(0, row, share.to(x.dtype))
    return out


def expert_mlp(x: torch.Tensor, gate_up: torch.Tensor, down: torch.Tensor) -> torch.Tensor:
    """One expert over rows x [T, d]; gate_up [2f, d], down [d, f]."""
    gate, up = F.linear(x, gate_up).chunk(2, dim=-1)
    return F.linear(geglu_reference(gate, up), down)
