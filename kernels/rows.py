"""A dense product on a CPU whose number of rows changes from call to call: x [..., d] times weight [n, d] transposed.

oneDNN compiles a product for every number of rows that it meets and keeps a thousand of them, so that memory grows with
every gap. Rows in steps of STEP, zeros at the end, are few numbers; a beam search's FEW have one of their own.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

STEP, FEW = 32, 4


def linear_in_steps(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """x [..., d] and weight [n, d] -> [..., n]; rows beyond those of x are computed and thrown away."""
    rows = x.shape[:-1].numel()
    spare = -rows % (FEW if rows <= FEW else STEP)
    if not spare:
        return F.linear(x, weight)
    padded = F.pad(x.reshape(rows, x.shape[-1]), (0, 0, 0, spare))
    return F.linear(padded, weight)[:rows].view(*x.shape[:-1], weight.shape[0])
