"""Gemma's RMSNorm, fused with the residual: norm(x, w) = x / sqrt(mean(x^2) + eps) * w in float32 over the last axis.

    rms_norm           norm(x, w)                                                     [..., d]
    rms_norm_fanout    norm(x, w_i) for up to three w_i of one x, read once           tuple of [..., d]
    rms_norm_residual  h = (residual + norm(x, w)) * scalar, and norm(h, w_i)         (h, *normed)
    rms_norm_join      the same with x = norm(a, w_a) + norm(b, w_b): the end of a layer

One program per row; the weight is w, not 1 + w. Reductions and products are in float32. As in plain torch, h is rounded
to x's dtype before it is normed again.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from midspan.kernels.launch import power_of_two, tl, triton

Weights = Sequence[torch.Tensor | None]
MAX_FANOUT = 3


@triton.jit
def _normed(x: tl.tensor, weight: tl.tensor, column: tl.tensor, eps: tl.tensor, WIDTH: tl.constexpr) -> tl.tensor:
    normed = x * tl.rsqrt(tl.sum(x * x, axis=0) / WIDTH + eps)
    if weight is not None:
        normed *= tl.load(weight + column, mask=column < WIDTH, other=0.0).to(tl.float32)
    return normed


@triton.jit
def _rms_norm_kernel(
    x: tl.tensor, weight: tl.tensor, other: tl.tensor, other_weight: tl.tensor, outer_weight: tl.tensor,
    residual: tl.tensor, scalar: tl.tensor, summed: tl.tensor, weight_0: tl.tensor, weight_1: tl.tensor,
    weight_2: tl.tensor, out_0: tl.tensor, out_1: tl.tensor, out_2: tl.tensor, eps: tl.tensor,
    WIDTH: tl.constexpr, BLOCK: tl.constexpr,
) -> None:  # fmt: skip
    column = tl.arange(0, BLOCK)
    inside = column < WIDTH
    at = tl.program_id(0).to(tl.int64) * WIDTH + column
    h = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    if residual is not None:
        h = _normed(h, weight, column, eps, WIDTH)
        if other is not None:
            second = tl.load(other + at, mask=inside, other=0.0).to(tl.float32)
            h = _normed(h + _normed(second, other_weight, column, eps, WIDTH), outer_weight, column, eps, WIDTH)
        h += tl.load(residual + at, mask=inside, other=0.0).to(tl.float32)
        if scalar is not None:
            h *= tl.load(scalar).to(tl.float32)
        rounded = h.to(summed.dtype.element_ty)
        tl.store(summed + at, rounded, mask=inside)
        h = rounded.to(tl.float32)
    if out_0 is not None:
        tl.store(out_0 + at, _normed(h, weight_0, column, eps, WIDTH).to(out_0.dtype.element_ty), mask=inside)
    if out_1 is not None:
        tl.store(out_1 + at, _normed(h, weight_1, column, eps, WIDTH).to(out_1.dtype.element_ty), mask=inside)
    if out_2 is not None:
        tl.store(out_2 + at, _normed(h, weight_2, column, eps, WIDTH).to(out_2.dtype.element_ty), mask=inside)


def rms_norm(x: torch.Tensor, weight: torch.Tensor | None, eps: float) -> torch.Tensor:
    """Normalise contiguous x [..., d] by its root mean square; weight [d] or None. Returns x's dtype."""
    return rms_norm_fanout(x, (weight,), eps)[0]


def rms_norm_fanout(x: torch.Tensor, weights: Weights, eps: float) -> tuple[torch.Tensor, ...]:
    """Normalise x [..., d] once and scale it by each of up to three weights [d] (None: no scale)."""
    return _launch(x, None, None, None, None, None, None, weights, eps)[1:]


