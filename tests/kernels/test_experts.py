"""Grouped expert MLPs in three precisions, against torch, one expert at a time."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from midspan.kernels import experts as op
from midspan.kernels import quantize
from midspan.kernels.geglu import geglu_reference
from tests.kernels.compare import DEVICE, FP8_SUM, ULP, assert_near, few, guarded, noise


def routing(rows: int, top_k: int, number: int, seed: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights [T, k] and distinct experts a row; expert 0 is chosen by every row, so that tiles overflow."""
    draw = torch.Generator().manual_seed(seed)
    rest = [torch.randperm(number - 1, generator=draw)[: top_k - 1] + 1 for _ in range(rows)]
    index = torch.stack([torch.cat((torch.zeros(1, dtype=torch.long), one)) for one in rest])
    return noise(seed, rows, top_k), index.int().to(DEVICE)


@few(8)
@given(
    rows=st.integers(1, 40),
    width=st.sampled_from([8, 33, 70]),
    inner=st.sampled_from([5, 22, 44]),
    number=st.integers(1, 7),
    top_k=st.integers(1, 3),
)
def test_float32(rows: int, width: int, inner: int, number: int, top_k: int) -> None:
    weights, index = routing(rows, min(top_k, number), number)
    x, gate_up = noise(0, rows, width), noise(1, number, 2 * inner, width, scale=width**-0.5)
    down = noise(2, number, width, inner, scale=inner**-0.5)
    given = (x, weights, index, gate_up, down)
    # Two matrix products and the sum over k: a float32 sum of so many terms at the largest output's size.
    assert_near(op.experts(*given), op.experts_reference(*given), ulps=8, terms=width * inner)


def test_bfloat16() -> None:
    weights, index = routing(20, 3, 5)
    x = noise(0, 20, 48, dtype=torch.bfloat16)
    gate_up = noise(1, 5, 44, 48, dtype=torch.bfloat16, scale=48**-0.5)
    down = noise(2, 5, 48, 22, dtype=torch.bfloat16, scale=22**-0.5)
    got = op.experts(x, weights, index, gate_up, down)
    assert got.dtype == torch.bfloat16
    want = op.experts_reference(x.double(), weights.double(), index, gate_up.double(), down.double())
    # Rounded: hidden rows once, the output once, half a unit each.
    allowed = ULP[torch.bfloat16] / 2 * (want.abs() + magnitude(x, weights, index, gate_up, down))
    allowed += 64 * ULP[torch.float32]
    assert ((got.double() - want).abs() <= allowed).all()


def magnitude(
    x: torch.Tensor, weights: torch.Tensor, index: torch.Tensor, gate_up: torch.Tensor, down: torch.Tensor
) -> torch.Tensor:
    """Sums of |weight| |hidden| |down|: what a relative error of the hidden rows comes to in the output at most."""
    out = torch.zeros(x.shape, dtype=torch.float64, device=x.device)
    for row in range(len(x)):
        for slot, expert in enumerate(index[row].tolist()):
            gate, up = (gate_up[expert].double() @ x[row].double()).chunk(2)
            hidden = geglu_reference(gate, up).abs()
            out[row] += weights[row, slot].double().abs() * (down[expert].double().abs() @ hidden)
    return out


@few(4)
@given(rows=st.integers(1, 20), number=st.integers(1, 5), inner=st.sampled_from([32, 44]))
def test_fp8(rows: int, number: int, inner: int) -> None:
    weights, index = routing(rows, min(2, number), number)
    x = noise(0, rows, 48)
    gate_up, gate_up_scale = quantize.quantize_rows_reference(noise(1, number, 2 * inner, 48, scale=48**-0.5))
    down, down_scale = quantize.quantize_rows_reference(noise(2, number, 48, inner, scale=inner**-0.5))
    given = (x, weights, index, guarded(gate_up), gate_up_scale, guarded(down), down_scale)
    got, want = op.experts_fp8(*given), op.experts_fp8_reference(*given)
    # Sums agree to float32, but where a hidden value stands on the edge between two FP8 numbers either may be taken:
    # one unit of e4m3 (2^-3) of one of the `inner` terms of an output.
    exact = [gate_up.double() * gate_up_scale.double()[..., None], down.double() * down_scale.double()[..., None]]
    allowed = ULP[torch.float8_e4m3fn] * magnitude(x, weights, index, *exact)
    assert ((got - want).abs() <= allowed).all()
    # Where the device sums FP8 coarsely, hidden rows are off and may round otherwise, so no share of them is exact.
    if not FP8_SUM:
        assert ((got - want).abs() <= 64 * ULP[torch.float32] * want.abs().max()).float().mean() > 0.9


def test_rows_that_share_an_expert_do_not_mix() -> None:
    """One row changed changes one row of the result, bit for bit."""
    weights, index = routing(24, 2, 4)
    x, gate_up, down = noise(0, 24, 16), noise(1, 4, 12, 16), noise(2, 4, 16, 6)
    before = op.experts(x, weights, index, gate_up, down)
    x[7] += 1.0
    after = op.experts(x, weights, index, gate_up, down)
    assert (before != after).any(dim=-1).nonzero().flatten().tolist() == [7]


@few(8)
@given(rows=st.integers(1, 4), width=st.sampled_from([1, 7, 33]), scale=st.sampled_from([0.0, 1e-3, 50.0]))
def test_quantized_rows(rows: int, width: int, scale: float) -> None:
    x = noise(0, rows, width, scale=scale)
    (got, got_scale), (want, want_scale) = quantize.quantize_rows(x), quantize.quantize_rows_reference(x)
    assert_near(got_scale, want_scale, ulps=1)
    assert_near(got, want, ulps=1)
    assert torch.equal(got.float().abs().amax(dim=-1) > 400, (x != 0).any(dim=-1))


def test_a_gpu_without_fp8_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(op, "capability", lambda _: 80)
    one = torch.ones(1, 1, device=DEVICE)
    with pytest.raises(RuntimeError, match=r"compute capability 8\.9: load the checkpoint in bf16"):
        op.experts_fp8(one, one, one.int(), one, one, one, one)
