"""The choice of experts and the sort by expert: kernels and references against exact results."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from midspan.kernels import router as op
from tests.kernels.compare import DEVICE, few, noise
from tests.near import Near, assert_best, assert_within, gamma, near, softmax

pytestmark = pytest.mark.gpu_kernels

EPS = 1e-6


def expected_scores(x: torch.Tensor, scale: torch.Tensor, proj: torch.Tensor, splits: int) -> Near:
    """Scores [T, E] before softmax; the kernel sums over splits of d and rounds operands and scores to x's dtype."""
    scaled = (near(x) * scale).to(x.dtype)
    share = ((near(x) * x).sum() / float(x.shape[-1]) + EPS).rsqrt()
    # Each split is one addition more; the reference's factors on each operand add no more error than that.
    scores = scaled.dot(proj)
    scores = Near(scores.value, scores.error + gamma(splits) * scores.size)
    return (scores * share[:, None] * float(x.shape[-1] ** -0.5)).to(x.dtype)


def check(weights: torch.Tensor, index: torch.Tensor, scores: Near, per_expert: torch.Tensor) -> None:
    """Each chosen expert can be the best of those that are left, and weights are those of the chosen experts."""
    left = scores.value.clone()
    for slot in index.long().T:
        assert_best(slot, Near(left, scores.error))
        left.scatter_(1, slot[:, None], -torch.inf)
    chosen = Near(scores.value.gather(1, index.long()), scores.error.gather(1, index.long()))
    assert_within(weights, softmax(chosen) * per_expert[index.long()])


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
    for run in (op.router, op.router_reference):
        check(*run(*given), expected_scores(x, scale, proj, op.MAX_SPLITS), per_expert)


def test_choice_in_bfloat16() -> None:
    """The kernel alone: the reference rounds norm, scale and factor one by one, as plain torch does."""
    x, scale = noise(0, 40, 96, dtype=torch.bfloat16), noise(1, 96, dtype=torch.bfloat16)
    proj, per_expert = noise(2, 12, 96, dtype=torch.bfloat16), noise(3, 12, dtype=torch.bfloat16)
    weights, index = op.router(x, scale, proj, per_expert, 3, EPS)
    scores = expected_scores(x, scale, proj, op.MAX_SPLITS)
    check(weights, index, scores, per_expert)
    # Bounds that leave every choice open would test nothing: in two rows of five all three choices are certain.
    best = scores.value.topk(4).values
    assert ((best[:, :-1] - best[:, 1:]).amin(dim=-1) > 2 * scores.error.amax(dim=-1)).float().mean() > 0.4


def test_any_number_of_rows_needs_only_few_kernel_variants(monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of splits of d is a constant of both kernels, and a power of two for any number of rows."""
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
    assert weights.eq(0.25).all()


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
