"""Grouped expert MLPs: sum over a row's experts of weight * down_e(geglu(gate_up_e(x))).

    sort        pairs (row, slot) sorted by their expert                   router.sort_by_expert
    gate_up     hidden[p] = geglu(x[row p] gate_up_e^T)                    [T * k, f], sorted by expert
    down        share[pair p] = weight[pair p] * hidden[p] down_e^T        [T * k, d] in float32, in the order of index
    reduce      out[t] = share[t, 0] + share[t, 1] + ...                   [T, d], always in this order

One program per expert and column tile loops over the expert's rows, BLOCK_M at a time. The host therefore needs to know
nothing of the routing, and a weight is read from memory once if the expert's rows fit one tile. In FP8 (e4m3,
experts_fp8) weights have a scale per output channel and activations a scale per row; both multiply the float32 sums.
The sum over a row's experts is a pass of its own: atomic additions inside `down` would be in another order every time,
and one seed must give one fill.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F

from midspan.kernels.geglu import gated, geglu_reference
from midspan.kernels.launch import LARGE, SMALL, capability, cdiv, power_of_two, precision, shared_memory, tl, triton
from midspan.kernels.quantize import quantize_rows, quantize_rows_reference
from midspan.kernels.router import sort_by_expert


class Config(NamedTuple):
    """Tile sizes along the columns and the inner axis, in elements, and warps and stages, for one size of weights."""

    gate_up_n: int
    gate_up_k: int
    down_n: int
    down_k: int
    warps: int
    stages: int


# By (bytes of a weight at most, shared memory at least); the first that fits. On the CPU tiles are small, so that tests
# reach edges. The release's sizes 704 = 11 * 64 and 2816 = 22 * 128 leave no remainder.
CONFIGS = {
    (1, SMALL): Config(64, 128, 128, 64, 4, 4),
    (2, LARGE): Config(64, 64, 128, 64, 4, 3),
    (2, SMALL): Config(64, 64, 128, 32, 4, 3),
    (4, SMALL): Config(32, 32, 32, 16, 4, 2),
    (4, 0): Config(16, 32, 16, 32, 4, 1),
}
MAX_ROWS = 64  # of a tile, so that gate_up's two accumulators stay in registers


@triton.jit
def _dot_rows(
    x: tl.tensor, row: tl.tensor, inside: tl.tensor, weight: tl.tensor, column: tl.tensor, acc: tl.tensor,
    start: tl.tensor, WIDTH: tl.constexpr, COLUMNS: tl.constexpr, BLOCK_K: tl.constexpr, PRECISION: tl.constexpr,
) -> tl.tensor:  # fmt: skip
    """One step of the inner axis: rows of x [.., WIDTH] times columns of weight [COLUMNS, WIDTH] into acc."""
    k = start + tl.arange(0, BLOCK_K)
    tile = tl.load(x + row[:, None] * WIDTH + k[None, :], mask=inside[:, None] & (k[None, :] < WIDTH), other=0.0)
    taken = (k[:, None] < WIDTH) & (column[None, :] < COLUMNS)
    return tl.dot(
        tile,
        tl.load(weight + column.to(tl.int64)[None, :] * WIDTH + k[:, None], mask=taken, other=0.0),
        acc,
        input_precision=PRECISION,
    )


@triton.jit
def _gate_up_kernel(
    x: tl.tensor, x_scale: tl.tensor, weight: tl.tensor, weight_scale: tl.tensor, order: tl.tensor, bounds: tl.tensor,
    hidden: tl.tensor, TOP_K: tl.constexpr, WIDTH: tl.constexpr, INNER: tl.constexpr, BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, PRECISION: tl.constexpr,
) -> None:  # fmt: skip
    expert = tl.program_id(1).to(tl.int64)
    column = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    gate_at = weight + expert * 2 * INNER * WIDTH
    end = tl.load(bounds + expert + 1)
    for first in range(tl.load(bounds + expert), end, BLOCK_M):
        at = first + tl.arange(0, BLOCK_M)
        inside = at < end
        row = (tl.load(order + at, mask=inside, other=0) // TOP_K).to(tl.int64)
        gate, up = tl.zeros([BLOCK_M, BLOCK_N], tl.float32), tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
        for start in range(0, WIDTH, BLOCK_K):
            gate = _dot_rows(x, row, inside, gate_at, column, gate, start, WIDTH, INNER, BLOCK_K, PRECISION)
            up = _dot_rows(x, row, inside, gate_at + INNER * WIDTH, column, up, start, WIDTH, INNER, BLOCK_K, PRECISION)
        if x_scale is not None:
            token = tl.load(x_scale + row, mask=inside, other=0.0)[:, None]
            scales = weight_scale + expert * 2 * INNER + column
            gate *= token * tl.load(scales, mask=column < INNER, other=0.0)[None, :]
            up *= token * tl.load(scales + INNER, mask=column < INNER, other=0.0)[None, :]
        to = hidden + at.to(tl.int64)[:, None] * INNER + column[None, :]
        kept = inside[:, None] & (column[None, :] < INNER)
        tl.store(to, gated(gate, up).to(hidden.dtype.element_ty), mask=kept)


@triton.jit
def _down_kernel(
    hidden: tl.tensor, hidden_scale: tl.tensor, weight: tl.tensor, weight_scale: tl.tensor, order: tl.tensor,
    bounds: tl.tensor, shares: tl.tensor, out: tl.tensor, WIDTH: tl.constexpr, INNER: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, PRECISION: tl.constexpr,
) -> None:  # fmt: skip
    expert = tl.program_id(1).to(tl.int64)
    column = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    end = tl.load(bounds + expert + 1)
    for first in range(tl.load(bounds + expert), end, BLOCK_M):
        at = first + tl.arange(0, BLOCK_M)
        inside = at < end
        pair = tl.load(order + at, mask=inside, other=0).to(tl.int64)
        acc = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
        for start in range(0, INNER, BLOCK_K):
            acc = _dot_rows(
                hidden, at.to(tl.int64), inside, weight + expert * WIDTH * INNER, column, acc, start, INNER, WIDTH,
                BLOCK_K, PRECISION,
            )  # fmt: skip
        share = tl.load(shares + pair, mask=inside, other=0.0)
        if hidden_scale is not None:
            share *= tl.load(hidden_scale + at, mask=inside, other=0.0)
            acc *= tl.load(weight_scale + expert * WIDTH + column, mask=column < WIDTH, other=0.0)[None, :]
        to = out + pair[:, None] * WIDTH + column[None, :]
        tl.store(to, acc * share[:, None], mask=inside[:, None] & (column[None, :] < WIDTH))


@triton.jit
def _reduce_kernel(
    shares: tl.tensor, out: tl.tensor, TOP_K: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr
) -> None:
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < WIDTH
    total = tl.zeros([BLOCK], tl.float32)
    for slot in tl.static_range(TOP_K):
        total += tl.load(shares + (row * TOP_K + slot) * WIDTH + column, mask=inside, other=0.0)
    tl.store(out + row * WIDTH + column, total.to(out.dtype.element_ty), mask=inside)


def experts(
    x: torch.Tensor, weights: torch.Tensor, index: torch.Tensor, gate_up: torch.Tensor, down: torch.Tensor
) -> torch.Tensor:
    """Run rows x [T, d] through experts index [T, k] (int32); gate_up [E, 2f, d], down [E, d, f]. Returns [T, d].

    weights [T, k] are float32; everything is contiguous, and x, gate_up and down have one dtype.
    """
    assert x.dtype == gate_up.dtype == down.dtype
    order, bounds = sort_by_expert(index, gate_up.shape[0])
    hidden = _gate_up(x, None, gate_up, None, order, bounds, x.dtype)
    return _down(hidden, None, down, None, order, bounds, weights, x.dtype)


def experts_fp8(
    x: torch.Tensor,
    weights: torch.Tensor,
    index: torch.Tensor,
    gate_up: torch.Tensor,
    gate_up_scale: torch.Tensor,
    down: torch.Tensor,
    down_scale: torch.Tensor,
) -> torch.Tensor:
    """As experts, with gate_up [E, 2f, d] and down [E, d, f] in float8_e4m3fn, their scales [E, 2f], [E, d] in float32.

    x and the hidden rows are quantised with a scale per row. Raises RuntimeError on a GPU without FP8 tensor cores.
    """
    if 0 < capability(x) < 89:
        raise RuntimeError("FP8 experts need compute capability 8.9: load the checkpoint in bf16 on this GPU")
    order, bounds = sort_by_expert(index, gate_up.shape[0])
    rows, scale = quantize_rows(x)
    hidden = _gate_up(rows, scale, gate_up, gate_up_scale, order, bounds, x.dtype)
    inner, inner_scale = quantize_rows(hidden)
    return _down(inner, inner_scale, down, down_scale, order, bounds, weights, x.dtype)


def _gate_up(
    x: torch.Tensor,
    x_scale: torch.Tensor | None,
    weight: torch.Tensor,
    weight_scale: torch.Tensor | None,
    order: torch.Tensor,
    bounds: torch.Tensor,
    dtype: torch.dtype,
) -> torch.Tensor:
    assert x.is_contiguous()
    assert weight.is_contiguous()
    (number, inner), width, pairs = (weight.shape[0], weight.shape[1] // 2), x.shape[1], order.numel()
    config = _config(x)
    hidden = torch.empty(pairs, inner, dtype=dtype, device=x.device)
    _gate_up_kernel[(cdiv(inner, config.gate_up_n), number)](
        *(x, x_scale, weight, weight_scale, order, bounds, hidden),
        TOP_K=pairs // x.shape[0],
        WIDTH=width,
        INNER=inner,
        BLOCK_M=tile_rows(pairs, number),
        BLOCK_N=config.gate_up_n,
        BLOCK_K=config.gate_up_k,
        PRECISION=precision(x),
        num_warps=config.warps,
        num_stages=config.stages,
    )
    return hidden


def _down(
    hidden: torch.Tensor,
    hidden_scale: torch.Tensor | None,
    weight: torch.Tensor,
    weight_scale: torch.Tensor | None,
    order: torch.Tensor,
    bounds: torch.Tensor,
    weights: torch.Tensor,
    dtype: torch.dtype,
) -> torch.Tensor:
    assert weights.is_contiguous()
    assert weight.is_contiguous()
    number, width, inner = weight.shape
    (rows, top_k), config = weights.shape, _config(hidden)
    shares = torch.empty(rows * top_k, width, dtype=torch.float32, device=hidden.device)
    _down_kernel[(cdiv(width, config.down_n), number)](
        *(hidden, hidden_scale, weight, weight_scale, order, bounds, weights, shares),
        WIDTH=width,
        INNER=inner,
        BLOCK_M=tile_rows(rows * top_k, number),
        BLOCK_N=config.down_n,
        BLOCK_K=config.down_k,
        PRECISION=precision(hidden),
        num_warps=config.warps,
        num_stages=config.stages,
    )
    return down_reduced(shares, top_k, dtype)


def down_reduced(shares: torch.Tensor, top_k: int, dtype: torch.dtype) -> torch.Tensor:
    """Weighted shares [T * k, d] in float32, k per row -> their sums [T, d] in dtype, always in the same order."""
    pairs, width = shares.shape
    out = torch.empty(pairs // top_k, width, dtype=dtype, device=shares.device)
    block = min(1024, power_of_two(width))
    grid = (pairs // top_k, cdiv(width, block))
    _reduce_kernel[grid](shares, out, TOP_K=top_k, WIDTH=width, BLOCK=block, num_warps=4)
    return out


def _config(x: torch.Tensor) -> Config:
    have = shared_memory(x)
    return next(one for (size, least), one in CONFIGS.items() if x.element_size() <= size and have >= least)


def tile_rows(pairs: int, number: int) -> int:
    """Rows of a tile: twice an expert's mean number of rows, so that nearly every expert's rows fit one tile."""
    return max(16, min(power_of_two(2 * cdiv(pairs, number)), MAX_ROWS))


def experts_reference(
    x: torch.Tensor, weights: torch.Tensor, index: torch.Tensor, gate_up: torch.Tensor, down: torch.Tensor
) -> torch.Tensor:
    """Run rows x [T, d] through experts index [T, k]; gate_up [E, 2f, d], down [E, d, f]. Returns [T, d]."""
    out = torch.zeros_like(x)
    for expert in range(gate_up.shape[0]):
        row, slot = torch.where(index == expert)
        if row.numel() == 0:
            continue
        share = expert_mlp(x[row], gate_up[expert], down[expert]) * weights[row, slot, None]
        out.index_add_(0, row, share.to(x.dtype))
    return out


def experts_fp8_reference(
    x: torch.Tensor,
    weights: torch.Tensor,
    index: torch.Tensor,
    gate_up: torch.Tensor,
    gate_up_scale: torch.Tensor,
    down: torch.Tensor,
    down_scale: torch.Tensor,
) -> torch.Tensor:
    """Reference of experts_fp8, in float32 on values rounded to FP8."""
    out = torch.zeros(x.shape, device=x.device)
    rows = _through_fp8(x)
    for expert in range(gate_up.shape[0]):
        row, slot = torch.where(index == expert)
        gate, up = F.linear(rows[row], gate_up[expert].float() * gate_up_scale[expert, :, None]).chunk(2, dim=-1)
        hidden = _through_fp8(geglu_reference(gate, up).to(x.dtype))
        share = F.linear(hidden, down[expert].float() * down_scale[expert, :, None])
        out.index_add_(0, row, share * weights[row, slot, None])
    return out.to(x.dtype)


def _through_fp8(x: torch.Tensor) -> torch.Tensor:
    rows, scale = quantize_rows_reference(x)
    return rows.float() * scale[:, None]


def expert_mlp(x: torch.Tensor, gate_up: torch.Tensor, down: torch.Tensor) -> torch.Tensor:
    """One expert over rows x [T, d]; gate_up [2f, d], down [d, f]."""
    gate, up = F.linear(x, gate_up).chunk(2, dim=-1)
    return F.linear(geglu_reference(gate, up), down)
