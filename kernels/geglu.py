"""GeGLU: gelu_tanh(gate) * up (Shazeer 2020, arXiv:2002.05202)."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def geglu_reference(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """Gate `up` by the tanh-approximated GELU of `gate`; equal shapes."""
    return F.gelu(gate, approximate="tanh") * up
