"""Products with rows in steps: the same numbers, and few sizes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from midspan.kernels.rows import FEW, STEP, linear_in_steps


@given(batch=st.integers(1, 4), rows=st.integers(1, 40))
def test_the_rows_are_those_of_a_plain_product(batch: int, rows: int) -> None:
    generator = torch.Generator().manual_seed(rows)
    x, weight = torch.randn(batch, rows, 8, generator=generator), torch.randn(5, 8, generator=generator)
    torch.testing.assert_close(linear_in_steps(x, weight), F.linear(x, weight))


def test_the_product_sees_whole_steps_only(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, plain = set[int](), F.linear

    def linear(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        seen.add(x.shape[:-1].numel())
        return plain(x, weight)

    monkeypatch.setattr(F, "linear", linear)
    for rows in range(1, 2 * STEP + 1):
        linear_in_steps(torch.ones(rows, 3), torch.ones(2, 3))
    assert seen == {FEW, STEP, 2 * STEP}
