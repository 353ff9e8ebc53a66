"""GeGLU: gelu_tanh(gate) * up (Shazeer 2020, arXiv:2002.05202).

`gated` is inlined into other kernels. `geglu` is a launch of its own between the two products of a dense MLP: its rows
[T, 2f] are gates and ups side by side, as the concatenated gate/up projection writes them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from midspan.kernels.launch import cdiv, power_of_two, tl, triton

BLOCK = 1024


@triton.jit
def gated(gate: tl.tensor, up: tl.tensor) -> tl.tensor:
    """GeGLU inside a kernel, in float32; (1 + tanh(y)) / 2 is sigmoid(2 y), which must not overflow."""
    twice = 1.5957691216057308 * (gate + 0.044715 * gate * gate * gate)
    small = tl.exp(-tl.abs(twice))
    return gate * up * tl.where(twice > 0.0, 1.0, small) / (1.0 + small)


@triton.jit
def _geglu_kernel(x: tl.tensor, out: tl.tensor, INNER: tl.constexpr, BLOCK: tl.constexpr) -> None:
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < INNER
    gate = tl.load(x + row * 2 * INNER + column, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(x + row * 2 * INNER + INNER + column, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + row * INNER + column, gated(gate, up).to(out.dtype.element_ty), mask=inside)


def geglu(gate_up: torch.Tensor) -> torch.Tensor:
    """Gates and ups side by side [T, 2f], contiguous -> [T, f]; products in float32, rounded once."""
    assert gate_up.is_contiguous()
    rows, inner = gate_up.shape[0], gate_up.shape[1] // 2
    out = torch.empty(rows, inner, dtype=gate_up.dtype, device=gate_up.device)
    block = min(BLOCK, power_of_two(inner))
    _geglu_kernel[(rows, cdiv(inner, block))](gate_up, out, INNER=inner, BLOCK=block, num_warps=4)
    return out


def geglu_reference(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """Gate `up` by the tanh-approximated GELU of `gate`; equal shapes."""
    return F.gelu(gate, approximate="tanh") * up
