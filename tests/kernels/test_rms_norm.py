"""RMSNorm with residual and fan-out: kernel and reference against exact results."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from midspan.kernels import rms_norm as op
from tests.kernels.compare import few, noise
from tests.near import Near, assert_within, rms_normed

pytestmark = pytest.mark.gpu_kernels

DTYPES = st.sampled_from([torch.float32, torch.bfloat16])
EPS = 1e-6
Weights = list[torch.Tensor | None]


def check(got: tuple[torch.Tensor, ...], reference: tuple[torch.Tensor, ...], want: list[Near]) -> None:
    """Kernel and reference, each against the exact result; in bfloat16 both round once, when they store."""
    assert len(got) == len(reference) == len(want)
    for one, other, exact in zip(got, reference, want, strict=True):
        assert one.dtype == other.dtype
        assert_within(one, exact.to(one.dtype))
        assert_within(other, exact.to(other.dtype))


def ended(x: Near, residual: torch.Tensor, scalar: torch.Tensor | None, weights: Weights) -> list[Near]:
    """The residual stream after a branch, and its norms."""
    h = x + residual if scalar is None else (x + residual) * scalar
    return [h, *(rms_normed(h, weight, EPS) for weight in weights)]


@few(8)
@given(rows=st.integers(1, 5), width=st.integers(1, 70), dtype=DTYPES, scaled=st.booleans())
def test_norm(rows: int, width: int, dtype: torch.dtype, scaled: bool) -> None:
    x, weight = noise(0, rows, width, dtype=dtype, scale=3.0), noise(1, width, dtype=dtype) if scaled else None
    got, reference = op.rms_norm(x, weight, EPS), op.rms_norm_reference(x, weight, EPS)
    check((got,), (reference,), [rms_normed(x, weight, EPS)])


@few(8)
@given(rows=st.integers(1, 4), width=st.integers(1, 70), dtype=DTYPES, count=st.integers(1, 3))
def test_fanout_of_one_input(rows: int, width: int, dtype: torch.dtype, count: int) -> None:
    x = noise(0, 2, rows, width, dtype=dtype)
    weights = [None, noise(1, width, dtype=dtype), noise(2, width, dtype=dtype)][:count]
    got, reference = op.rms_norm_fanout(x, weights, EPS), op.rms_norm_fanout_reference(x, weights, EPS)
    check(got, reference, [rms_normed(x, weight, EPS) for weight in weights])


@few(10)
@given(rows=st.integers(1, 4), width=st.integers(1, 70), scaled=st.booleans(), count=st.integers(0, 3))
def test_residual_and_fanout(rows: int, width: int, scaled: bool, count: int) -> None:
    x, residual, weight = noise(0, rows, width), noise(1, rows, width, scale=5.0), noise(2, width)
    scalar = noise(3, 1) if scaled else None
    weights = [noise(4, width), None, noise(5, width)][:count]
    given = (x, weight, residual, scalar, weights, EPS)
    want = ended(rms_normed(x, weight, EPS), residual, scalar, weights)
    check(op.rms_norm_residual(*given), op.rms_norm_residual_reference(*given), want)


@few(10)
@given(rows=st.integers(1, 4), width=st.integers(1, 70), scaled=st.booleans(), count=st.integers(0, 2))
def test_the_end_of_a_layer(rows: int, width: int, scaled: bool, count: int) -> None:
    pair = (noise(0, rows, width), noise(1, rows, width))
    pair_weights = (noise(2, width), noise(3, width))
    residual, weight = noise(4, rows, width), noise(5, width)
    scalar = noise(6, 1) if scaled else None
    weights = [noise(7, width), None][:count]
    given = (pair, pair_weights, weight, residual, scalar, weights, EPS)
    joined = rms_normed(pair[0], pair_weights[0], EPS) + rms_normed(pair[1], pair_weights[1], EPS)
    want = ended(rms_normed(joined, weight, EPS), residual, scalar, weights)
    check(op.rms_norm_join(*given), op.rms_norm_join_reference(*given), want)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_zeros_stay_zero_and_large_rows_stay_finite(dtype: torch.dtype) -> None:
    x = torch.stack([torch.zeros(33), torch.full((33,), 1e15)]).to(dtype)
    got = op.rms_norm(x, None, EPS)
    assert got[0].eq(0).all()
    assert_within(got, rms_normed(x, None, EPS).to(dtype))


def test_the_residual_stream_is_rounded_before_it_is_normed_again() -> None:
    """In bfloat16 the norms must be of the rounded stream that the next layer reads."""
    x, residual, weight = (noise(seed, 3, 48, dtype=torch.bfloat16) for seed in (0, 1, 2))
    h, normed = op.rms_norm_residual(x, weight[0].contiguous(), residual, None, [None], EPS)
    check((normed,), (op.rms_norm_reference(h, None, EPS),), [rms_normed(h, None, EPS)])
