"""Norm, RoPE and cache write in one pass, against torch."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from midspan.kernels.qkv import qkv, qkv_reference
from tests.kernels.compare import DEVICE, assert_near, few, guarded, noise

EPS = 1e-6
DTYPES = st.sampled_from([torch.float32, torch.bfloat16])
# bfloat16: the reference rounds norm, both products and their sum, half a unit each, the kernel rounds once. Where the
# two products cancel their roundings stay, so they are bounded at the largest value's size.
ULPS = 3


def tables(batch: int, rows: int, size: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    angles = torch.randn(batch, rows, size, generator=torch.Generator().manual_seed(9))
    return guarded(angles.cos().to(dtype)), guarded(angles.sin().to(dtype))


def int32(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int32, device=DEVICE)


def near(got: torch.Tensor, want: torch.Tensor) -> None:
    written = ~want.isnan()
    assert torch.equal(written, ~got.isnan())
    assert_near(got[written], want[written], ulps=ULPS, terms=want.shape[-1], at_largest=got.dtype == torch.bfloat16)


@few(14)
@given(
    batch=st.integers(1, 3),
    rows=st.integers(1, 4),
    groups=st.sampled_from([1, 2, 3]),
    per_group=st.sampled_from([1, 2, 3]),
    size=st.sampled_from([2, 8, 16]),
    own_values=st.booleans(),
    shared_table=st.booleans(),
    dtype=DTYPES,
)
def test_against_torch(
    batch: int,
    rows: int,
    groups: int,
    per_group: int,
    size: int,
    own_values: bool,
    shared_table: bool,
    dtype: torch.dtype,
) -> None:
    heads = groups * per_group
    fused = noise(0, batch, rows, (heads + 2 * groups) * size, dtype=dtype, scale=2.0)
    q, k, v = fused.split([heads * size, groups * size, groups * size], dim=-1)
    q, k, v = (x.unflatten(-1, (-1, size)) for x in (q, k, v))
    weights = noise(1, size, dtype=dtype), noise(2, size, dtype=dtype)
    cos, sin = tables(1 if shared_table else batch, rows, size, dtype)
    slot, start = int32(*reversed(range(batch))), int32(*(5 * row % 4 for row in range(batch)))
    buffers = [torch.full((batch + 1, groups, 3 + rows, size), torch.nan, dtype=dtype, device=DEVICE) for _ in range(4)]
    given_v = v if own_values else None
    got = qkv(q, k, given_v, *weights, cos, sin, buffers[0], buffers[1], slot, start, EPS)
    want = qkv_reference(q, k, given_v, *weights, cos, sin, buffers[2], buffers[3], slot, start, EPS)
    for one, other in ((got, want), (buffers[0], buffers[2]), (buffers[1], buffers[3])):
        near(one, other)


def test_what_lies_behind_the_buffer_is_not_written() -> None:
    q, k, v = (noise(seed, 1, 4, 1, 8) for seed in range(3))
    memory = torch.full((2, 1, 1, 5, 8), torch.nan, device=DEVICE)
    keys, values = memory[:, :, :, :3]
    cos, sin = tables(1, 4, 8, torch.float32)
    qkv(q, k, v, noise(3, 8), noise(4, 8), cos, sin, keys, values, int32(0), int32(1), EPS)
    assert keys[:, :, 1:].isfinite().all()
    assert values[:, :, 1:].isfinite().all()
    assert memory[:, :, :, 3:].isnan().all()
    assert memory[:, :, :, :1].isnan().all()


def test_full_layers_take_values_from_raw_keys() -> None:
    """Scaling k's norm and turning its angles leaves values alone."""
    q, k = noise(0, 1, 3, 2, 8), noise(1, 1, 3, 1, 8)
    cos, sin = tables(1, 3, 8, torch.float32)
    seen = []
    for weight in (noise(3, 8), noise(4, 8)):
        keys, values = torch.empty(1, 1, 3, 8, device=DEVICE), torch.empty(1, 1, 3, 8, device=DEVICE)
        qkv(q, k, None, weight, weight, cos, sin, keys, values, int32(0), int32(0), EPS)
        seen.append((keys, values))
    assert torch.equal(seen[0][1], seen[1][1])
    assert not torch.allclose(seen[0][0], seen[1][0])
