"""y = x / sqrt(mean(x^2) + eps) * weight, over the last axis, in float32 (Gemma's RMSNorm: weight, not 1 + weight)."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def rms_norm_reference(x: torch.Tensor, weight: torch.Tensor | None, eps: float) -> torch.Tensor:
    """Normalise x [..., d] by its root mean square; weight [d] or None. Returns x's dtype."""
    scale = None if weight is None else weight.float()
    return F.rms_norm(x.float(), (x.shape[-1],), scale, eps).type_as(x)
