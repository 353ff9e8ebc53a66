"""From projections to attention's inputs in one pass: q/k/v norms, RoPE, and keys and values written into the cache.

    q'      = rope(norm(q, q_weight))     [B, N, H, D]
    keys    = rope(norm(k, k_weight))     [S, G, M, D] at slot[b], positions start[b] + n
    values  = norm(v), or norm(k) before its own norm and rotation where a layer has no v_proj

RoPE is split-half, pairs (i, i + D/2). Statistics and products are in float32 and rounded once, when stored. There is
one program for each token and each of q, k, v. `keys` is the prefix cache or the canvases' own buffer. `slot` and
`start` are on the device, so that one captured graph serves a growing cache. Positions behind the buffer's end are not
written.
"""

from __future__ import annotations

import torch

from midspan.kernels.launch import power_of_two, tl, triton
from midspan.kernels.rms_norm import rms_norm_reference
from midspan.kernels.rope import rope_reference


@triton.jit
def _normed_halves(
    x: tl.tensor, weight: tl.tensor, head: tl.tensor, pair: tl.tensor, inside: tl.tensor, eps: tl.tensor,
    HALF: tl.constexpr,
) -> tl.tensor:  # fmt: skip
    """RMSNorm of one token's heads [heads, D], as two halves [heads, D / 2]."""
    at = x + head[:, None] * (2 * HALF) + pair[None, :]
    low = tl.load(at, mask=inside, other=0.0).to(tl.float32)
    high = tl.load(at + HALF, mask=inside, other=0.0).to(tl.float32)
    square = tl.sum(low * low, axis=1) + tl.sum(high * high, axis=1)
    share = tl.rsqrt(square / (2 * HALF) + eps)[:, None]
    low, high = low * share, high * share
    if weight is not None:
        low *= tl.load(weight + pair).to(tl.float32)[None, :]
        high *= tl.load(weight + HALF + pair).to(tl.float32)[None, :]
    return low, high


@triton.jit
def _rotated(
    low: tl.tensor, high: tl.tensor, cos: tl.tensor, sin: tl.tensor, pair: tl.tensor, HALF: tl.constexpr
) -> tl.tensor:
    """rope_reference on halves; the tables hold all D angles of one token."""
    low_cos, low_sin = tl.load(cos + pair).to(tl.float32)[None, :], tl.load(sin + pair).to(tl.float32)[None, :]
    high_cos = tl.load(cos + HALF + pair).to(tl.float32)[None, :]
    high_sin = tl.load(sin + HALF + pair).to(tl.float32)[None, :]
    return low * low_cos - high * low_sin, high * high_cos + low * high_sin


@triton.jit
def _put(
    x: tl.tensor, weight: tl.tensor, cos: tl.tensor, sin: tl.tensor, out: tl.tensor, head_stride: tl.tensor,
    kept: tl.tensor, eps: tl.tensor, HEADS: tl.constexpr, HALF: tl.constexpr, BLOCK: tl.constexpr,
) -> None:  # fmt: skip
    """Norm one token's heads at x, rotate them unless cos is None, and store them head_stride apart at out."""
    head, pair = tl.arange(0, BLOCK), tl.arange(0, HALF)
    inside = head[:, None] < HEADS
    low, high = _normed_halves(x, weight, head, pair, inside, eps, HALF)
    if cos is not None:
        low, high = _rotated(low, high, cos, sin, pair, HALF)
    to = out + head.to(tl.int64)[:, None] * head_stride + pair[None, :]
    tl.store(to, low.to(out.dtype.element_ty), mask=inside & kept)
    tl.store(to + HALF, high.to(out.dtype.element_ty), mask=inside & kept)


