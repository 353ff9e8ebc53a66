"""Random inputs surrounded by NaN, on the device where kernels run; tests/near.py has the tolerances."""

from __future__ import annotations

import pytest
import torch
from hypothesis import settings

from tests.examples import examples

triton = pytest.importorskip("triton", reason="no triton on this system")

DEVICE = "cpu" if triton.knobs.runtime.interpret else "cuda"
PADDING = 512

# On Hopper tensor cores sum FP8 products in 14 bits: each instruction of 32 products adds an error of 2^-13 of the
# largest addend.
FP8_SUM = 0.0 if DEVICE == "cpu" else 2.0**-13


def few(count: int) -> settings:
    """`count` examples without shrinking, because the interpreter is slow and the sizes are small anyway."""
    return examples(count, shrink=False)


def guarded(x: torch.Tensor) -> torch.Tensor:
    """x on the kernels' device, contiguous, with NaN before and after it, so that a read past an end shows."""
    buffer = torch.full((x.numel() + 2 * PADDING,), torch.nan).to(x.dtype).to(DEVICE)
    buffer[PADDING : PADDING + x.numel()] = x.flatten()
    return buffer[PADDING : PADDING + x.numel()].view(x.shape)


def noise(seed: int, *shape: int, dtype: torch.dtype = torch.float32, scale: float = 1.0) -> torch.Tensor:
    """Normally distributed values in dtype, guarded by NaN."""
    return guarded((torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scale).to(dtype))
