"""Grouped expert MLPs with weights in 4 bits, dequantised inside the kernel; see experts.py and four_bit.py.

Activations keep their dtype. A row of weights is read as bytes: the low halves multiply the even columns of x and the
high halves the odd ones, so that nothing must be interleaved. A code times its group's scale is rounded to x's dtype.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F

from midspan.kernels.experts import Config, down_reduced, tile_rows
from midspan.kernels.four_bit import decoded, dequantize_reference, from_e4m3
from midspan.kernels.geglu import gated, geglu_reference
from midspan.kernels.launch import LARGE, SMALL, cdiv, precision, shared_memory, tl, triton
from midspan.kernels.router import sort_by_expert


class FourBit(NamedTuple):
    """Stacked matrices [E, n, d]: packed uint8 [E, n, d / 2], scale [E, n, d / group], channel [E, n] float32, code."""

    packed: torch.Tensor
    scale: torch.Tensor
    channel: torch.Tensor
    code: str

    @property
    def bits(self) -> torch.Tensor:
        """The scales as a kernel reads them: FP8 as bytes, which every GPU can load."""
        return self.scale.view(torch.uint8) if self.code == "e2m1" else self.scale

    @property
    def group(self) -> int:
        """How many numbers share a scale."""
        return 2 * self.packed.shape[-1] // self.scale.shape[-1]


# As experts.CONFIGS, by the least shared memory; `k` counts bytes of two numbers each. Chosen so that no target spills
# registers; their speed is not yet measured.
CONFIGS = {
    LARGE: Config(32, 16, 64, 16, 4, 2),
    SMALL: Config(32, 16, 64, 16, 4, 3),
    0: Config(16, 16, 16, 16, 4, 1),
}


@triton.jit
def _dot_bytes(
    x: tl.tensor, row: tl.tensor, inside: tl.tensor, packed: tl.tensor, scale: tl.tensor, column: tl.tensor,
    acc: tl.tensor, start: tl.tensor, BYTES: tl.constexpr, COLUMNS: tl.constexpr, GROUP: tl.constexpr,
    BLOCK_K: tl.constexpr, E2M1: tl.constexpr, PRECISION: tl.constexpr,
) -> tl.tensor:  # fmt: skip
    """One step of the inner axis: rows of x [.., 2 * BYTES] times columns of packed [COLUMNS, BYTES] into acc."""
    k = start + tl.arange(0, BLOCK_K)
    wanted, taken = inside[:, None] & (k[None, :] < BYTES), (k[:, None] < BYTES) & (column[None, :] < COLUMNS)
    both = tl.load(packed + column[None, :].to(tl.int64) * BYTES + k[:, None], mask=taken, other=0).to(tl.int32)
    per_row: tl.constexpr = 2 * BYTES // GROUP
    share = tl.load(scale + column[None, :] * per_row + (2 * k[:, None]) // GROUP, mask=taken, other=0)
    share = from_e4m3(share) if E2M1 else share.to(tl.float32)
    at = x + row[:, None] * (2 * BYTES) + 2 * k[None, :]
    even, odd = tl.load(at, mask=wanted, other=0.0), tl.load(at + 1, mask=wanted, other=0.0)
    low = (decoded(both & 15, E2M1) * share).to(even.dtype)
    high = (decoded(both >> 4, E2M1) * share).to(even.dtype)
    acc = tl.dot(even, low, acc, input_precision=PRECISION)
    return tl.dot(odd, high, acc, input_precision=PRECISION)


@triton.jit
def _gate_up_4bit_kernel(
    x: tl.tensor, packed: tl.tensor, scale: tl.tensor, channel: tl.tensor, order: tl.tensor, bounds: tl.tensor,
    hidden: tl.tensor, TOP_K: tl.constexpr, BYTES: tl.constexpr, INNER: tl.constexpr, GROUP: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, E2M1: tl.constexpr, PRECISION: tl.constexpr,
) -> None:  # fmt: skip
    expert = tl.program_id(1).to(tl.int64)
    column = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    groups: tl.constexpr = 2 * BYTES // GROUP
    gate_at, gate_scale = packed + expert * 2 * INNER * BYTES, scale + expert * 2 * INNER * groups
    up_at, up_scale = gate_at + INNER * BYTES, gate_scale + INNER * groups
    channels = channel + expert * 2 * INNER + column
    end = tl.load(bounds + expert + 1)
    for first in range(tl.load(bounds + expert), end, BLOCK_M):
        at = first + tl.arange(0, BLOCK_M)
        inside = at < end
        row = (tl.load(order + at, mask=inside, other=0) // TOP_K).to(tl.int64)
        gate, up = tl.zeros([BLOCK_M, BLOCK_N], tl.float32), tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
        for start in range(0, BYTES, BLOCK_K):
            gate = _dot_bytes(
                x, row, inside, gate_at, gate_scale, column, gate, start, BYTES, INNER, GROUP, BLOCK_K, E2M1, PRECISION,
            )  # fmt: skip
            up = _dot_bytes(
                x, row, inside, up_at, up_scale, column, up, start, BYTES, INNER, GROUP, BLOCK_K, E2M1, PRECISION,
            )  # fmt: skip
        gate *= tl.load(channels, mask=column < INNER, other=0.0)[None, :]
        up *= tl.load(channels + INNER, mask=column < INNER, other=0.0)[None, :]
        to = hidden + at.to(tl.int64)[:, None] * INNER + column[None, :]
        kept = inside[:, None] & (column[None, :] < INNER)
        tl.store(to, gated(gate, up).to(hidden.dtype.element_ty), mask=kept)


@triton.jit
def _down_4bit_kernel(
    hidden: tl.tensor, packed: tl.tensor, scale: tl.tensor, channel: tl.tensor, order: tl.tensor, bounds: tl.tensor,
    shares: tl.tensor, out: tl.tensor, WIDTH: tl.constexpr, BYTES: tl.constexpr, GROUP: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, E2M1: tl.constexpr, PRECISION: tl.constexpr,
) -> None:  # fmt: skip
    expert = tl.program_id(1).to(tl.int64)
    column = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    groups: tl.constexpr = 2 * BYTES // GROUP
    packed_at, scale_at = packed + expert * WIDTH * BYTES, scale + expert * WIDTH * groups
    end = tl.load(bounds + expert + 1)
    for first in range(tl.load(bounds + expert), end, BLOCK_M):
        at = first + tl.arange(0, BLOCK_M)
        inside = at < end
        pair = tl.load(order + at, mask=inside, other=0).to(tl.int64)
        acc = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
        for start in range(0, BYTES, BLOCK_K):
            acc = _dot_bytes(
                hidden, at.to(tl.int64), inside, packed_at, scale_at, column, acc, start, BYTES, WIDTH, GROUP,
                BLOCK_K, E2M1, PRECISION,
            )  # fmt: skip
        acc *= tl.load(channel + expert * WIDTH + column, mask=column < WIDTH, other=0.0)[None, :]
        share = tl.load(shares + pair, mask=inside, other=0.0)
        to = out + pair[:, None] * WIDTH + column[None, :]
        tl.store(to, acc * share[:, None], mask=inside[:, None] & (column[None, :] < WIDTH))


def experts_4bit(
    x: torch.Tensor, weights: torch.Tensor, index: torch.Tensor, gate_up: FourBit, down: FourBit
) -> torch.Tensor:
    """As experts.experts, with gate_up [E, 2f, d] and down [E, d, f] in 4 bits; x [T, d], index [T, k] int32."""
    number, rows = gate_up.packed.shape[0], 2 * gate_up.packed.shape[2]
    assert x.is_contiguous()
    assert x.shape[1] == rows
    (tokens, top_k), width = index.shape, down.packed.shape[1]
    inner, config = gate_up.packed.shape[1] // 2, _config(x)
    order, bounds = sort_by_expert(index, number)
    shared = {
        "BLOCK_M": tile_rows(tokens * top_k, number),
        "E2M1": gate_up.code == "e2m1",
        "PRECISION": precision(x),
        "num_warps": config.warps,
        "num_stages": config.stages,
    }
    hidden = torch.empty(tokens * top_k, inner, dtype=x.dtype, device=x.device)
    _gate_up_4bit_kernel[(cdiv(inner, config.gate_up_n), number)](
        *(x, gate_up.packed, gate_up.bits, gate_up.channel, order, bounds, hidden),
        TOP_K=top_k,
        BYTES=gate_up.packed.shape[2],
        INNER=inner,
        GROUP=gate_up.group,
        BLOCK_N=config.gate_up_n,
        BLOCK_K=config.gate_up_k,
        **shared,
    )
    shares = torch.empty(tokens * top_k, width, dtype=torch.float32, device=x.device)
    _down_4bit_kernel[(cdiv(width, config.down_n), number)](
        *(hidden, down.packed, down.bits, down.channel, order, bounds, weights, shares),
        WIDTH=width,
        BYTES=down.packed.shape[2],
        GROUP=down.group,
        BLOCK_N=config.down_n,
        BLOCK_K=config.down_k,
        **shared,
    )
    return down_reduced(shares, top_k, x.dtype)


def _config(x: torch.Tensor) -> Config:
    have = shared_memory(x)
    return next(one for least, one in CONFIGS.items() if have >= least)


def experts_4bit_reference(
    x: torch.Tensor, weights: torch.Tensor, index: torch.Tensor, gate_up: FourBit, down: FourBit
) -> torch.Tensor:
    """Reference of experts_4bit, one expert at a time, with sums in float32."""
    out = torch.zeros(x.shape, device=x.device)
    for expert in index.unique().tolist():
        row, slot = torch.where(index == expert)
        gate, up = _rows_times(x[row], gate_up, expert).chunk(2, dim=-1)
        hidden = geglu_reference(gate, up).to(x.dtype)
        out.index_add_(0, row, _rows_times(hidden, down, expert) * weights[row, slot, None].float())
    return out.to(x.dtype)


def _rows_times(x: torch.Tensor, weight: FourBit, expert: int) -> torch.Tensor:
    """Rows x [T, d] times one expert's matrix [n, d], in float32 [T, n]."""
    ones = torch.ones_like(weight.channel[expert])
    matrix = dequantize_reference(weight.packed[expert], weight.scale[expert], ones, weight.code).to(x.dtype)
    return F.linear(x.float(), matrix.float()) * weight.channel[expert]
