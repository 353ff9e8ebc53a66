"""Grouped expert MLPs with weights in 4 bits, in both codes, against exact results; and the codes themselves."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from midspan.kernels import experts_4bit as op
from midspan.kernels.four_bit import CODES, GROUP, dequantize_reference, group_of, quantize_int4
from tests.kernels.compare import DEVICE, few, guarded, noise
from tests.kernels.test_experts import mixed, routing
from tests.near import Near, assert_within, near

pytestmark = pytest.mark.gpu_kernels


def weights_of(seed: int, number: int, rows: int, width: int, code: str) -> op.FourBit:
    """A random stack of matrices in either code, guarded by NaN where its dtype has NaN."""
    draw = torch.Generator().manual_seed(seed)
    if code == "int4":
        packed, scale = quantize_int4(torch.randn(number, rows, width, generator=draw) * width**-0.5)
        channel = torch.ones(number, rows)
    else:
        packed = torch.randint(0, 256, (number, rows, width // 2), generator=draw).to(torch.uint8)
        scale = (0.5 + torch.rand(number, rows, width // 16, generator=draw)).to(torch.float8_e4m3fn)
        channel = 0.3 * width**-0.5 * (0.5 + torch.rand(number, rows, generator=draw))
    return op.FourBit(guarded(packed), guarded(scale), guarded(channel), code)


def expected(
    x: torch.Tensor, weights: torch.Tensor, index: torch.Tensor, gate_up: op.FourBit, down: op.FourBit
) -> Near:
    """The result; kernel and reference round code times scale, the hidden rows and the output to x's dtype."""

    def product(rows: Near, stack: op.FourBit, expert: int) -> Near:
        # A code has three bits and a scale at most eight, so their product is exact in float32.
        ones = torch.ones_like(stack.channel[expert])
        matrix = dequantize_reference(stack.packed[expert], stack.scale[expert], ones, stack.code)
        return rows.dot(near(matrix).to(x.dtype)) * stack.channel[expert]

    return mixed(
        near(x),
        weights,
        index,
        lambda rows, e: product(rows, gate_up, e),
        lambda rows, e: product(rows.to(x.dtype), down, e),
    ).to(x.dtype)


@few(8)
@given(
    rows=st.integers(1, 40),
    width=st.sampled_from([16, 32, 80]),
    inner=st.sampled_from([16, 48]),
    number=st.integers(1, 6),
    top_k=st.integers(1, 3),
    code=st.sampled_from(CODES),
)
def test_float32(rows: int, width: int, inner: int, number: int, top_k: int, code: str) -> None:
    weights, index = routing(rows, min(top_k, number), number)
    given = (noise(0, rows, width), weights, index)
    gate_up, down = weights_of(1, number, 2 * inner, width, code), weights_of(2, number, width, inner, code)
    want = expected(*given, gate_up, down)
    assert_within(op.experts_4bit(*given, gate_up, down), want)
    assert_within(op.experts_4bit_reference(*given, gate_up, down), want)


@pytest.mark.parametrize("code", CODES)
def test_bfloat16(code: str) -> None:
    weights, index = routing(20, 3, 5)
    x = noise(0, 20, 48, dtype=torch.bfloat16)
    gate_up, down = weights_of(1, 5, 64, 48, code), weights_of(2, 5, 48, 32, code)
    got = op.experts_4bit(x, weights, index, gate_up, down)
    assert got.dtype == torch.bfloat16
    want = expected(x, weights, index, gate_up, down)
    assert_within(got, want)
    assert_within(op.experts_4bit_reference(x, weights, index, gate_up, down), want)


@few(8)
@given(rows=st.integers(1, 4), width=st.sampled_from([2, 24, 64, 704]), scale=st.sampled_from([0.0, 1e-3, 50.0]))
def test_int4_errors_are_at_most_half_a_step(rows: int, width: int, scale: float) -> None:
    x = noise(0, rows, width, scale=scale)
    packed, steps = quantize_int4(x)
    assert packed.shape == (rows, width // 2)
    assert steps.shape == (rows, width // group_of(width))
    made = dequantize_reference(packed, steps, torch.ones(rows, device=DEVICE), "int4")
    # A group's largest entry is 7 steps; each of the 7 has the step's rounding to bfloat16, half a unit of 2^-8.
    step = x.unflatten(-1, (-1, group_of(width))).abs().amax(dim=-1, keepdim=True) / 7
    error = (made - x).unflatten(-1, (-1, group_of(width))).abs()
    assert (error <= step * (0.5 + 7 * 2.0**-8) + 1e-11).all()


def test_nibbles_are_decoded_in_order() -> None:
    packed = torch.tensor([[0x2F, 0x80]], dtype=torch.uint8)
    one = torch.ones(1, 1)
    assert dequantize_reference(packed, one, one[0], "int4").tolist() == [[7.0, -6.0, -8.0, 0.0]]
    assert dequantize_reference(packed, 2 * one, 0.5 * one[0], "e2m1").tolist() == [[-6.0, 1.0, 0.0, -0.0]]
    assert [group_of(width) for width in (704, 2816, 48, 10)] == [GROUP, GROUP, 16, 2]
    with pytest.raises(ValueError, match="rows of 7 numbers"):
        group_of(7)
