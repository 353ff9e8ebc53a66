"""The attention kernel and its reference over cache and canvas, against exact results for each request."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from midspan.kernels import attention as op
from midspan.kernels.attention import attention, cached_attention_reference
from tests.kernels.compare import DEVICE, few, noise
from tests.near import Near, U, assert_within, near, softmax

pytestmark = pytest.mark.gpu_kernels

# q, keys, values, k, v, slot, length, causal, valid, window: the arguments of kernel and reference.
Given = tuple[
    torch.Tensor,
    torch.Tensor,
    torch.Tensor,
    torch.Tensor,
    torch.Tensor,
    torch.Tensor,
    torch.Tensor,
    torch.Tensor,
    torch.Tensor | None,
    int | None,
]


def int32(values: list[int]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int32, device=DEVICE)


def boolean(values: list[bool]) -> torch.Tensor:
    return torch.tensor(values, device=DEVICE)


def expected(given: Given, b: int, *, blocks: int, in_twos: bool) -> Near:
    """Request b's heads [H, N, D] with keys read in `blocks` blocks; `in_twos`: scores are exponents of two."""
    q, keys, values, k, v, slot, length, causal, valid, window = given
    where, cached, rows = int(slot[b]), int(length[b]), q.shape[2]
    key = torch.arange(cached + k.shape[2], device=DEVICE)
    row = cached + torch.arange(rows, device=DEVICE)[:, None]
    reach = len(key) if window is None else window
    seen = (key > row - reach) & (key <= row) if causal[b] else (key > cached - reach).expand(rows, -1)
    if valid is not None:
        seen = seen & torch.cat((torch.ones(cached, dtype=torch.bool, device=DEVICE), valid[b]))
    each = q.shape[1] // k.shape[1]
    all_k, all_v = (
        torch.cat((old[where, :, :cached], new[b]), dim=1).repeat_interleave(each, dim=0).nan_to_num()
        for old, new in ((keys, k), (values, v))
    )
    scores = near(q[b]).dot(all_k)
    if in_twos:
        # Scores are multiplied by log2(e), whose float32 error is U.
        scores = scores + Near(torch.zeros_like(scores.value), 2 * U * scores.size)
    return softmax(scores, seen, steps=blocks).to(q.dtype).dot(all_v.mT).to(q.dtype)


