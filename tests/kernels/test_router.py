"""The expert choice and the sort by expert, against torch."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from midspan.kernels import router as op
from tests.kernels.compare import DEVICE, assert_near, few, noise

EPS = 1e-6
# A score is a sum of d products taken in another order; the softmax turns its absolute error into a relative one.
ULPS = 64


@few(8)
@given(
    rows=st.integers(1, 18),
    width=st.sampled_from([8, 33, 130, 300]),
    experts=st.integers(2, 20),
    top_k=st.integers(1, 5),
)
def test_choice(rows: int, width: int, experts: int, top_k: int) -> None:
    top_k = min(top_k, experts)
    x, scale = noise(0, rows, width, scale=3.0), noise(1, width)
    proj, per_expert = noise(2, experts, width), noise(3, experts)
    given = (x, scale, proj, per_expert, top_k, EPS)
    (weights, index), (want, chosen) = op.router(*given), op.router_reference(*given)
    assert torch.equal(index.long(), chosen)
    assert_near(weights, want, ulps=ULPS, terms=width)


def test_choice_in_bfloat16() -> None:
    """Against the same rule in float64: a weight is off by no more than the roundings of its score, raised to e."""
    x, scale = noise(0, 40, 96, dtype=torch.bfloat16), noise(1, 96, dtype=torch.bfloat16)
    proj, per_expert = noise(2, 12, 96, dtype=torch.bfloat16), noise(3, 12, dtype=torch.bfloat16)
    weights, index = op.router(x, scale, proj, per_expert, 3, EPS)
    wide, widths, table, factor = (one.double() for one in (x, scale, proj, per_expert))
    want, chosen = op.router_reference(wide, widths, table, factor, 3, EPS)
    clear = (index.long() == chosen).all(dim=-1)
    assert clear.float().mean() > 0.8
    # Two roundings a score (operand and result), half a unit each: 2^-7 of the largest score. A weight is a ratio of
    # two such numbers.
    scores = (wide * widths / wide.pow(2).mean(dim=-1, keepdim=True).sqrt() / 96**0.5) @ table.T
    allowed = float(torch.exp(2 * 2.0**-7 * scores.abs().max())) - 1
    assert allowed < 0.08
    assert ((weights[clear] - want[clear]).abs() <= allowed * want[clear].abs()).all()


def test_rows_of_any_number_meet_few_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """What d is split into is a constant of both kernels: a power of two, whatever the rows are."""
    seen: set[int] = set()

    class Recorded:
        def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
            return lambda *_, **sizes: seen.add(sizes["SPLITS"])

    monkeypatch.setattr(op, "_scores_kernel", Recorded())
    monkeypatch.setattr(op, "_choose_kernel", Recorded())
    monkeypatch.setattr(op, "processors", lambda _: 132)
    for rows in range(1, 1025, 15):
        x = torch.empty(rows, 2816, device="meta")
        op.router(x, x[0], torch.empty(8, 2816, device="meta"), torch.empty(8, device="meta"), 2, EPS)
    assert seen <= {1, 2, 4, 8}
    assert len(seen) > 1


def test_of_equal_probabilities_the_lower_expert_wins() -> None:
    x, proj = torch.ones(2, 8, device=DEVICE), torch.ones(6, 8, device=DEVICE)
    weights, index = op.router(x, torch.ones(8, device=DEVICE), proj, torch.ones(6, device=DEVICE), 4, EPS)
    assert index.tolist() == [[0, 1, 2, 3]] * 2
    assert_near(weights, torch.full((2, 4), 0.25, device=DEVICE), ulps=2)


@few(8)
@given(data=st.data(), experts=st.integers(1, 9), top_k=st.integers(1, 3), rows=st.integers(1, 30))
def test_sort(data: st.DataObject, experts: int, top_k: int, rows: int) -> None:
    ids = data.draw(st.lists(st.integers(0, experts - 1), min_size=rows * top_k, max_size=rows * top_k))
    index = torch.tensor(ids, dtype=torch.int32, device=DEVICE).view(rows, top_k)
    for got, want in zip(op.sort_by_expert(index, experts), op.sort_by_expert_reference(index, experts), strict=True):
        assert torch.equal(got, want)


def test_sort_of_more_pairs_than_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(op, "BLOCK_PAIRS", 16)
    index = torch.randint(0, 5, (33, 2), generator=torch.Generator().manual_seed(0), dtype=torch.int32).to(DEVICE)
    for got, want in zip(op.sort_by_expert(index, 7), op.sort_by_expert_reference(index, 7), strict=True):
        assert torch.equal(got, want)
