"""The end of a denoise step: accept samples by entropy, renoise other free positions, and decide whether to stop.

    before[i]  = sum of the entropies of the free positions that come before i in ascending (entropy, position)
    accepted   = free and before <= bound                          (arXiv:2505.24857; at least one in each canvas)
    current    = the sample where accepted, new noise at other free positions, the clean token elsewhere
    draft      = the argmax at free positions, the clean token elsewhere
    finished   = draft equals the last step's, and mean entropy over free positions < threshold; or no position is free

One program per canvas of C tokens; ranks come from C * C comparisons instead of a sort. A finished canvas does not
change. The last program to end writes the stop flag and counts the step, so that the host reads one flag only.
"""

from __future__ import annotations

import torch

from midspan.kernels.counter import NOISE, below_reference, philox_reference
from midspan.kernels.launch import power_of_two, tl, triton

BLOCK_J = 32


@triton.jit
def _entropy_before(
    entropy: tl.tensor, free: tl.tensor, own: tl.tensor, i: tl.tensor, canvas: tl.tensor, BLOCK_J: tl.constexpr
) -> tl.tensor:
    """For each position i with entropy `own`: the sum over the free positions that come before it."""
    before = tl.zeros_like(own)
    for start in range(0, canvas, BLOCK_J):
        j = start + tl.arange(0, BLOCK_J)
        counted = tl.load(free + j, mask=j < canvas, other=0) != 0
        other = tl.load(entropy + j, mask=counted, other=0.0)
        ahead = (other[None, :] < own[:, None]) | ((other[None, :] == own[:, None]) & (j[None, :] < i[:, None]))
        before += tl.sum(tl.where(ahead & counted[None, :], other[None, :], 0.0), axis=1)
    return before


