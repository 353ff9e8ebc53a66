"""Mixture-of-experts routing on the device: the top k experts of each row, and the pairs (row, slot) sorted by expert.

    p = softmax((norm(x) * scale * d^-0.5) proj^T) in float32;  the k largest, renormalised, times per_expert_scale

`router` runs two kernels. The first computes scores of raw residual rows x [T, d]: it splits d over programs and sums
x^2 as well, because the norm is one factor of a row's scores. The second, one program per row, chooses the experts. Of
equal probabilities the lower expert wins.
`sort_by_expert` sorts pairs p = row * k + slot stably by expert, and gives where each expert's pairs begin. One program
per expert counts the pairs of lower experts, so the result does not depend on the order in which programs run.
"""

from __future__ import annotations

import torch

from midspan.kernels.launch import cdiv, power_of_two, precision, processors, tl, triton, whole_power
from midspan.kernels.rms_norm import rms_norm_reference

BLOCK_T = 16
BLOCK_D = 128
MAX_SPLITS = 8
BLOCK_PAIRS = 1024


@triton.jit
def _scores_kernel(
    x: tl.tensor, scale: tl.tensor, proj: tl.tensor, scores: tl.tensor, squares: tl.tensor, rows: tl.tensor,
    WIDTH: tl.constexpr, EXPERTS: tl.constexpr, SPLITS: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr,
    BLOCK_E: tl.constexpr, PRECISION: tl.constexpr,
) -> None:  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * BLOCK_T + tl.arange(0, BLOCK_T)
    split, expert = tl.program_id(1), tl.arange(0, BLOCK_E)
    share: tl.constexpr = (WIDTH + SPLITS * BLOCK_D - 1) // (SPLITS * BLOCK_D) * BLOCK_D
    score = tl.zeros([BLOCK_T, BLOCK_E], tl.float32)
    square = tl.zeros([BLOCK_T], tl.float32)
    for start in range(split * share, split * share + share, BLOCK_D):
        column = start + tl.arange(0, BLOCK_D)
        inside = column < WIDTH
        taken = (row[:, None] < rows) & inside[None, :]
        tile = tl.load(x + row[:, None] * WIDTH + column[None, :], mask=taken, other=0.0).to(tl.float32)
        square += tl.sum(tile * tile, axis=1)
        scaled = tile * tl.load(scale + column, mask=inside, other=0.0).to(tl.float32)[None, :]
        weight = tl.load(
            proj + expert[None, :] * WIDTH + column[:, None],
            mask=inside[:, None] & (expert[None, :] < EXPERTS),
            other=0.0,
        )
        score += tl.dot(scaled.to(weight.dtype), weight, input_precision=PRECISION)
    at = split.to(tl.int64) * rows + row
    kept = (row[:, None] < rows) & (expert[None, :] < EXPERTS)
    tl.store(scores + at[:, None] * EXPERTS + expert[None, :], score, mask=kept)
    tl.store(squares + at, square, mask=row < rows)


@triton.jit
def _choose_kernel(
    scores: tl.tensor, squares: tl.tensor, per_expert_scale: tl.tensor, weights: tl.tensor, index: tl.tensor,
    rows: tl.tensor, eps: tl.tensor, WIDTH: tl.constexpr, EXPERTS: tl.constexpr, SPLITS: tl.constexpr,
    TOP_K: tl.constexpr, BLOCK_E: tl.constexpr, BLOCK_K: tl.constexpr,
) -> None:  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    expert, slot = tl.arange(0, BLOCK_E), tl.arange(0, BLOCK_K)
    inside = expert < EXPERTS
    score, square = tl.zeros([BLOCK_E], tl.float32), 0.0
    for split in tl.static_range(SPLITS):
        at = split * rows + row
        score += tl.load(scores + at * EXPERTS + expert, mask=inside, other=0.0)
        square += tl.load(squares + at)
    score *= tl.rsqrt(square / WIDTH + eps) * WIDTH**-0.5
    # In the reference a matrix product rounds scores to the weights' dtype.
    score = score.to(per_expert_scale.dtype.element_ty).to(tl.float32)
    score = tl.where(inside, score, float("-inf"))
    left = tl.exp(score - tl.max(score, axis=0))
    total, weight, chosen = 0.0, tl.zeros([BLOCK_K], tl.float32), tl.zeros([BLOCK_K], tl.int32)
    left = tl.where(inside, left, -1.0)
    for k in tl.static_range(TOP_K):
        best = tl.argmax(left, axis=0)
        value = tl.max(left, axis=0)
        scaled = value * tl.load(per_expert_scale + best).to(tl.float32)
        weight, chosen = tl.where(slot == k, scaled, weight), tl.where(slot == k, best, chosen)
        total += value
        left = tl.where(expert == best, -1.0, left)
    tl.store(weights + row * TOP_K + slot, weight / total, mask=slot < TOP_K)
    tl.store(index + row * TOP_K + slot, chosen, mask=slot < TOP_K)