def rms_norm_residual(
    x: torch.Tensor,
    weight: torch.Tensor | None,
    residual: torch.Tensor,
    scalar: torch.Tensor | None,
    weights: Weights,
    eps: float,
) -> tuple[torch.Tensor, ...]:
    """h = (residual + norm(x, weight)) * scalar [1], then its norms: (h, *normed), all shaped as x [..., d]."""
    return _launch(x, weight, None, None, None, residual, scalar, weights, eps)


def rms_norm_join(
    pair: tuple[torch.Tensor, torch.Tensor],
    pair_weights: tuple[torch.Tensor | None, torch.Tensor | None],
    weight: torch.Tensor | None,
    residual: torch.Tensor,
    scalar: torch.Tensor | None,
    weights: Weights,
    eps: float,
) -> tuple[torch.Tensor, ...]:
    """h = (residual + norm(norm(a, w_a) + norm(b, w_b), weight)) * scalar [1], then its norms: (h, *normed)."""
    return _launch(pair[0], pair_weights[0], pair[1], pair_weights[1], weight, residual, scalar, weights, eps)


def _launch(
    x: torch.Tensor,
    weight: torch.Tensor | None,
    other: torch.Tensor | None,
    other_weight: torch.Tensor | None,
    outer_weight: torch.Tensor | None,
    residual: torch.Tensor | None,
    scalar: torch.Tensor | None,
    weights: Weights,
    eps: float,
) -> tuple[torch.Tensor, ...]:
    given = [one for one in (x, weight, other, other_weight, outer_weight, residual, *weights) if one is not None]
    assert all(one.is_contiguous() and one.shape[-1] == x.shape[-1] for one in given)
    assert all(one is None or one.shape == x.shape for one in (other, residual))
    assert len(weights) <= MAX_FANOUT
    summed = x if residual is None else torch.empty_like(x)
    out = [torch.empty_like(x) for _ in weights]
    empty = [None] * (MAX_FANOUT - len(weights))
    width = x.shape[-1]
    block = power_of_two(width)
    _rms_norm_kernel[(x.numel() // width,)](
        *(x, weight, other, other_weight, outer_weight, residual, scalar, summed),
        *(*weights, *empty, *out, *empty),
        eps,
        WIDTH=width,
        BLOCK=block,
        num_warps=8 if block >= 2048 else 4,
    )
    return (summed, *out)


def rms_norm_reference(x: torch.Tensor, weight: torch.Tensor | None, eps: float) -> torch.Tensor:
    """Normalise x [..., d] by its root mean square; weight [d] or None. Returns x's dtype."""
    scale = None if weight is None else weight.float()
    return F.rms_norm(x.float(), (x.shape[-1],), scale, eps).type_as(x)


def rms_norm_fanout_reference(x: torch.Tensor, weights: Weights, eps: float) -> tuple[torch.Tensor, ...]:
    """Reference of rms_norm_fanout."""
    return tuple(rms_norm_reference(x, weight, eps) for weight in weights)


def rms_norm_residual_reference(
    x: torch.Tensor,
    weight: torch.Tensor | None,
    residual: torch.Tensor,
    scalar: torch.Tensor | None,
    weights: Weights,
    eps: float,
) -> tuple[torch.Tensor, ...]:
    """Reference of rms_norm_residual, transcribed from engine/model.py's Layer."""
    h = residual + rms_norm_reference(x, weight, eps)
    h = h if scalar is None else h * scalar
    return (h, *rms_norm_fanout_reference(h, weights, eps))


def rms_norm_join_reference(
    pair: tuple[torch.Tensor, torch.Tensor],
    pair_weights: tuple[torch.Tensor | None, torch.Tensor | None],
    weight: torch.Tensor | None,
    residual: torch.Tensor,
    scalar: torch.Tensor | None,
    weights: Weights,
    eps: float,
) -> tuple[torch.Tensor, ...]:
    """Reference of rms_norm_join, transcribed from engine/model.py's Layer."""
    joined = rms_norm_reference(pair[0], pair_weights[0], eps) + rms_norm_reference(pair[1], pair_weights[1], eps)
    return rms_norm_residual_reference(joined, weight, residual, scalar, weights, eps)
