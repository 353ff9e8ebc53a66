"""Head and sampling for free rows only, without logits [R, V] in memory: entropy, argmax, sample, soft embedding.

    l        = softcap * tanh(h E^T / softcap) / temperature                     h: free rows of hidden [T, d], E [V, d]
    entropy  = -sum p log p, p = softmax(l)        argmax = argmax l             in nats
    sample   = argmax (l + gumbel(seed, step, row, column))                      a sample from p (Gumbel-max)
    soft     = (p E) * scale                                                     conditions the next step

The vocabulary is read in chunks, as flash attention reads keys. `head` computes one chunk's l and each tile's
statistics. `merge` adds them to the running statistics and computes by how much older sums shrink. `soft` shrinks the
sums so far and adds exp(l - max) E of the chunk. Sums are added in a fixed order. The scratch memory for l is
[R, CHUNK] float32; without soft embeddings there is none.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from midspan.kernels.counter import DRAW, gumbel, gumbel_reference, philox_reference
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

CHUNK = 32768
MAX_SPLITS = 4


class Vocabulary(NamedTuple):
    """By canvas row, 0 where a row is not free: entropy [T] float32, argmax, sample [T] int32, soft [T, d] or None."""

    entropy: torch.Tensor
    argmax: torch.Tensor
    sample: torch.Tensor
    soft: torch.Tensor | None


class Config(NamedTuple):
    """Tile sizes, warps and stages; `block_r` is the most rows of a tile."""

    block_r: int
    block_v: int
    block_k: int
    warps: int
    stages: int


# By (bytes of a weight at most, shared memory at least); the first that fits. On the CPU tiles are small.
CONFIGS = {
    (2, LARGE): Config(128, 128, 64, 8, 3),
    (2, SMALL): Config(64, 128, 64, 8, 3),
    (4, SMALL): Config(32, 64, 32, 4, 2),
    (4, 0): Config(16, 16, 32, 4, 1),
}


@triton.jit
def _raced(
    logit: tl.tensor, seed: tl.tensor, step: tl.tensor, row: tl.tensor, first: tl.tensor, STREAM: tl.constexpr,
    BLOCK_R: tl.constexpr, BLOCK_V: tl.constexpr,
) -> tl.tensor:  # fmt: skip
    """Logits plus Gumbel noise; one Philox counter gives the numbers of four columns."""
    four = first // 4 + tl.arange(0, BLOCK_V // 4)
    none = tl.zeros([BLOCK_R, BLOCK_V // 4], tl.int32)
    a, b, c, d = tl.philox(seed, none + four[None, :], none + row[:, None], none + step, none + STREAM)
    bits = tl.reshape(tl.join(tl.join(a, c), tl.join(b, d)), [BLOCK_R, BLOCK_V])
    return logit + gumbel(bits)


@triton.jit
def _logits(
    hidden: tl.tensor, row: tl.tensor, embedding: tl.tensor, column: tl.tensor, inside: tl.tensor,
    temperature: tl.tensor, allowed: tl.tensor, first: tl.tensor, WIDTH: tl.constexpr, SOFTCAP: tl.constexpr,
    BLOCK_R: tl.constexpr, BLOCK_V: tl.constexpr, BLOCK_K: tl.constexpr, PRECISION: tl.constexpr,
) -> tl.tensor:  # fmt: skip
    """Soft-capped logits of one tile over the temperature; -inf for columns that are no token or not allowed."""
    acc = tl.zeros([BLOCK_R, BLOCK_V], tl.float32)
    for start in range(0, WIDTH, BLOCK_K):
        k = start + tl.arange(0, BLOCK_K)
        taken = (row[:, None] >= 0) & (k[None, :] < WIDTH)
        h = tl.load(hidden + row.to(tl.int64)[:, None] * WIDTH + k[None, :], mask=taken, other=0.0)
        at = embedding + column.to(tl.int64)[None, :] * WIDTH + k[:, None]
        e = tl.load(at, mask=inside[None, :] & (k[:, None] < WIDTH), other=0.0)
        acc = tl.dot(h, e, acc, input_precision=PRECISION)
    # In the reference a matrix product rounds logits to the weights' dtype.
    raw = acc.to(embedding.dtype.element_ty).to(tl.float32)
    small = tl.exp(-2.0 * tl.abs(raw) / SOFTCAP)
    size = SOFTCAP * (1.0 - small) / (1.0 + small)
    logit = tl.where(raw < 0.0, -size, size) / temperature
    permitted = inside[None, :] & (row[:, None] >= 0)
    if allowed is not None:
        bits = tl.load(allowed + column, mask=inside, other=0).to(tl.int32)
        at_first = tl.load(first + row, mask=row >= 0, other=0).to(tl.int32)
        permitted = permitted & (((bits[None, :] >> at_first[:, None]) & 1) != 0)
    return tl.where(permitted, logit, float("-inf"))


@triton.jit
def _head_kernel(
    hidden: tl.tensor, rows: tl.tensor, embedding: tl.tensor, temperatures: tl.tensor, seed: tl.tensor,
    step: tl.tensor, allowed: tl.tensor, first: tl.tensor, logits: tl.tensor, floats: tl.tensor, ids: tl.tensor,
    count: tl.tensor, chunk: tl.tensor, end: tl.tensor, WIDTH: tl.constexpr, SOFTCAP: tl.constexpr,
    CHUNK: tl.constexpr, STREAM: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_V: tl.constexpr, BLOCK_K: tl.constexpr,
    PRECISION: tl.constexpr,
) -> None:  # fmt: skip
    tile = tl.program_id(1)
    r = tl.program_id(0) * BLOCK_R + tl.arange(0, BLOCK_R)
    row = tl.load(rows + r, mask=r < count, other=-1)
    number = tl.load(step)
    begin = chunk + tile * BLOCK_V
    column = begin + tl.arange(0, BLOCK_V)
    logit = _logits(
        hidden, row, embedding, column, column < end, tl.load(temperatures + number), allowed, first, WIDTH, SOFTCAP,
        BLOCK_R, BLOCK_V, BLOCK_K, PRECISION,
    )  # fmt: skip
    if logits is not None:
        at = r.to(tl.int64)[:, None] * CHUNK + (column - chunk)[None, :]
        tl.store(logits + at, logit, mask=(r[:, None] < count) & (column[None, :] < end))
    top = tl.max(logit, axis=1)
    away = logit - tl.where(top == float("-inf"), 0.0, top)[:, None]
    weight = tl.exp(away)
    race = _raced(logit, tl.load(seed), number, row, begin, STREAM, BLOCK_R, BLOCK_V)
    at, plane, kept = tile.to(tl.int64) * count + r, tl.num_programs(1).to(tl.int64) * count, r < count
    tl.store(floats + at, top, mask=kept)
    tl.store(floats + plane + at, tl.sum(weight, axis=1), mask=kept)
    tl.store(floats + 2 * plane + at, tl.sum(weight * tl.where(weight > 0.0, away, 0.0), axis=1), mask=kept)
    tl.store(floats + 3 * plane + at, tl.max(race, axis=1), mask=kept)
    tl.store(ids + at, begin + tl.argmax(logit, axis=1), mask=kept)
    tl.store(ids + plane + at, begin + tl.argmax(race, axis=1), mask=kept)


@triton.jit
def _merge_kernel(
    floats: tl.tensor, ids: tl.tensor, state: tl.tensor, chosen: tl.tensor, fade: tl.tensor, tiles: tl.tensor,
    BLOCK: tl.constexpr,
) -> None:  # fmt: skip
    r, count = tl.program_id(0), tl.num_programs(0)
    tile = tl.arange(0, BLOCK)
    inside, at, plane = tile < tiles, tile.to(tl.int64) * count + r, tiles.to(tl.int64) * count
    tops = tl.load(floats + at, mask=inside, other=float("-inf"))
    races = tl.load(floats + 3 * plane + at, mask=inside, other=float("-inf"))
    old_top, old_race = tl.load(state + r), tl.load(state + 3 * count + r)
    chunk_top, chunk_race = tl.max(tops, axis=0), tl.max(races, axis=0)
    top = tl.maximum(chunk_top, old_top)
    base = tl.where(top == float("-inf"), 0.0, top)
    share, old_share = tl.exp(tops - base), tl.exp(old_top - base)
    totals = tl.load(floats + plane + at, mask=inside, other=0.0)
    weighted = tl.load(floats + 2 * plane + at, mask=inside, other=0.0)
    old_total, old_weighted = tl.load(state + count + r), tl.load(state + 2 * count + r)
    # If the maximum moves by m, sum e^x (x - max) moves by m times sum e^x.
    moved = weighted + totals * tl.where(share > 0.0, tops - base, 0.0)
    old_moved = old_weighted + old_total * tl.where(old_share > 0.0, old_top - base, 0.0)
    tl.store(state + r, top)
    tl.store(state + count + r, tl.sum(share * totals, axis=0) + old_share * old_total)
    tl.store(state + 2 * count + r, tl.sum(share * moved, axis=0) + old_share * old_moved)
    tl.store(state + 3 * count + r, tl.maximum(chunk_race, old_race))
    tl.store(fade + r, old_share)
    best, raced = tl.argmax(tops, axis=0).to(tl.int64), tl.argmax(races, axis=0).to(tl.int64)
    # Of equal values the lower token wins, so an older chunk's choice stays.
    tl.store(chosen + r, tl.load(ids + best * count + r), mask=chunk_top > old_top)
    tl.store(chosen + count + r, tl.load(ids + plane + raced * count + r), mask=chunk_race > old_race)


@triton.jit
def _soft_kernel(
    logits: tl.tensor, state: tl.tensor, fade: tl.tensor, embedding: tl.tensor, sums: tl.tensor, count: tl.tensor,
    chunk: tl.tensor, end: tl.tensor, FIRST: tl.constexpr, WIDTH: tl.constexpr, CHUNK: tl.constexpr,
    SPLITS: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_K: tl.constexpr,
    PRECISION: tl.constexpr,
) -> None:  # fmt: skip
    r = (tl.program_id(0) * BLOCK_R + tl.arange(0, BLOCK_R)).to(tl.int64)
    column, split = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D), tl.program_id(2)
    top = tl.load(state + r, mask=r < count, other=float("-inf"))
    base = tl.where(top == float("-inf"), 0.0, top)
    kept = (r[:, None] < count) & (column[None, :] < WIDTH)
    to = sums + (split.to(tl.int64) * count + r)[:, None] * WIDTH + column[None, :]
    acc = tl.zeros([BLOCK_R, BLOCK_D], tl.float32)
    if not FIRST:
        acc = tl.load(to, mask=kept, other=0.0) * tl.load(fade + r, mask=r < count, other=0.0)[:, None]
    share: tl.constexpr = (CHUNK + SPLITS * BLOCK_K - 1) // (SPLITS * BLOCK_K) * BLOCK_K
    for start in range(split * share, tl.minimum(split * share + share, end - chunk), BLOCK_K):
        k = start + tl.arange(0, BLOCK_K)
        inside = k < end - chunk
        taken = (r[:, None] < count) & inside[None, :]
        logit = tl.load(logits + r[:, None] * CHUNK + k[None, :], mask=taken, other=float("-inf"))
        at = embedding + (chunk + k).to(tl.int64)[:, None] * WIDTH + column[None, :]
        e = tl.load(at, mask=inside[:, None] & (column[None, :] < WIDTH), other=0.0)
        acc = tl.dot(tl.exp(logit - base[:, None]).to(e.dtype), e, acc, input_precision=PRECISION)
    tl.store(to, acc, mask=kept)


@triton.jit
def _finish_kernel(
    rows: tl.tensor, state: tl.tensor, chosen: tl.tensor, sums: tl.tensor, entropy: tl.tensor, argmax: tl.tensor,
    sample: tl.tensor, soft: tl.tensor, scale: tl.tensor, WIDTH: tl.constexpr, SPLITS: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:  # fmt: skip
    r, count = tl.program_id(0).to(tl.int64), tl.num_programs(0)
    row = tl.load(rows + r).to(tl.int64)
    total = tl.load(state + count + r)
    mass = tl.where(row >= 0, total, 1.0)
    tl.store(entropy + row, tl.log(mass) - tl.load(state + 2 * count + r) / mass, mask=row >= 0)
    tl.store(argmax + row, tl.load(chosen + r), mask=row >= 0)
    tl.store(sample + row, tl.load(chosen + count + r), mask=row >= 0)
    if soft is not None:
        column = tl.arange(0, BLOCK)
        inside = (column < WIDTH) & (row >= 0)
        acc = tl.zeros([BLOCK], tl.float32)
        for split in tl.static_range(SPLITS):
            acc += tl.load(sums + (split * count + r) * WIDTH + column, mask=inside, other=0.0)
        tl.store(soft + row * WIDTH + column, (acc / mass * scale).to(soft.dtype.element_ty), mask=inside)


def vocabulary(
    hidden: torch.Tensor,
    rows: torch.Tensor,
    embedding: torch.Tensor,
    temperatures: torch.Tensor,
    seed: torch.Tensor,
    step: torch.Tensor,
    allowed: torch.Tensor | None,
    first: torch.Tensor | None,
    softcap: float,
    scale: float | None,
) -> Vocabulary:
    """Sample rows [R] (int32, each once; negative ones are padding) of hidden [T, d] with the tied embedding [V, d].

    temperatures [steps] float32 is indexed by step [1] (int32). seed [1] (int64), step and a row's number decide its
    sample. allowed [V] uint8: bit 0 allows the token in a row, bit 1 in a row whose first [T] (boolean) is set; both
    None: all are allowed. scale multiplies the soft embedding; None leaves it out. All tensors are contiguous.
    """
    assert all(one.is_contiguous() for one in (hidden, rows, embedding))
    assert (allowed is None) == (first is None)
    (tokens, width), count, size = hidden.shape, len(rows), len(embedding)
    entropy = torch.zeros(tokens, dtype=torch.float32, device=hidden.device)
    argmax, sample = torch.zeros(2, tokens, dtype=torch.int32, device=hidden.device)
    soft = None if scale is None else torch.zeros_like(hidden)
    if count == 0:
        return Vocabulary(entropy, argmax, sample, soft)
    scratch = _scratch(hidden, count, size, soft is not None)
    for start in range(0, size, scratch.chunk):
        span = (start, min(start + scratch.chunk, size))
        _read_chunk(hidden, rows, embedding, (temperatures, seed, step, allowed, first), scratch, span, softcap)
        if soft is not None:
            _add_soft(embedding, scratch, span)
    _finish_kernel[(count,)](
        *(rows, scratch.state, scratch.chosen, scratch.sums, entropy, argmax, sample, soft, scale or 0.0),
        WIDTH=width,
        SPLITS=scratch.splits,
        BLOCK=power_of_two(width),
        num_warps=4,
    )
    return Vocabulary(entropy, argmax, sample, soft)


class _Scratch(NamedTuple):
    """Memory between the kernels: a chunk's logits [R, chunk], running state [4, R], chosen ids [2, R], soft sums."""

    config: Config
    chunk: int
    splits: int
    logits: torch.Tensor | None
    state: torch.Tensor
    chosen: torch.Tensor
    fade: torch.Tensor
    sums: torch.Tensor | None