@triton.jit
def _sort_kernel(
    index: tl.tensor, order: tl.tensor, bounds: tl.tensor, pairs: tl.tensor, EXPERTS: tl.constexpr, BLOCK: tl.constexpr
) -> None:
    expert = tl.program_id(0)
    before = 0
    for start in range(0, pairs, BLOCK):
        pair = start + tl.arange(0, BLOCK)
        before += tl.sum((tl.load(index + pair, mask=pair < pairs, other=EXPERTS) < expert).to(tl.int32), axis=0)
    tl.store(bounds + expert, before)
    if expert == EXPERTS - 1:
        tl.store(bounds + EXPERTS, pairs)
    for start in range(0, pairs, BLOCK):
        pair = start + tl.arange(0, BLOCK)
        mine = tl.load(index + pair, mask=pair < pairs, other=EXPERTS) == expert
        rank = tl.cumsum(mine.to(tl.int32), axis=0)
        tl.store(order + before + rank - 1, pair, mask=mine)
        before += tl.sum(mine.to(tl.int32), axis=0)


def router(
    x: torch.Tensor,
    scale: torch.Tensor,
    proj: torch.Tensor,
    per_expert_scale: torch.Tensor,
    top_k: int,
    eps: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Route raw residual rows x [T, d] with scale [d], proj [E, d], per_expert_scale [E]; all contiguous.

    Returns weights [T, k] in float32 and expert indices [T, k] in int32, the likeliest expert first.
    """
    (rows, width), experts = x.shape, proj.shape[0]
    assert all(one.is_contiguous() for one in (x, scale, proj, per_expert_scale))
    assert 1 <= top_k <= experts
    tiles, block_e = cdiv(rows, BLOCK_T), max(16, power_of_two(experts))
    splits = whole_power(min(cdiv(processors(x), tiles), cdiv(width, BLOCK_D), MAX_SPLITS))
    scores = torch.empty(splits, rows, experts, dtype=torch.float32, device=x.device)
    squares = torch.empty(splits, rows, dtype=torch.float32, device=x.device)
    weights = torch.empty(rows, top_k, dtype=torch.float32, device=x.device)
    index = torch.empty(rows, top_k, dtype=torch.int32, device=x.device)
    sizes = {"WIDTH": width, "EXPERTS": experts, "SPLITS": splits, "BLOCK_E": block_e}
    cuts = {"BLOCK_T": BLOCK_T, "BLOCK_D": BLOCK_D, "num_warps": 4, "num_stages": 2}
    _scores_kernel[(tiles, splits)](x, scale, proj, scores, squares, rows, **sizes, **cuts, PRECISION=precision(x))
    _choose_kernel[(rows,)](
        *(scores, squares, per_expert_scale, weights, index, rows, eps),
        **sizes,
        TOP_K=top_k,
        BLOCK_K=power_of_two(top_k),
        num_warps=1,
    )
    return weights, index


def sort_by_expert(index: torch.Tensor, experts: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Sort the pairs of index [T, k] (int32, contiguous). Returns pairs [T * k] and bounds [E + 1], both in int32.

    Expert e's pairs are at bounds[e] .. bounds[e + 1] - 1 in ascending order; pair p is row p // k, slot p % k.
    """
    assert index.dtype == torch.int32
    assert index.is_contiguous()
    order = torch.empty(index.numel(), dtype=torch.int32, device=index.device)
    bounds = torch.empty(experts + 1, dtype=torch.int32, device=index.device)
    _sort_kernel[(experts,)](index, order, bounds, index.numel(), EXPERTS=experts, BLOCK=BLOCK_PAIRS, num_warps=4)
    return order, bounds


def router_reference(
    x: torch.Tensor,
    scale: torch.Tensor,
    proj: torch.Tensor,
    per_expert_scale: torch.Tensor,
    top_k: int,
    eps: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Route raw residual rows x [T, d] with scale [d], proj [E, d], per_expert_scale [E].

    Returns weights [T, k] in float32 and expert indices [T, k].
    """
    normed = rms_norm_reference(x, None, eps) * scale * x.shape[-1] ** -0.5
    probabilities = torch.softmax((normed @ proj.T).float(), dim=-1)
    weights, index = torch.topk(probabilities, top_k, dim=-1)
    weights = weights / weights.sum(dim=-1, keepdim=True)
    return weights * per_expert_scale[index], index


def sort_by_expert_reference(index: torch.Tensor, experts: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Reference of sort_by_expert."""
    order = torch.sort(index.flatten(), stable=True).indices
    counts = torch.bincount(index.flatten(), minlength=experts)
    bounds = torch.cat((counts.new_zeros(1), counts.cumsum(dim=0)))
    return order.int(), bounds.int()
