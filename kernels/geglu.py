"""GeGLU: gelu_tanh(gate) * up (Shazeer 2020, arXiv:2002.05202)."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from midspan.kernels.launch import tl, triton


@triton.jit
def gated(gate: tl.tensor, up: tl.tensor) -> tl.tensor:
    """GeGLU inside a kernel, in float32; (1 + tanh(y)) / 2 is sigmoid(2 y), which must not overflow."""
    twice = 1.5957691216057308 * (gate + 0.044715 * gate * gate * gate)
    small = tl.exp(-tl.abs(twice))
    return gate * up * tl.where(twice > 0.0, 1.0, small) / (1.0 + small)


def geglu_reference(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """Gate `up` by the tanh-approximated GELU of `gate`; equal shapes."""
    return F.gelu(gate, approximate="tanh") * up