@triton.jit
def _settle_kernel(
    entropy: tl.tensor, sample: tl.tensor, argmax: tl.tensor, clean: tl.tensor, free: tl.tensor, current: tl.tensor,
    draft: tl.tensor, finished: tl.tensor, accepted: tl.tensor, seed: tl.tensor, step: tl.tensor, stop: tl.tensor,
    arrived: tl.tensor, bound: tl.tensor, threshold: tl.tensor, canvas: tl.tensor, vocabulary: tl.tensor,
    STREAM: tl.constexpr, BLOCK: tl.constexpr, BLOCK_J: tl.constexpr,
) -> None:  # fmt: skip
    b, i = tl.program_id(0), tl.arange(0, BLOCK)
    inside, at = i < canvas, b * canvas + i
    number, done = tl.load(step), tl.load(finished + b) != 0
    is_free = tl.load(free + at, mask=inside, other=0) != 0
    own = tl.load(entropy + at, mask=is_free, other=0.0)
    kept = is_free & (_entropy_before(entropy + b * canvas, free + b * canvas, own, i, canvas, BLOCK_J) <= bound)
    bits, _, _, _ = tl.philox(tl.load(seed), i, i * 0 + b, i * 0 + number, i * 0 + STREAM)
    noise = tl.umulhi(bits, (i * 0 + vocabulary).to(tl.uint32)).to(tl.int32)
    token = tl.load(clean + at, mask=inside, other=0).to(tl.int32)
    best = tl.load(argmax + at, mask=is_free, other=0).to(tl.int32)
    drawn = tl.load(sample + at, mask=kept, other=0).to(tl.int32)
    previous = tl.load(draft + at, mask=inside, other=0).to(tl.int32)
    changed = tl.sum((is_free & (best != previous)).to(tl.int32), axis=0)
    count = tl.sum(is_free.to(tl.int32), axis=0)
    sure = tl.sum(own, axis=0) / tl.maximum(count, 1) < threshold
    over = (done | ((changed == 0) & sure) | (count == 0)).to(tl.int32)
    going = inside & (done == 0)
    renoised = tl.where(kept, drawn, tl.where(is_free, noise, token))
    tl.store(current + at, renoised.to(current.dtype.element_ty), mask=going)
    tl.store(draft + at, tl.where(is_free, best, token).to(draft.dtype.element_ty), mask=going)
    tl.store(accepted + at, kept, mask=inside)
    tl.store(finished + b, over)
    # Programs that have ended are counted in the low half, finished canvases in the high half.
    before = tl.atomic_add(arrived, 1 + 65536 * over)
    if before % 65536 == tl.num_programs(0) - 1:
        tl.store(stop, (before // 65536 + over == tl.num_programs(0)).to(tl.int32))
        tl.store(step, number + 1)
        tl.store(arrived, 0)


def settle(
    entropy: torch.Tensor,
    sample: torch.Tensor,
    argmax: torch.Tensor,
    clean: torch.Tensor,
    free: torch.Tensor,
    current: torch.Tensor,
    draft: torch.Tensor,
    finished: torch.Tensor,
    seed: torch.Tensor,
    step: torch.Tensor,
    stop: torch.Tensor,
    bound: float,
    threshold: float,
    vocabulary: int,
) -> torch.Tensor:
    """Settle one step of canvases [B, C]: entropy in nats (float32), sampled, argmax and clean ids, free (boolean).

    Updates in place: current and draft [B, C] (ids; draft starts as -1, which equals no token), finished [B], step [1]
    and stop [1] (int32; stop is 1 once every canvas has finished). seed [1] is int64. Returns accepted [B, C].
    """
    assert all(one.is_contiguous() for one in (entropy, sample, argmax, clean, free, current, draft))
    batch, canvas = free.shape
    accepted = torch.empty_like(free)
    arrived = torch.zeros(1, dtype=torch.int32, device=free.device)
    _settle_kernel[(batch,)](
        *(entropy, sample, argmax, clean, free, current, draft, finished, accepted, seed, step, stop, arrived),
        *(bound, threshold, canvas, vocabulary),
        STREAM=NOISE,
        BLOCK=power_of_two(canvas),
        BLOCK_J=BLOCK_J,
        num_warps=8 if canvas > 64 else 4,
    )
    return accepted


def settle_reference(
    entropy: torch.Tensor,
    sample: torch.Tensor,
    argmax: torch.Tensor,
    clean: torch.Tensor,
    free: torch.Tensor,
    current: torch.Tensor,
    draft: torch.Tensor,
    finished: torch.Tensor,
    seed: torch.Tensor,
    step: torch.Tensor,
    stop: torch.Tensor,
    bound: float,
    threshold: float,
    vocabulary: int,
) -> torch.Tensor:
    """Reference of settle, transcribed from engine/canvas.py's accept and settled and from engine/denoise.py's loop."""
    batch, canvas = free.shape
    ordered, order = torch.sort(entropy.masked_fill(~free, torch.inf), dim=-1, stable=True)
    before = ordered.cumsum(dim=-1) - ordered
    kept = torch.zeros_like(free).scatter(-1, order, before <= bound) & free
    columns, rows = torch.arange(canvas, device=free.device), torch.arange(batch, device=free.device)[:, None]
    bits = philox_reference(int(seed), columns, rows, step, torch.full_like(step, NOISE))[0]
    noise = below_reference(bits, vocabulary)
    hold = finished.bool()[:, None]
    renoised = torch.where(kept, sample.long(), torch.where(free, noise, clean.long()))
    likeliest = torch.where(free, argmax.long(), clean.long())
    count = free.sum(dim=-1)
    sure = (entropy * free).sum(dim=-1) / count.clamp(min=1) < threshold
    stable = ((likeliest == draft) | ~free).all(dim=-1)
    current.copy_(torch.where(hold, current.long(), renoised))
    draft.copy_(torch.where(hold, draft.long(), likeliest))
    finished.copy_(finished.bool() | (stable & sure) | (count == 0))
    stop.copy_(finished.bool().all())
    step.add_(1)
    return kept