@triton.jit
def _qkv_kernel(
    q: tl.tensor, k: tl.tensor, v: tl.tensor, q_row: tl.tensor, k_row: tl.tensor, v_row: tl.tensor,
    q_weight: tl.tensor, k_weight: tl.tensor, cos: tl.tensor, sin: tl.tensor, table_rows: tl.tensor,
    out: tl.tensor, keys: tl.tensor, values: tl.tensor, slot: tl.tensor, start: tl.tensor,
    rows: tl.tensor, capacity: tl.tensor, slot_stride: tl.tensor, group_stride: tl.tensor, eps: tl.tensor,
    HEADS: tl.constexpr, GROUPS: tl.constexpr, HALF: tl.constexpr, BLOCK_H: tl.constexpr, BLOCK_G: tl.constexpr,
) -> None:  # fmt: skip
    token, part = tl.program_id(0).to(tl.int64), tl.program_id(1)
    cos += (token % table_rows) * 2 * HALF
    sin += (token % table_rows) * 2 * HALF
    position = tl.load(start + token // rows).to(tl.int64) + token % rows
    kept = position < capacity
    to = tl.load(slot + token // rows).to(tl.int64) * slot_stride + position * 2 * HALF
    if part == 0:
        to_q = out + token * HEADS * 2 * HALF
        _put(q + token * q_row, q_weight, cos, sin, to_q, 2 * HALF, token >= 0, eps, HEADS, HALF, BLOCK_H)
    elif part == 1:
        _put(k + token * k_row, k_weight, cos, sin, keys + to, group_stride, kept, eps, GROUPS, HALF, BLOCK_G)
    else:
        _put(v + token * v_row, None, None, None, values + to, group_stride, kept, eps, GROUPS, HALF, BLOCK_G)


def qkv(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor | None,
    q_weight: torch.Tensor,
    k_weight: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    slot: torch.Tensor,
    start: torch.Tensor,
    eps: float,
) -> torch.Tensor:
    """Norm, rotate and store the projections q [B, N, H, D] and k, v [B, N, G, D]; v None means that V comes from K.

    cos, sin are [B or 1, N, D]; keys, values [S, G, M, D]; slot, start [B] in int32, on the device. q, k and v may be
    slices of one fused projection: only heads need be contiguous. Returns q' [B, N, H, D]; writes keys and values.
    """
    (batch, rows, heads, size), groups = q.shape, k.shape[2]
    raw_v = k if v is None else v
    assert size == power_of_two(size) == keys.shape[3]
    assert all(table.is_contiguous() for table in (cos, sin))
    assert keys.stride() == values.stride()
    assert keys.stride()[2:] == (size, 1)
    # A view with one row per token; view() raises if heads are not contiguous.
    q_rows, k_rows, v_rows = (x.view(batch * rows, -1) for x in (q, k, raw_v))
    out = torch.empty(batch, rows, heads, size, dtype=q.dtype, device=q.device)
    _qkv_kernel[(batch * rows, 3)](
        *(q_rows, k_rows, v_rows, q_rows.stride(0), k_rows.stride(0), v_rows.stride(0), q_weight, k_weight),
        *(cos, sin, cos.shape[0] * rows, out, keys, values, slot, start),
        *(rows, keys.shape[2], keys.stride(0), keys.stride(1), eps),
        HEADS=heads,
        GROUPS=groups,
        HALF=size // 2,
        BLOCK_H=power_of_two(heads),
        BLOCK_G=power_of_two(groups),
        num_warps=8 if heads * size >= 4096 else 4,
    )
    return out


def qkv_reference(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor | None,
    q_weight: torch.Tensor,
    k_weight: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    slot: torch.Tensor,
    start: torch.Tensor,
    eps: float,
) -> torch.Tensor:
    """Reference of qkv, transcribed from engine/model.py's Attention."""
    rotated = rope_reference(rms_norm_reference(k, k_weight, eps), cos, sin)
    normed = rms_norm_reference(k if v is None else v, None, eps)
    for row, (where, first) in enumerate(zip(slot.tolist(), start.tolist(), strict=True)):
        end = min(first + k.shape[1], keys.shape[2])
        keys[where, :, first:end] = rotated[row, : end - first].transpose(0, 1)
        values[where, :, first:end] = normed[row, : end - first].transpose(0, 1)
    return rope_reference(rms_norm_reference(q, q_weight, eps), cos, sin)
