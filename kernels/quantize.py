"""Quantise rows to FP8 e4m3 with a scale per row (dynamic, per token): scale = max|x| / 448, q = round(x / scale)."""

from __future__ import annotations

import torch

from midspan.kernels.launch import power_of_two, tl, triton

LARGEST = 448.0  # the largest number of e4m3
SMALLEST_SCALE = 1e-12  # so that a row of zeros is not divided by zero


@triton.jit
def _quantize_kernel(
    x: tl.tensor, out: tl.tensor, scale: tl.tensor, WIDTH: tl.constexpr, BLOCK: tl.constexpr, LARGEST: tl.constexpr,
    SMALLEST: tl.constexpr,
) -> None:  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    inside = column < WIDTH
    values = tl.load(x + row * WIDTH + column, mask=inside, other=0.0).to(tl.float32)
    share = tl.maximum(tl.max(tl.abs(values), axis=0) / LARGEST, SMALLEST)
    # The division may round past the largest value, which e4m3 would turn into NaN.
    scaled = tl.minimum(tl.maximum(values / share, -LARGEST), LARGEST)
    tl.store(scale + row, share)
    tl.store(out + row * WIDTH + column, scaled.to(out.dtype.element_ty), mask=inside)


def quantize_rows(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Contiguous x [T, d] -> q float8_e4m3fn [T, d] and scales [T] in float32; x is about q * scale."""
    assert x.is_contiguous()
    rows, width = x.shape
    out = torch.empty(rows, width, dtype=torch.float8_e4m3fn, device=x.device)
    scale = torch.empty(rows, dtype=torch.float32, device=x.device)
    sizes = {"WIDTH": width, "BLOCK": power_of_two(width), "LARGEST": LARGEST, "SMALLEST": SMALLEST_SCALE}
    _quantize_kernel[(rows,)](x, out, scale, **sizes, num_warps=8 if width > 1024 else 4)
    return out, scale


def quantize_rows_reference(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Reference of quantize_rows, over the last axis of x [..., d]; it also quantises weights, a scale per channel."""
    values = x.float()
    scale = (values.abs().amax(dim=-1) / LARGEST).clamp(min=SMALLEST_SCALE)
    return (values / scale[..., None]).clamp(-LARGEST, LARGEST).to(torch.float8_e4m3fn), scale
