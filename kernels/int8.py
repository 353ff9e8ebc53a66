"""Int8 for products on a CPU: weights are -127 to 127; some builds of the kernels shift activations by MIDDLE."""

from __future__ import annotations

import torch

STEPS, MIDDLE = 127, 128
LEAST = 1e-12  # the least scale, so that a row of zeros is not divided by zero


def int8_rows(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights [.., d] -> int8 [.., d] and scales [..] in float32; weights are about int8 * scale."""
    exact = weight.detach().float()
    scale = exact.abs().amax(dim=-1).clamp(min=LEAST) / STEPS
    return torch.round(exact / scale.unsqueeze(-1)).to(torch.int8), scale
