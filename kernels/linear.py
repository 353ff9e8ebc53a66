"""Dense FP8 products of few rows: out = (q(x) weight^T) * x_scale * scale; q rounds rows to FP8 before the product.

weight [n, d] is e4m3 with a scale per output channel; x has a scale per row; both multiply the float32 sum. In bfloat16
and float32 cuBLAS computes the product. Rows are the fast axis of the grid, so that programs that run side by side read
the same weights, and these are read from memory once.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F

from midspan.kernels.launch import capability, cdiv, power_of_two, processors, tl, triton
from midspan.kernels.quantize import quantize_rows, quantize_rows_reference


class Config(NamedTuple):
    """Tile sizes along rows, columns and the inner axis, in elements, and warps and stages."""

    block_m: int
    block_n: int
    block_k: int
    warps: int
    stages: int


# By the least compute capability. On the CPU tiles are small, so that tests reach edges.
CONFIGS = {89: Config(64, 64, 128, 4, 4), 0: Config(16, 32, 32, 4, 1)}


@triton.jit
def _linear_kernel(
    x: tl.tensor, x_scale: tl.tensor, weight: tl.tensor, scale: tl.tensor, out: tl.tensor, rows: tl.tensor,
    WIDTH: tl.constexpr, COLUMNS: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
) -> None:  # fmt: skip
    row = (tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)).to(tl.int64)
    column = (tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)).to(tl.int64)
    inside, taken = row < rows, column < COLUMNS
    acc = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    for start in range(0, WIDTH, BLOCK_K):
        k = start + tl.arange(0, BLOCK_K)
        at = x + row[:, None] * WIDTH + k[None, :]
        tile = tl.load(at, mask=inside[:, None] & (k[None, :] < WIDTH), other=0.0)
        at = weight + column[None, :] * WIDTH + k[:, None]
        acc = tl.dot(tile, tl.load(at, mask=taken[None, :] & (k[:, None] < WIDTH), other=0.0), acc)
    acc *= tl.load(x_scale + row, mask=inside, other=0.0)[:, None]
    acc *= tl.load(scale + column, mask=taken, other=0.0)[None, :]
    kept = inside[:, None] & taken[None, :]
    tl.store(out + row[:, None] * COLUMNS + column[None, :], acc.to(out.dtype.element_ty), mask=kept)


def linear_fp8(x: torch.Tensor, weight: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Rows x [T, d] times weight [n, d] in float8_e4m3fn with scale [n] in float32; all contiguous. Returns [T, n].

    Raises RuntimeError on a GPU without FP8 tensor cores.
    """
    if 0 < capability(x) < 89:
        raise RuntimeError("FP8 products need compute capability 8.9: load the checkpoint in bf16 on this GPU")
    assert weight.is_contiguous()
    assert scale.is_contiguous()
    (rows, width), columns = x.shape, len(weight)
    quantised, share = quantize_rows(x)
    config = _config(x, rows, columns)
    out = torch.empty(rows, columns, dtype=x.dtype, device=x.device)
    _linear_kernel[(cdiv(rows, config.block_m), cdiv(columns, config.block_n))](
        *(quantised, share, weight, scale, out, rows),
        WIDTH=width,
        COLUMNS=columns,
        BLOCK_M=config.block_m,
        BLOCK_N=config.block_n,
        BLOCK_K=config.block_k,
        num_warps=config.warps,
        num_stages=config.stages,
    )
    return out


def _config(x: torch.Tensor, rows: int, columns: int) -> Config:
    """Tile sizes for these sizes: narrower columns where wide ones would give fewer tiles than processors."""
    config = CONFIGS[89 if capability(x) else 0]
    config = config._replace(block_m=max(16, min(config.block_m, power_of_two(rows))))
    tiles = cdiv(rows, config.block_m) * cdiv(columns, config.block_n)
    return config if tiles >= processors(x) else config._replace(block_n=config.block_n // 2)


def linear_fp8_reference(x: torch.Tensor, weight: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Reference of linear_fp8, in float32 on values rounded to FP8; as Fp8Linear in engine/weights/quantized.py."""
    rows, share = quantize_rows_reference(x)
    return (F.linear(rows.float(), weight.float()) * (share[..., None] * scale)).to(x.dtype)
