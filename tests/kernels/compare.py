"""Inputs among NaNs, and how far a kernel may stand from its reference."""

from __future__ import annotations

import pytest
import torch
from hypothesis import settings

from tests.examples import examples

triton = pytest.importorskip("triton", reason="no triton on this system")

DEVICE = "cpu" if triton.knobs.runtime.interpret else "cuda"
PADDING = 512
# One unit in the last place, relative: float32 has 24 bits, bfloat16 8.
ULP = {torch.float32: 2.0**-23, torch.bfloat16: 2.0**-7, torch.float8_e4m3fn: 2.0**-3}

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


def assert_near(
    got: torch.Tensor,
    want: torch.Tensor,
    *,
    ulps: float,
    terms: int = 1,
    at_largest: bool = False,
    summed: torch.Tensor | None = None,
) -> None:
    """Every |got - want| <= ulps of want's dtype at its own size, plus `ulps` float32 ones of a sum of `terms`.

    The second part bounds a float32 sum taken in another order: sqrt(terms) roundings at the largest value's size.
    `at_largest` bounds the first part there too: where roundings happen before terms cancel. `summed` is how large the
    terms of an FP8 product are together, where the device sums them coarsely.
    """
    assert got.dtype == want.dtype
    assert got.shape == want.shape
    assert not got.float().isnan().any()
    wide = want.double()
    largest = wide.abs().max()
    allowed = ulps * ULP[want.dtype] * (largest if at_largest else wide.abs())
    allowed = allowed + ulps * ULP[torch.float32] * terms**0.5 * largest
    if summed is not None:
        allowed = allowed + FP8_SUM * (terms / 32 + 1) * summed.double()
    excess = ((got.double() - wide).abs() - allowed).max()
    assert excess <= 0, f"{excess.item():.3g} beyond the tolerance"
