"""Grouped-query attention with scale 1 (queries and keys are normalised) over a cached prefix and the canvas behind it.

    out[b, h, i] = softmax_j(q[b, h, i] . k_j) v_j    over the keys j that row i sees        q [B, H, N, D]

Request b reads slot[b] of keys, values [S, G, M, D], whose first length[b] are valid, then its own k, v [B, G, C, D].
A canvas (causal[b] false, C >= N) sees the last window - 1 cached keys and every valid position of itself; a prefix
(causal[b] true, N == C) sees the window - 1 positions before each row and the row. window None: everything before.
`length`, `slot` and `causal` are on the device, so that one captured graph serves all their values.

A tile is BLOCK_M rows x heads of one group, so that a key is loaded once for all heads of its group. SPLITS programs
divide a tile's visible keys, and a second pass combines their results in a fixed order. Rows that see no key are zero.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F

from midspan.kernels.launch import (
    LARGE,
    SMALL,
    cdiv,
    power_of_two,
    precision,
    processors,
    shared_memory,
    tl,
    triton,
    whole_power,
)


class Config(NamedTuple):
    """Tile sizes, warps and pipeline stages for one head size."""

    block_m: int
    block_n: int
    warps: int
    stages: int


# By (bytes of a number at most, bytes of a head at most, shared memory at least); the first that fits. Larger tiles for
# heads of 512 numbers, or for any float32 head, spill registers. On the CPU tiles are small, so that tests reach edges.
CONFIGS = {
    (2, 512, LARGE): Config(64, 32, 8, 3),
    (2, 512, SMALL): Config(64, 32, 8, 2),
    (2, 1024, SMALL): Config(32, 32, 8, 2),
    (4, 2048, SMALL): Config(16, 16, 8, 1),
    (4, 2048, 0): Config(16, 16, 4, 1),
}
# Scores are exponents of two, because hardware computes 2^x faster than e^x.
LOG2E = 1.4426950408889634
MAX_SPLITS = 8


@triton.jit
def _absorb(
    q: tl.tensor, keys: tl.tensor, values: tl.tensor, key: tl.tensor, inside: tl.tensor, allowed: tl.tensor,
    top: tl.tensor, total: tl.tensor, acc: tl.tensor, D: tl.constexpr, SCALE: tl.constexpr, PRECISION: tl.constexpr,
) -> tl.tensor:  # fmt: skip
    """Online softmax: add one block of keys to a tile's running maximum, sum and weighted values."""
    column = tl.arange(0, D)
    at = key.to(tl.int64) * D
    k = tl.load(keys + at[None, :] + column[:, None], mask=inside[None, :], other=0.0)
    score = tl.dot(q, k, input_precision=PRECISION) * SCALE
    score = tl.where(allowed, score, float("-inf"))
    higher = tl.maximum(top, tl.max(score, axis=1))
    # A row without a key so far has -inf here, and -inf - -inf is NaN.
    base = tl.where(higher == float("-inf"), 0.0, higher)
    weight = tl.exp2(score - base[:, None])
    fade = tl.exp2(top - base)
    v = tl.load(values + at[:, None] + column[None, :], mask=inside[:, None], other=0.0)
    acc = acc * fade[:, None] + tl.dot(weight.to(v.dtype), v, input_precision=PRECISION)
    return higher, total * fade + tl.sum(weight, axis=1), acc


@triton.jit
def _span(
    cached: tl.tensor, is_causal: tl.tensor, canvas: tl.tensor, m: tl.tensor, GROUP: tl.constexpr,
    WINDOW: tl.constexpr, BLOCK_M: tl.constexpr,
) -> tl.tensor:  # fmt: skip
    """Bounds of the keys that a tile from m on sees: cached keys from low on, canvas positions start .. end - 1."""
    first, last, low, start = m // GROUP, (m + BLOCK_M - 1) // GROUP, 0, 0
    if WINDOW > 0:
        low = tl.maximum(cached - WINDOW + 1 + tl.where(is_causal, first, 0), 0)
        start = tl.maximum(tl.where(is_causal, first - WINDOW + 1, 0), 0)
    return low, start, tl.where(is_causal, tl.minimum(canvas, last + 1), canvas)


