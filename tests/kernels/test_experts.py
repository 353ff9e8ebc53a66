"""Grouped expert MLPs in float32, bfloat16 and FP8 against exact results, computed one expert at a time."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from midspan.kernels import experts as op
from midspan.kernels import quantize
from tests.kernels.compare import DEVICE, FP8_SUM, few, guarded, noise
from tests.near import Near, assert_within, fp8_rows, geglu_of, near

pytestmark = pytest.mark.gpu_kernels

# Rows [T, d] times an expert's matrix.
Product = Callable[[Near, int], Near]


def routing(rows: int, top_k: int, number: int, seed: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights and distinct experts [T, k]; every row has expert 0, so that its rows need several tiles."""
    draw = torch.Generator().manual_seed(seed)
    rest = [torch.randperm(number - 1, generator=draw)[: top_k - 1] + 1 for _ in range(rows)]
    index = torch.stack([torch.cat((torch.zeros(1, dtype=torch.long), one)) for one in rest])
    return noise(seed, rows, top_k), index.int().to(DEVICE)


def mixed(x: Near, weights: torch.Tensor, index: torch.Tensor, gate_up: Product, down: Product) -> Near:
    """The weighted sum of each row's experts; gate_up and down multiply rows by an expert's matrix."""
    slots = []
    for slot in range(index.shape[1]):
        parts = []
        for row, expert in enumerate(index[:, slot].tolist()):
            both = gate_up(x[row : row + 1], expert)
            half = both.value.shape[-1] // 2
            share = down(geglu_of(both[:, :half], both[:, half:]), expert)
            parts.append(share * weights[row, slot])
        slots.append(Near(torch.cat([one.value for one in parts]), torch.cat([one.error for one in parts])))
    stacked = Near(torch.stack([one.value for one in slots]), torch.stack([one.error for one in slots]))
    return stacked.sum(0)


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
    want = mixed(near(x), weights, index, lambda rows, e: rows.dot(gate_up[e]), lambda rows, e: rows.dot(down[e]))
    assert_within(op.experts(*given), want)
    assert_within(op.experts_reference(*given), want)


def test_bfloat16() -> None:
    weights, index = routing(20, 3, 5)
    x = noise(0, 20, 48, dtype=torch.bfloat16)
    gate_up = noise(1, 5, 44, 48, dtype=torch.bfloat16, scale=48**-0.5)
    down = noise(2, 5, 48, 22, dtype=torch.bfloat16, scale=22**-0.5)
    got = op.experts(x, weights, index, gate_up, down)
    assert got.dtype == torch.bfloat16
    # The kernel rounds hidden rows once and the output once; the reference rounds each product, as plain torch does.
    want = mixed(
        near(x),
        weights,
        index,
        lambda rows, e: rows.dot(gate_up[e]),
        lambda rows, e: rows.to(torch.bfloat16).dot(down[e]),
    )
    assert_within(got, want.to(torch.bfloat16))


@few(4)
@given(rows=st.integers(1, 20), number=st.integers(1, 5), inner=st.sampled_from([32, 44]))
def test_fp8(rows: int, number: int, inner: int) -> None:
    weights, index = routing(rows, min(2, number), number)
    x = noise(0, rows, 48)
    gate_up, gate_up_scale = quantize.quantize_rows_reference(noise(1, number, 2 * inner, 48, scale=48**-0.5))
    down, down_scale = quantize.quantize_rows_reference(noise(2, number, 48, inner, scale=inner**-0.5))
    given = (x, weights, index, guarded(gate_up), gate_up_scale, guarded(down), down_scale)

    def product(rows: Near, weight: torch.Tensor, scale: torch.Tensor) -> Near:
        codes, share = fp8_rows(rows)
        return codes.dot(weight.double(), coarse=FP8_SUM) * (share[:, None] * scale)

    want = mixed(
        near(x),
        weights,
        index,
        lambda rows, e: product(rows, gate_up[e], gate_up_scale[e]),
        lambda rows, e: product(rows, down[e], down_scale[e]),
    )
    assert_within(op.experts_fp8(*given), want)
    assert_within(op.experts_fp8_reference(*given), want)


def test_rows_that_share_an_expert_do_not_mix() -> None:
    """A change of one row changes only that row of the result, bit for bit."""
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
    codes, share = fp8_rows(x)
    for got, scales in (quantize.quantize_rows(x), quantize.quantize_rows_reference(x)):
        assert_within(scales, share)
        assert_within(got, codes)
        assert torch.equal(got.float().abs().amax(dim=-1) > 400, (x != 0).any(dim=-1))


def test_a_gpu_without_fp8_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(op, "capability", lambda _: 80)
    one = torch.ones(1, 1, device=DEVICE)
    with pytest.raises(RuntimeError, match=r"compute capability 8\.9: load the checkpoint in bf16"):
        op.experts_fp8(one, one, one.int(), one, one, one, one)
