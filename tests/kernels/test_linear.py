"""GeGLU as a launch and dense FP8 products, against torch."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from midspan.kernels import geglu as gating
from midspan.kernels import linear as op
from midspan.kernels.quantize import quantize_rows_reference
from tests.kernels.compare import assert_near, few, guarded, noise

# In bfloat16 the kernel rounds once, the reference its gate too; in float32 an exponential and a division stand against
# a tanh.
ULPS = {torch.float32: 16.0, torch.bfloat16: 2.0}


@few(8)
@given(
    rows=st.integers(1, 4), inner=st.sampled_from([1, 24, 70]), dtype=st.sampled_from([torch.float32, torch.bfloat16])
)
def test_geglu(rows: int, inner: int, dtype: torch.dtype) -> None:
    x = noise(0, rows, 2 * inner, dtype=dtype, scale=3.0)
    gate, up = x.chunk(2, dim=-1)
    assert_near(gating.geglu(x), gating.geglu_reference(gate, up), ulps=ULPS[dtype], at_largest=True)


@few(8)
@given(rows=st.integers(1, 40), width=st.sampled_from([16, 33, 70]), columns=st.sampled_from([1, 31, 64, 100]))
def test_fp8_product(rows: int, width: int, columns: int) -> None:
    weight, scale = quantize_rows_reference(noise(1, columns, width))
    given = (noise(0, rows, width, scale=3.0), guarded(weight), guarded(scale))
    got, want = op.linear_fp8(*given), op.linear_fp8_reference(*given)
    summed = given[0].abs() @ (given[1].float().abs() * given[2][:, None]).T
    # Rows are rounded to FP8 before they are summed: by a sixteenth at most.
    assert_near(got, want, ulps=8, terms=width, at_largest=True, summed=summed * 17 / 16)


def test_rows_and_columns_are_rounded_by_their_own_size() -> None:
    """One row and one channel a million times the others take no precision from them."""
    x, weight = noise(0, 6, 32), noise(1, 20, 32)
    x[2] *= 1e6
    weight[3] *= 1e6
    packed, scale = quantize_rows_reference(weight)
    got, want = op.linear_fp8(x, guarded(packed), guarded(scale)), x @ weight.T
    # Either factor is off by 2^-4 of its size at most, at random: 32 products of which few are large.
    spread = (x.norm(dim=-1)[:, None] * weight.norm(dim=-1)) * 2**-4
    assert ((got - want).abs() <= spread).all()


def test_a_gpu_without_fp8_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("midspan.kernels.linear.capability", lambda x: 80)
    with pytest.raises(RuntimeError, match=r"8\.9: load the checkpoint in bf16"):
        op.linear_fp8(noise(0, 2, 16), guarded(torch.zeros(4, 16).to(torch.float8_e4m3fn)), noise(2, 4))