@triton.jit
def _over_prefix(
    q: tl.tensor, keys: tl.tensor, values: tl.tensor, row: tl.tensor, is_causal: tl.tensor, low: tl.tensor,
    cached: tl.tensor, begin: tl.tensor, end: tl.tensor, top: tl.tensor, total: tl.tensor, acc: tl.tensor,
    D: tl.constexpr, WINDOW: tl.constexpr, BLOCK_N: tl.constexpr, SCALE: tl.constexpr, PRECISION: tl.constexpr,
) -> tl.tensor:  # fmt: skip
    """Attend to blocks begin .. end - 1 of the cached keys, counted from low."""
    for block in range(begin, end):
        key = low + block * BLOCK_N + tl.arange(0, BLOCK_N)
        inside = key < cached
        allowed = inside[None, :]
        if WINDOW > 0:
            allowed = allowed & (key[None, :] > cached - WINDOW + tl.where(is_causal, row, 0)[:, None])
        top, total, acc = _absorb(q, keys, values, key, inside, allowed, top, total, acc, D, SCALE, PRECISION)
    return top, total, acc


@triton.jit
def _over_canvas(
    q: tl.tensor, k: tl.tensor, v: tl.tensor, valid: tl.tensor, row: tl.tensor, is_causal: tl.tensor,
    start: tl.tensor, limit: tl.tensor, begin: tl.tensor, end: tl.tensor, top: tl.tensor, total: tl.tensor,
    acc: tl.tensor, D: tl.constexpr, WINDOW: tl.constexpr, BLOCK_N: tl.constexpr, SCALE: tl.constexpr,
    PRECISION: tl.constexpr,
) -> tl.tensor:  # fmt: skip
    """Attend to blocks begin .. end - 1 of the canvas' keys, counted from start."""
    for block in range(begin, end):
        key = start + block * BLOCK_N + tl.arange(0, BLOCK_N)
        inside = key < limit
        allowed = inside[None, :] & ((key[None, :] <= row[:, None]) | (is_causal == 0))
        if valid is not None:
            allowed = allowed & (tl.load(valid + key, mask=inside, other=0) != 0)[None, :]
        if WINDOW > 0:
            allowed = allowed & ((key[None, :] > row[:, None] - WINDOW) | (is_causal == 0))
        top, total, acc = _absorb(q, k, v, key, inside, allowed, top, total, acc, D, SCALE, PRECISION)
    return top, total, acc


