"""Rotary position embedding, split-half pairs (i, i + D/2): Su et al. 2021, arXiv:2104.09864."""

from __future__ import annotations

import torch


def rope_reference(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotate x [B, N, H, D] by cos, sin [B or 1, N, D]."""
    low, high = x.chunk(2, dim=-1)
    rotated = torch.cat((-high, low), dim=-1)
    return x * cos.unsqueeze(2) + rotated * sin.unsqueeze(2)
