"""Inputs among NaNs, on the device where kernels run; how far results may stand apart is tests/near.py's."""

from __future__ import annotations

import pytest
import torch
from hypothesis import settings

from tests.examples import examples

triton = pytest.importorskip("triton", reason="no triton on this system")

DEVICE = "cpu" if triton.knobs.runtime.interpret else "cuda"
PADDING = 512

# Tensor cores sum FP8 products in 14 bits on Hopper: what is added is off by 2^-13 of the largest addend, once for each
# 32 products of an instruction.
FP8_SUM = 0.0 if DEVICE == "cpu" else 2.0**-13


def few(count: int) -> settings:
    """So many examples of a property, none shrunk: the interpreter is slow, and the sizes are small as they are."""
    return examples(count, shrink=False)


def guarded(x: torch.Tensor) -> torch.Tensor:
    """x on the kernels' device, with NaN before and after it in memory (contiguous): a read past an end shows."""
    buffer = torch.full((x.numel() + 2 * PADDING,), torch.nan).to(x.dtype).to(DEVICE)
    buffer[PADDING : PADDING + x.numel()] = x.flatten()
    return buffer[PADDING : PADDING + x.numel()].view(x.shape)


def noise(seed: int, *shape: int, dtype: torch.dtype = torch.float32, scale: float = 1.0) -> torch.Tensor:
    """Normal values in dtype, between NaNs."""
    return guarded((torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scale).to(dtype))