@triton.jit
def _attention_kernel(
    q: tl.tensor, keys: tl.tensor, values: tl.tensor, k: tl.tensor, v: tl.tensor, valid: tl.tensor, slot: tl.tensor,
    length: tl.tensor, causal: tl.tensor, out: tl.tensor, stats: tl.tensor, q_b: tl.tensor, q_h: tl.tensor,
    q_n: tl.tensor, cache_s: tl.tensor, cache_g: tl.tensor, canvas_b: tl.tensor, canvas_g: tl.tensor, rows: tl.tensor,
    canvas: tl.tensor, GROUP: tl.constexpr, D: tl.constexpr, WINDOW: tl.constexpr, SPLITS: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, SCALE: tl.constexpr, PRECISION: tl.constexpr,
) -> None:  # fmt: skip
    split, group = tl.program_id(2) % SPLITS, tl.program_id(1).to(tl.int64)
    b = (tl.program_id(2) // SPLITS).to(tl.int64)
    cached, is_causal = tl.load(length + b), tl.load(causal + b).to(tl.int32) != 0
    m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    row, head = m // GROUP, group * GROUP + m % GROUP
    low, start, limit = _span(cached, is_causal, canvas, tl.program_id(0) * BLOCK_M, GROUP, WINDOW, BLOCK_M)
    in_prefix = (tl.maximum(cached - low, 0) + BLOCK_N - 1) // BLOCK_N
    blocks = in_prefix + (tl.maximum(limit - start, 0) + BLOCK_N - 1) // BLOCK_N
    share = (blocks + SPLITS - 1) // SPLITS
    begin, end = split * share, tl.minimum(split * share + share, blocks)
    column = tl.arange(0, D)
    at = b * q_b + head[:, None] * q_h + row.to(tl.int64)[:, None] * q_n + column[None, :]
    tile = tl.load(q + at, mask=row[:, None] < rows, other=0.0)
    top = tl.full([BLOCK_M], float("-inf"), tl.float32)
    total, acc = tl.zeros([BLOCK_M], tl.float32), tl.zeros([BLOCK_M, D], tl.float32)
    prefix, own = tl.load(slot + b).to(tl.int64) * cache_s + group * cache_g, b * canvas_b + group * canvas_g
    top, total, acc = _over_prefix(
        tile, keys + prefix, values + prefix, row, is_causal, low, cached, begin, tl.minimum(end, in_prefix),
        top, total, acc, D, WINDOW, BLOCK_N, SCALE, PRECISION,
    )  # fmt: skip
    mask = None if valid is None else valid + b * canvas
    top, total, acc = _over_canvas(
        tile, k + own, v + own, mask, row, is_causal, start, limit, tl.maximum(begin - in_prefix, 0), end - in_prefix,
        top, total, acc, D, WINDOW, BLOCK_N, SCALE, PRECISION,
    )  # fmt: skip
    mass = tl.where(total == 0.0, 1.0, total)
    acc = acc / mass[:, None]
    to = ((b * rows + row) * (GROUP * tl.num_programs(1)) + head) * SPLITS + split
    tl.store(out + to[:, None] * D + column[None, :], acc.to(out.dtype.element_ty), mask=row[:, None] < rows)
    if SPLITS > 1:
        tl.store(stats + to, tl.where(total == 0.0, float("-inf"), top + tl.log2(mass)), mask=row < rows)


@triton.jit
def _combine_kernel(
    partial: tl.tensor, stats: tl.tensor, out: tl.tensor, D: tl.constexpr, SPLITS: tl.constexpr, BLOCK_S: tl.constexpr
) -> None:
    """Sum the splits of one row and head, weighted by their share of the softmax."""
    at = tl.program_id(0).to(tl.int64)
    split, column = tl.arange(0, BLOCK_S), tl.arange(0, D)
    mass = tl.load(stats + at * SPLITS + split, mask=split < SPLITS, other=float("-inf"))
    top = tl.max(mass, axis=0)
    weight = tl.exp2(mass - tl.where(top == float("-inf"), 0.0, top))
    total = tl.sum(weight, axis=0)
    rows = partial + (at * SPLITS + split.to(tl.int64)[:, None]) * D + column[None, :]
    values = tl.load(rows, mask=split[:, None] < SPLITS, other=0.0)
    mixed = tl.sum(values * weight[:, None], axis=0) / tl.where(total == 0.0, 1.0, total)
    tl.store(out + at * D + column, mixed.to(out.dtype.element_ty))


def attention(
    q: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    slot: torch.Tensor,
    length: torch.Tensor,
    causal: torch.Tensor,
    valid: torch.Tensor | None,
    window: int | None,
) -> torch.Tensor:
    """Attend q [B, H, N, D] to keys, values [S, G, M, D] and then to k, v [B, G, C, D]. Returns [B, H, N, D].

    slot, length [B] are int32; causal [B] and valid [B, C] are boolean (valid None: all); all are on the device. window
    counts the row itself. D is a power of two from 16 to 512. Heads are contiguous; the result lies as [B, N, H, D].
    """
    _check(q, keys, values, k, v, valid)
    (batch, heads, rows, size), groups, canvas = q.shape, k.shape[1], k.shape[2]
    config = _config(q)
    tiles = cdiv(rows * heads // groups, config.block_m)
    visible = canvas + (keys.shape[2] if window is None else min(window, keys.shape[2]))
    splits = _splits(tiles * groups * batch, cdiv(visible, config.block_n), processors(q))
    stats, dtype = None, q.dtype
    if splits > 1:
        stats, dtype = torch.empty(batch, rows, heads, splits, dtype=torch.float32, device=q.device), torch.float32
    out = torch.empty(batch, rows, heads, splits, size, dtype=dtype, device=q.device)
    sizes = {"GROUP": heads // groups, "D": size, "WINDOW": window or 0, "SPLITS": splits}
    cuts = {"BLOCK_M": config.block_m, "BLOCK_N": config.block_n, "num_warps": config.warps}
    _attention_kernel[(tiles, groups, batch * splits)](
        *(q, keys, values, k, v, valid, slot, length, causal, out, stats),
        *(*q.stride()[:3], *keys.stride()[:2], *k.stride()[:2], rows, canvas),
        **sizes,
        **cuts,
        SCALE=LOG2E,
        PRECISION=precision(q),
        num_stages=config.stages,
    )
    return (out[:, :, :, 0] if stats is None else _combine(out, stats, q.dtype)).transpose(1, 2)


def _check(
    q: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    valid: torch.Tensor | None,
) -> None:
    size = q.shape[-1]
    assert size == power_of_two(size) >= 16
    assert all(x.stride()[-2:] == (size, 1) for x in (keys, values, k, v))
    assert keys.stride() == values.stride()
    assert k.stride() == v.stride()
    assert q.stride(-1) == 1
    assert valid is None or valid.is_contiguous()


def _combine(partial: torch.Tensor, stats: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Results of splits [B, N, H, S, D] and the log2 of their softmax sums [B, N, H, S] -> [B, N, H, D]."""
    batch, rows, heads, splits, size = partial.shape
    out = torch.empty(batch, rows, heads, size, dtype=dtype, device=partial.device)
    sizes = {"D": size, "SPLITS": splits, "BLOCK_S": power_of_two(splits)}
    _combine_kernel[(batch * rows * heads,)](partial, stats, out, **sizes, num_warps=4)
    return out


def _config(q: torch.Tensor) -> Config:
    have, wide, head = shared_memory(q), q.element_size(), q.shape[-1] * q.element_size()
    rows = CONFIGS.items()
    return next(one for (most, size, least), one in rows if wide <= most and head <= size and have >= least)


def _splits(programs: int, blocks: int, processors: int) -> int:
    """How many programs divide a tile's keys: enough to fill the device about once, with two blocks each at least.

    A power of two, because each value is a kernel of its own, compiled while the user waits.
    """
    return whole_power(min(cdiv(processors, programs), blocks // 2, MAX_SPLITS))


def attention_reference(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None = None, causal: bool = False
) -> torch.Tensor:
    """Attend q [B, H, N, D] to k, v [B, G, M, D] (H a multiple of G); mask is boolean and broadcasts to [B, H, N, M].

    True in the mask means "may attend". `causal` needs N == M and no mask.
    """
    groups = q.shape[1] // k.shape[1]
    if groups > 1:
        k = k.repeat_interleave(groups, dim=1)
        v = v.repeat_interleave(groups, dim=1)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal, scale=1.0)


def cached_attention_reference(
    q: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    slot: torch.Tensor,
    length: torch.Tensor,
    causal: torch.Tensor,
    valid: torch.Tensor | None,
    window: int | None,
) -> torch.Tensor:
    """Reference of attention, one request at a time, with the masks of engine/backends/plain.py."""
    rows, canvas = q.shape[2], k.shape[2]
    out = []
    for b, (where, cached) in enumerate(zip(slot.tolist(), length.tolist(), strict=True)):
        key = torch.arange(cached + canvas, device=q.device)
        row = torch.arange(cached, cached + rows, device=q.device)[:, None]
        reach = cached + canvas if window is None else window
        seen = (key > row - reach) & (key <= row) if causal[b] else key > cached - reach
        mask = seen.expand(rows, -1).clone()
        if valid is not None:
            mask[:, cached:] &= valid[b]
        all_k = torch.cat((keys[where, :, :cached], k[b]), dim=1)[None]
        all_v = torch.cat((values[where, :, :cached], v[b]), dim=1)[None]
        out.append(torch.where(mask.any(dim=-1)[:, None], attention_reference(q[b : b + 1], all_k, all_v, mask), 0.0))
    return torch.cat(out)
