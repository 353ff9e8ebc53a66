"""Grouped attention with scale 1 (queries and keys are normalised): softmax(q k^T + mask) v."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def attention_reference(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None = None, causal: bool = False
) -> torch.Tensor:
    """Attend q [B, H, N, D] to k, v [B, G, M, D] (H a multiple of G); mask is boolean, broadcast to [B, H, N, M].

    True in the mask means "may attend". `causal` needs N == M and no mask.
    """
    groups = q.shape[1] // k.shape[1]
    if groups > 1:
        k = k.repeat_interleave(groups, dim=1)
        v = v.repeat_interleave(groups, dim=1)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal, scale=1.0)
