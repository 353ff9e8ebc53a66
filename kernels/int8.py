"""Numbers in int8 for products on a CPU: weights as -127 to 127, the rows that meet them as 0 to 255 around MIDDLE."""

from __future__ import annotations

import torch

STEPS, MIDDLE = 127, 128
LEAST = 1e-12  # a row of zeros is divided by this


def int8_rows(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights [.., d] -> int8 [.., d] and scales [..] in float32, of which they are about the product."""
    exact = weight.detach().float()
    scale = exact.abs().amax(dim=-1).clamp(min=LEAST) / STEPS
    return torch.round(exact / scale.unsqueeze(-1)).to(torch.int8), scale
