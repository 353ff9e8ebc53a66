"""Which experts a row goes to: norm, scale, softmax in float32, top-k, renormalise, per-expert scale."""

from __future__ import annotations

import torch

from midspan.kernels.rms_norm import rms_norm_reference


def router_reference(
    x: torch.Tensor,
    scale: torch.Tensor,
    proj: torch.Tensor,
    per_expert_scale: torch.Tensor,
    top_k: int,
    eps: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Route raw residual rows x [T, d] with scale [d], proj [E, d], per_expert_scale [E].

    Returns weights [T, k] in float32 and expert indices [T, k].
    """
    normed = rms_norm_reference(x, None, eps) * scale * x.shape[-1] ** -0.5
    probabilities = torch.softmax((normed @ proj.T).float(), dim=-1)
    weights, index = torch.topk(probabilities, top_k, dim=-1)
    weights = weights / weights.sum(dim=-1, keepdim=True)
    return weights * per_expert_scale[index], index
