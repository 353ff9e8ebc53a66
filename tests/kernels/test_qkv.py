"""The qkv kernel (norms, RoPE and cache writes) and its reference, against exact results."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from midspan.kernels.qkv import qkv, qkv_reference
from tests.kernels.compare import DEVICE, few, guarded, noise
from tests.near import Near, assert_within, rms_normed

pytestmark = pytest.mark.gpu_kernels

EPS = 1e-6
DTYPES = st.sampled_from([torch.float32, torch.bfloat16])


def tables(batch: int, rows: int, size: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    angles = torch.randn(batch, rows, size, generator=torch.Generator().manual_seed(9))
    return guarded(angles.cos().to(dtype)), guarded(angles.sin().to(dtype))


def int32(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int32, device=DEVICE)


def rotated(x: torch.Tensor, weight: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, kept: torch.dtype) -> Near:
    """Heads [B, N, H, D] normed and rotated; norm, products and sum are rounded to dtype `kept`.

    `kept` is float32 for the kernel, which rounds when it stores, and the inputs' dtype for the reference.
    """
    normed = rms_normed(x, weight, EPS).to(kept)
    half, turned = x.shape[-1] // 2, (normed * cos[..., None, :]).to(kept)
    other = Near(*(torch.cat((part[..., half:], part[..., :half]), dim=-1) for part in (normed.value, normed.error)))
    sign = torch.cat((-torch.ones(half), torch.ones(half))).to(DEVICE)
    return (turned + (other * sign * sin[..., None, :]).to(kept)).to(x.dtype)


def assert_written(cache: torch.Tensor, want: Near, slot: torch.Tensor, start: torch.Tensor) -> None:
    """Rows [B, N, G, D] are at their places in cache [S, G, M, D], and nothing else was written."""
    left = cache.clone()
    for row, (where, first) in enumerate(zip(slot.tolist(), start.tolist(), strict=True)):
        end = first + want.value.shape[1]
        assert_within(cache[where, :, first:end].transpose(0, 1), want[row])
        left[where, :, first:end] = torch.nan
    assert left.isnan().all()


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
def test_queries_keys_and_values_are_normed_rotated_and_stored(
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
    tail = (*weights, cos, sin)
    raw = v if own_values else k
    for run, kept, (keys, values) in ((qkv, torch.float32, buffers[:2]), (qkv_reference, dtype, buffers[2:])):
        got = run(q, k, v if own_values else None, *tail, keys, values, slot, start, EPS)
        assert_within(got, rotated(q, weights[0], cos, sin, kept))
        assert_written(keys, rotated(k, weights[1], cos, sin, kept), slot, start)
        assert_written(values, rms_normed(raw, None, EPS).to(dtype), slot, start)


def test_positions_behind_the_buffer_are_not_written() -> None:
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
    """Another scale of k's norm changes keys and not values."""
    q, k = noise(0, 1, 3, 2, 8), noise(1, 1, 3, 1, 8)
    cos, sin = tables(1, 3, 8, torch.float32)
    seen = []
    for weight in (noise(3, 8), noise(4, 8)):
        keys, values = torch.empty(1, 1, 3, 8, device=DEVICE), torch.empty(1, 1, 3, 8, device=DEVICE)
        qkv(q, k, None, weight, weight, cos, sin, keys, values, int32(0), int32(0), EPS)
        seen.append((keys, values))
    assert torch.equal(seen[0][1], seen[1][1])
    assert not torch.allclose(seen[0][0], seen[1][0])
