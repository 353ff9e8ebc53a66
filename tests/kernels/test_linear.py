"""The GeGLU kernel and dense FP8 products, against exact results."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from midspan.kernels import geglu as gating
from midspan.kernels import linear as op
from midspan.kernels.quantize import quantize_rows_reference
from tests.kernels.compare import FP8_SUM, few, guarded, noise
from tests.near import assert_within, fp8_rows, geglu_of, near

pytestmark = pytest.mark.gpu_kernels


@few(8)
@given(
    rows=st.integers(1, 4), inner=st.sampled_from([1, 24, 70]), dtype=st.sampled_from([torch.float32, torch.bfloat16])
)
def test_geglu(rows: int, inner: int, dtype: torch.dtype) -> None:
    x = noise(0, rows, 2 * inner, dtype=dtype, scale=3.0)
    gate, up = x.chunk(2, dim=-1)
    # In bfloat16 the kernel rounds once, when it stores; the reference rounds its gate as well.
    assert_within(gating.geglu(x), geglu_of(near(gate), near(up)).to(dtype))
    assert_within(gating.geglu_reference(gate, up), geglu_of(near(gate), near(up), dtype).to(dtype))


@few(8)
@given(rows=st.integers(1, 40), width=st.sampled_from([16, 33, 70]), columns=st.sampled_from([1, 31, 64, 100]))
def test_fp8_product(rows: int, width: int, columns: int) -> None:
    weight, scale = quantize_rows_reference(noise(1, columns, width))
    given = (noise(0, rows, width, scale=3.0), guarded(weight), guarded(scale))
    codes, share = fp8_rows(given[0])
    want = codes.dot(given[1].double(), coarse=FP8_SUM) * (share[:, None] * given[2])
    assert_within(op.linear_fp8(*given), want)
    assert_within(op.linear_fp8_reference(*given), want)


def test_rows_and_channels_have_scales_of_their_own() -> None:
    """A row and a channel that are a million times larger take no precision from the others."""
    x, weight = noise(0, 6, 32), noise(1, 20, 32)
    x[2] *= 1e6
    weight[3] *= 1e6
    packed, scale = quantize_rows_reference(weight)
    got, want = op.linear_fp8(x, guarded(packed), guarded(scale)), x @ weight.T
    # Either factor is rounded to a code: by 2^-4 of its size (half the distance of two codes), and for subnormal codes
    # by 2^-10 of its scale, which is the row's largest over 448. float32's own roundings are below 2^-16.
    sizes = x.double().abs(), weight.double().abs()
    wide = [one * (1 + 2**-4 + 2**-16) + one.amax(dim=-1, keepdim=True) / 448 * 2**-10 for one in sizes]
    allowed = wide[0] @ wide[1].T - sizes[0] @ sizes[1].T
    assert ((got - want).abs() <= allowed).all()


def test_a_gpu_without_fp8_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("midspan.kernels.linear.capability", lambda x: 80)
    with pytest.raises(RuntimeError, match=r"8\.9: load the checkpoint in bf16"):
        op.linear_fp8(noise(0, 2, 16), guarded(torch.zeros(4, 16).to(torch.float8_e4m3fn)), noise(2, 4))