def _scratch(hidden: torch.Tensor, count: int, size: int, soft: bool) -> _Scratch:
    have, width = shared_memory(hidden), hidden.shape[1]
    config = next(one for (least, at), one in CONFIGS.items() if hidden.element_size() <= least and have >= at)
    config = config._replace(block_r=max(16, min(config.block_r, power_of_two(count))))
    chunk = min(CHUNK, cdiv(size, config.block_v) * config.block_v)
    programs = cdiv(count, config.block_r) * cdiv(width, config.block_v)
    splits = whole_power(min(cdiv(processors(hidden), programs), MAX_SPLITS, chunk // config.block_k)) if soft else 1
    state = torch.zeros(4, count, dtype=torch.float32, device=hidden.device)
    state[0::3] = -torch.inf
    return _Scratch(
        config=config,
        chunk=chunk,
        splits=splits,
        logits=torch.empty(count, chunk, dtype=torch.float32, device=hidden.device) if soft else None,
        state=state,
        chosen=torch.zeros(2, count, dtype=torch.int32, device=hidden.device),
        fade=torch.empty(count, dtype=torch.float32, device=hidden.device),
        sums=torch.empty(splits, count, width, dtype=torch.float32, device=hidden.device) if soft else None,
    )


def _read_chunk(
    hidden: torch.Tensor,
    rows: torch.Tensor,
    embedding: torch.Tensor,
    draws: tuple[torch.Tensor | None, ...],
    scratch: _Scratch,
    span: tuple[int, int],
    softcap: float,
) -> None:
    """Compute logits and statistics of tokens span[0] .. span[1] - 1 and merge them into the running state."""
    config, count = scratch.config, len(rows)
    tiles = cdiv(span[1] - span[0], config.block_v)
    floats = torch.empty(4, tiles, count, dtype=torch.float32, device=hidden.device)
    ids = torch.empty(2, tiles, count, dtype=torch.int32, device=hidden.device)
    _head_kernel[(cdiv(count, config.block_r), tiles)](
        *(hidden, rows, embedding, *draws, scratch.logits, floats, ids, count, *span),
        WIDTH=hidden.shape[1],
        SOFTCAP=softcap,
        CHUNK=scratch.chunk,
        STREAM=DRAW,
        BLOCK_R=config.block_r,
        BLOCK_V=config.block_v,
        BLOCK_K=config.block_k,
        PRECISION=precision(hidden),
        num_warps=config.warps,
        num_stages=config.stages,
    )
    state = (scratch.state, scratch.chosen, scratch.fade)
    _merge_kernel[(count,)](floats, ids, *state, tiles, BLOCK=power_of_two(tiles), num_warps=4)


def _add_soft(embedding: torch.Tensor, scratch: _Scratch, span: tuple[int, int]) -> None:
    """Add exp(l - max) E of one chunk to the sums of the chunks before it, scaled down to the new maximum."""
    assert scratch.logits is not None
    (count, chunk), width, config = scratch.logits.shape, embedding.shape[1], scratch.config
    _soft_kernel[(cdiv(count, config.block_r), cdiv(width, config.block_v), scratch.splits)](
        *(scratch.logits, scratch.state, scratch.fade, embedding, scratch.sums, count, *span),
        FIRST=span[0] == 0,
        WIDTH=width,
        CHUNK=chunk,
        SPLITS=scratch.splits,
        BLOCK_R=config.block_r,
        BLOCK_D=config.block_v,
        BLOCK_K=config.block_k,
        PRECISION=precision(embedding),
        num_warps=config.warps,
        num_stages=config.stages,
    )


def vocabulary_reference(
    hidden: torch.Tensor,
    rows: torch.Tensor,
    embedding: torch.Tensor,
    temperatures: torch.Tensor,
    seed: torch.Tensor,
    step: torch.Tensor,
    allowed: torch.Tensor | None,
    first: torch.Tensor | None,
    softcap: float,
    scale: float | None,
) -> Vocabulary:
    """Reference of vocabulary, with logits [R, V] in memory; as engine/model.py's logits and engine/sampling.py."""
    row = rows[rows >= 0].long()
    logits = torch.tanh((hidden[row] @ embedding.T).float() / softcap) * softcap / temperatures[step.long()]
    if allowed is not None and first is not None:
        logits = logits.masked_fill((allowed.long() >> first[row].long()[:, None]) & 1 == 0, -torch.inf)
    probabilities = torch.softmax(logits, dim=-1)
    column = torch.arange(len(embedding), device=hidden.device)
    four = philox_reference(int(seed), column // 4, row[:, None], step, torch.full_like(step, DRAW))
    lane = (column % 4).expand(len(row), -1)[..., None]
    race = logits + gumbel_reference(torch.stack(four, dim=-1).gather(-1, lane).squeeze(-1))
    entropy = torch.zeros(len(hidden), device=hidden.device)
    entropy[row] = torch.special.entr(probabilities).sum(dim=-1)
    argmax, sample = torch.zeros(2, len(hidden), dtype=torch.int32, device=hidden.device)
    argmax[row], sample[row] = logits.argmax(dim=-1).int(), race.argmax(dim=-1).int()
    soft = None
    if scale is not None:
        soft = torch.zeros_like(hidden)
        soft[row] = probabilities.to(hidden.dtype) @ embedding * scale
    return Vocabulary(entropy, argmax, sample, soft)