def check(given: Given) -> None:
    """Kernel and reference, each against the exact result.

    In bfloat16 the kernel rounds weights and result once each. The roundings of torch's attention are not known there,
    so the reference is checked in float32 only.
    """
    q, keys, k = given[0], given[1], given[3]
    # One step more combines the splits.
    blocks = 1 + -(-keys.shape[2] // op._config(q).block_n) + -(-k.shape[2] // op._config(q).block_n)
    got = attention(*given)
    for b in range(len(q)):
        assert_within(got[b], expected(given, b, blocks=blocks, in_twos=True))
    if q.dtype == torch.float32:
        # The reference adds masked values with weight zero, and zero times NaN is NaN.
        want = cached_attention_reference(q, keys.nan_to_num(), given[2].nan_to_num(), *given[3:])
        for b in range(len(q)):
            assert_within(want[b], expected(given, b, blocks=blocks, in_twos=False))


@few(16)
@given(
    requests=st.lists(st.tuples(st.integers(0, 70), st.booleans()), min_size=1, max_size=3),
    rows=st.integers(1, 20),
    groups=st.sampled_from([1, 2]),
    per_group=st.sampled_from([1, 2, 3]),
    size=st.sampled_from([16, 32]),
    window=st.sampled_from([None, 1, 2, 7, 33]),
    padded=st.booleans(),
)
def test_attention_of_canvases_and_prefixes_in_one_batch(
    requests: list[tuple[int, bool]],
    rows: int,
    groups: int,
    per_group: int,
    size: int,
    window: int | None,
    padded: bool,
) -> None:
    """Each request has its own slot and length; unused cache positions are NaN."""
    batch = len(requests)
    q = noise(0, batch, rows, groups * per_group, size, scale=0.5).transpose(1, 2)
    k, v = noise(1, batch, groups, rows, size, scale=0.5), noise(2, batch, groups, rows, size)
    keys, values = noise(3, batch + 1, groups, 70, size, scale=0.5), noise(4, batch + 1, groups, 70, size)
    slot, length = int32([batch - b for b in range(batch)]), int32([cached for cached, _ in requests])
    for b, (cached, _) in enumerate(requests):
        keys[batch - b, :, cached:] = torch.nan
        values[batch - b, :, cached:] = torch.nan
    causal = boolean([kind for _, kind in requests])
    valid = random_mask(batch, rows) if padded else None
    check((q, keys, values, k, v, slot, length, causal, valid, window))


def random_mask(batch: int, rows: int) -> torch.Tensor:
    mask = torch.rand(batch, rows, generator=torch.Generator().manual_seed(5)) < 0.7
    return mask.to(DEVICE)


@pytest.mark.parametrize("window", [None, 9])
@pytest.mark.parametrize(("heads", "groups", "size"), [(4, 2, 256), (8, 1, 512)], ids=["sliding", "full"])
def test_the_release_s_head_sizes_in_bfloat16(heads: int, groups: int, size: int, window: int | None) -> None:
    q = noise(0, 1, heads, 5, size, dtype=torch.bfloat16, scale=size**-0.25)
    k = noise(1, 1, groups, 5, size, dtype=torch.bfloat16, scale=size**-0.25)
    v = noise(2, 1, groups, 5, size, dtype=torch.bfloat16)
    keys, values = (noise(seed, 1, groups, 40, size, dtype=torch.bfloat16, scale=size**-0.25) for seed in (3, 4))
    check((q, keys, values, k, v, int32([0]), int32([37]), boolean([False]), None, window))


def test_many_canvases_attend_to_one_prefix() -> None:
    """Three canvases over the same slot, with more keys than rows: a frozen suffix has keys but no queries."""
    q, k, v = noise(0, 3, 2, 3, 16), noise(1, 3, 1, 8, 16), noise(2, 3, 1, 8, 16)
    keys, values = noise(3, 1, 1, 50, 16), noise(4, 1, 1, 50, 16)
    check((q, keys, values, k, v, int32([0, 0, 0]), int32([50, 50, 50]), boolean([False] * 3), None, 20))


def test_a_row_that_sees_nothing_is_zero() -> None:
    q, k = noise(0, 2, 2, 3, 16), noise(1, 2, 1, 3, 16)
    keys = noise(3, 1, 1, 20, 16)
    valid = torch.tensor([[False] * 3, [True] * 3], device=DEVICE)
    out = attention(q, keys, keys, k, k, int32([0, 0]), int32([0, 0]), boolean([False, False]), valid, None)
    assert out[0].eq(0).all()
    assert out[1].ne(0).all()


@given(programs=st.integers(1, 600), blocks=st.integers(0, 900), processors=st.sampled_from([4, 82, 132, 148]))
def test_splits_are_powers_of_two_and_have_two_blocks_each(programs: int, blocks: int, processors: int) -> None:
    splits = op._splits(programs, blocks, processors)
    assert splits in (1, 2, 4, 8)
    assert splits == 1 or splits <= blocks // 2
    assert splits >= min(-(-processors // programs), blocks // 2, op.MAX_SPLITS) / 2


def test_any_number_of_splits_gives_the_same_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v = noise(0, 1, 2, 4, 16), noise(1, 1, 1, 4, 16), noise(2, 1, 1, 4, 16)
    keys, values = noise(3, 1, 1, 200, 16), noise(4, 1, 1, 200, 16)
    for splits in (1, 2, 5, 8):
        monkeypatch.setattr("midspan.kernels.attention._splits", lambda *_, n=splits: n)
        check((q, keys, values, k, v, int32([0]), int32([190]), boolean([False]), None, None))
