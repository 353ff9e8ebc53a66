"""Derived tolerances: error bounds of float32 computations by running error analysis.

A test computes the expected result in `Near` numbers: float64 values, each with the largest error that a float32
computation of it can have. The kernel's result and the reference's are each compared with the float64 value and that
bound, so that neither must allow for the other's roundings.

- Inputs are exact.
- The error of a sum, product or quotient is that of its operands plus U of its size: the standard model, with U half a
  unit in the last place (Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 2.2).
- The error of a sum of n terms, in any order, in any blocks, with or without fused products, is gamma(n) =
  nU / (1 - nU) of the sum of their sizes (the same, sections 3.1 and 4.2). oneDNN, a GPU and the interpreter differ in
  nothing else.
- The error of exp, log, tanh and 1 / sqrt is FUNCTION of their result; exp computed as a power of two has two U of its
  argument's size more.
- A number stored in bfloat16 has half a unit more. A number rounded to FP8 may become either of two codes if the edge
  between them is within its bound.

Where kernel and reference round at different places, their tests say which form belongs to which. A chosen index
(argmax, top k) must be of a number that can be the largest; where bounds overlap, either is right.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

# Half a unit in the last place, relative: float32 has 24 bits, bfloat16 8.
U = 2.0**-24
KEPT = {torch.float32: 0.0, torch.bfloat16: 2.0**-8}
# Four units in the last place: numpy's vector exp and log, which the interpreter uses, have errors of at most 2.52 and
# 3.83 units (release notes of 1.17), torch's and CUDA's of two.
FUNCTION = 8 * U
FP8_LARGEST, FP8_LEAST_SCALE = 448.0, 1e-12
# float32's least normal number; smaller ones may be flushed to zero.
LEAST = 2.0**-126


def gamma(terms: float) -> float:
    """The largest error of a sum of `terms` terms, as a share of the sum of their sizes."""
    return terms * U / (1 - terms * U)


@dataclass(frozen=True)
class Near:
    """Exact values in float64, and the largest error of a float32 computation of each."""

    value: torch.Tensor
    error: torch.Tensor

    @property
    def size(self) -> torch.Tensor:
        """The largest magnitude that it can have."""
        return self.value.abs() + self.error

    def __getitem__(self, at: Any) -> Near:
        return Near(self.value[at], self.error[at])

    def __neg__(self) -> Near:
        return Near(-self.value, self.error)

    def __add__(self, other: Number) -> Near:
        other = near(other)
        return _rounded(self.value + other.value, self.error + other.error)

    def __sub__(self, other: Number) -> Near:
        return self + -near(other)

    def __mul__(self, other: Number) -> Near:
        other = near(other)
        return _rounded(self.value * other.value, self.size * other.size - (self.value * other.value).abs())

    def __truediv__(self, other: Number) -> Near:
        other = near(other)
        exact = self.value / other.value
        least = other.value.abs() - other.error
        assert (least > 0).all()
        return _rounded(exact, (self.error + exact.abs() * other.error) / least)

    def sum(self, dim: int = -1) -> Near:
        """The sum over one axis, in any order."""
        return Near(self.value.sum(dim), self.error.sum(dim) + gamma(self.value.shape[dim]) * self.size.sum(dim))

    def dot(self, other: Number, *, coarse: float = 0.0) -> Near:
        """Rows [..., N, K] times rows [..., M, K]: [..., N, M]; `coarse` is a relative error more per 32 products."""
        other = near(other)
        terms, size = self.value.shape[-1], self.size @ other.size.mT
        moved = size - self.value.abs() @ other.value.abs().mT
        # For exact operands this difference is float64's own rounding, which is no error of float32.
        return Near(self.value @ other.value.mT, moved.clamp(min=0) + (gamma(terms) + coarse * (terms / 32 + 1)) * size)

    def exp(self, *, steps: int = 1) -> Near:
        """e^x as a product of `steps` factors: an online softmax rescales whenever its maximum moves.

        Each factor is an exponential, a product and two sums; their arguments have one sign and add up to x.
        """
        exact = self.value.exp()
        own = steps * (FUNCTION + 3 * U) + 2 * U * self.size
        return Near(exact, exact * torch.expm1(self.error + own))

    def log(self) -> Near:
        exact, share = self.value.log(), self.error / self.value
        return Near(exact, -torch.log1p(-share) + FUNCTION * exact.abs())

    def tanh(self) -> Near:
        exact = self.value.tanh()
        slope = 1 - (self.value.abs() - self.error).clamp(min=0).tanh() ** 2
        return Near(exact, slope * self.error + FUNCTION * exact.abs())

    def rsqrt(self) -> Near:
        exact = self.value.rsqrt()
        return Near(exact, (self.value - self.error).rsqrt() - exact + FUNCTION * exact)

    def to(self, dtype: torch.dtype) -> Near:
        """The number stored in dtype."""
        return Near(self.value, self.error + KEPT[dtype] * self.size)


Number = Near | torch.Tensor | float


def near(x: Number) -> Near:
    """A `Near` as it is, a tensor without error, a constant with its rounding to float32."""
    if isinstance(x, Near):
        return x
    if isinstance(x, torch.Tensor):
        return Near(x.double(), torch.zeros_like(x, dtype=torch.float64))
    value = torch.tensor(x, dtype=torch.float64)
    return Near(value, (value.float().double() - value).abs())


def _rounded(value: torch.Tensor, error: torch.Tensor) -> Near:
    return Near(value, error + U * (value.abs() + error))


def weights_of(scores: Near, seen: torch.Tensor | None = None, *, steps: int = 1) -> Near:
    """exp(score - top) over the last axis, 0 where not seen; any top will do, because every use divides by the sum."""
    seen = torch.ones_like(scores.value, dtype=torch.bool) if seen is None else seen
    top = scores.value.masked_fill(~seen, -torch.inf).amax(dim=-1, keepdim=True)
    away = scores.value - top.where(top > -torch.inf, 0.0)
    found = Near(away, scores.error + U * (away.abs() + scores.error)).exp(steps=steps)
    return Near(found.value.where(seen, 0.0), found.error.where(seen, 0.0))


def softmax(scores: Near, seen: torch.Tensor | None = None, *, steps: int = 1) -> Near:
    """Softmax over the last axis, 0 where not seen; all zeros if no score is seen."""
    weights = weights_of(scores, seen, steps=steps)
    total = weights.sum()[..., None]
    return weights / Near(total.value.where(total.value > 0, 1.0), total.error)


def entropy_of(weights: Near, scores: Near, seen: torch.Tensor | None = None) -> Near:
    """Entropy in nats from sums of weights e^x and of e^x x, x counted from the top; `weights_of` the same scores."""
    seen = torch.ones_like(scores.value, dtype=torch.bool) if seen is None else seen
    away = scores.value - scores.value.masked_fill(~seen, -torch.inf).amax(dim=-1, keepdim=True)
    own = Near(away.where(seen, 0.0), (scores.error + U * (away.abs() + scores.error)).where(seen, 0.0))
    total = weights.sum()
    return total.log() - (weights * own).sum() / total


def log_sum_of(scores: Near, seen: torch.Tensor | None = None) -> Near:
    """The logarithm of the sum of e^score over the seen scores of the last axis."""
    seen = torch.ones_like(scores.value, dtype=torch.bool) if seen is None else seen
    top = scores.value.masked_fill(~seen, -torch.inf).amax(dim=-1)
    return weights_of(scores, seen).sum().log() + top


def rms_normed(x: Number, weight: torch.Tensor | None, eps: float) -> Near:
    """The norm of kernels/rms_norm.py."""
    x = near(x)
    normed = x * ((x * x).sum()[..., None] / float(x.value.shape[-1]) + eps).rsqrt()
    return normed if weight is None else normed * weight


def geglu_of(gate: Near, up: Near, kept: torch.dtype = torch.float32) -> Near:
    """GeGLU of kernels/geglu.py by tanh, whose error is larger below zero; the gate is rounded to `kept`."""
    inner = (gate + gate * gate * gate * 0.044715) * 0.7978845608028654
    return (gate * (inner.tanh() + 1.0) * 0.5).to(kept) * up


def fp8_rows(x: Number) -> tuple[Near, Near]:
    """Codes [T, d] and scales [T] of kernels/quantize.py; a number near an edge may have either of two codes."""
    x = near(x)
    scale = Near(x.value.abs().amax(dim=-1), x.error.amax(dim=-1)) / FP8_LARGEST
    scale = Near(scale.value.clamp(min=FP8_LEAST_SCALE), scale.error + U * FP8_LEAST_SCALE)
    share = x / scale[..., None]
    least, code, most = (
        (share.value + way * share.error).clamp(-FP8_LARGEST, FP8_LARGEST).float().to(torch.float8_e4m3fn).double()
        for way in (-1, 0, 1)
    )
    return Near(code, torch.maximum(most - code, code - least)), scale


def assert_within(got: torch.Tensor, want: Near) -> None:
    """Every number is within its bound."""
    assert got.shape == want.value.shape
    assert not got.float().isnan().any()
    assert not want.error.isnan().any()
    excess = ((got.double() - want.value).abs() - want.error - LEAST).max() if got.numel() else torch.zeros(())
    assert excess <= 0, f"{excess.item():.3g} beyond the tolerance"


def assert_best(index: torch.Tensor, scores: Near) -> None:
    """Each index [...] names a score of [..., N] that can be the largest within its bound."""
    assert index.shape == scores.value.shape[:-1]
    chosen = (scores.value + scores.error).gather(-1, index.long()[..., None]).squeeze(-1)
    behind = ((scores.value - scores.error).amax(dim=-1) - chosen).max()
    assert behind <= 0, f"{behind.item():.3g} behind the largest"
