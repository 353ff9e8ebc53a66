"""The vocabulary pass, against torch with all logits in memory."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from midspan.kernels import vocabulary as op
from tests.kernels.compare import DEVICE, assert_near, few, noise

SOFTCAP = 30.0
# A logit is a sum of d products; exponentials turn its absolute error into a relative one.
ULPS = 64


def ids(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int32, device=DEVICE)


def draws(seed: int, step: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Temperatures of five steps, the seed, the step."""
    return torch.linspace(0.8, 0.4, 5, device=DEVICE), torch.tensor([seed], device=DEVICE), ids(step)


def compare(got: op.Vocabulary, want: op.Vocabulary, width: int) -> None:
    assert torch.equal(got.argmax, want.argmax)
    assert torch.equal(got.sample, want.sample)
    assert_near(got.entropy, want.entropy, ulps=ULPS, terms=width)
    if want.soft is None:
        assert got.soft is None
    else:
        assert got.soft is not None
        assert_near(got.soft, want.soft, ulps=ULPS, terms=width)


@few(8)
@given(
    count=st.sampled_from([1, 4, 17]),
    width=st.sampled_from([8, 33, 70]),
    size=st.sampled_from([1, 5, 16, 50, 131]),
    chunk=st.sampled_from([64, 32768]),
    soft=st.booleans(),
    limited=st.booleans(),
    step=st.integers(0, 4),
)
def test_against_torch(count: int, width: int, size: int, chunk: int, soft: bool, limited: bool, step: int) -> None:
    tokens = count + 3
    hidden, embedding = noise(0, tokens, width), noise(1, size, width, scale=2 * width**-0.5)
    order = torch.randperm(tokens, generator=torch.Generator().manual_seed(2))[:count].int()
    order[1::4] = -1
    allowed = first = None
    if limited:
        allowed = torch.randint(0, 4, (size,), generator=torch.Generator().manual_seed(3)).byte().to(DEVICE)
        allowed[0] = 3
        first = (torch.arange(tokens) % 3 == 0).to(DEVICE)
    given = (hidden, order.to(DEVICE), embedding, *draws(7, step), allowed, first, SOFTCAP, 5.0 if soft else None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(op, "CHUNK", chunk)
        compare(op.vocabulary(*given), op.vocabulary_reference(*given), width)


def test_bfloat16() -> None:
    hidden, embedding = noise(0, 20, 48, dtype=torch.bfloat16), noise(1, 96, 48, dtype=torch.bfloat16, scale=0.2)
    given = (hidden, ids(*range(20)), embedding, *draws(3, 1), None, None, SOFTCAP, 4.0)
    got, want = op.vocabulary(*given), op.vocabulary_reference(*given)
    # A logit of size 6 rounded to bfloat16 the other way is off by 2^-5 / temperature 0.7: where the best two are
    # nearer than that either may win. Entropy moves by no more than that times the spread of the logits.
    exact = torch.tanh((hidden.double() @ embedding.double().T) / SOFTCAP) * SOFTCAP / 0.7
    best = exact.topk(2).values
    clear = best[:, 0] - best[:, 1] > 2**-5
    assert clear.float().mean() > 0.7
    assert torch.equal(got.argmax[clear], want.argmax[clear])
    assert ((got.entropy - want.entropy).abs() <= 2**-5 / 0.7).all()
    assert got.soft is not None
    assert want.soft is not None
    # Weights are rounded before they are divided by their sum, the reference's after: half a unit each.
    assert_near(got.soft, want.soft, ulps=2, at_largest=True)


def test_softcap_bounds_and_temperature_sharpens() -> None:
    hidden, embedding = torch.tensor([[1.0]] * 2, device=DEVICE), torch.tensor([[1e4], [-1e4]], device=DEVICE)
    temperatures = torch.tensor([20.0], device=DEVICE)
    _, seed, step = draws(0, 0)
    got = op.vocabulary(hidden, ids(0, 1), embedding, temperatures, seed, step, None, None, SOFTCAP, None)
    p = torch.sigmoid(torch.tensor(60.0 / 20.0))
    want = -(p * p.log() + (1 - p) * (1 - p).log())
    assert_near(got.entropy.cpu(), want.expand(2).contiguous(), ulps=64)


def test_draws_follow_the_distribution_and_the_counter_alone() -> None:
    """120 draws of three tokens; the same rows draw the same whatever stands beside them."""
    rows, shares = 120, torch.tensor([0.7, 0.05, 0.25])
    hidden, embedding = torch.ones(rows, 1, device=DEVICE), shares.log()[:, None].to(DEVICE) * 0.8
    order = torch.arange(rows, dtype=torch.int32, device=DEVICE)
    tail = (embedding, *draws(11, 0), None, None, 1e4, None)
    sample = op.vocabulary(hidden, order, *tail).sample
    drawn = torch.bincount(sample.long(), minlength=3).cpu() / rows
    assert ((drawn - shares).abs() < 4 * (shares * (1 - shares) / rows).sqrt()).all()
    some = op.vocabulary(hidden, order[50:60].contiguous(), *tail).sample
    assert torch.equal(some[50:60], sample[50:60])
    assert some[:50].eq(0).all()


def test_another_step_and_another_seed_draw_otherwise() -> None:
    hidden, embedding = torch.zeros(12, 8, device=DEVICE), noise(0, 64, 8)
    order, seen = ids(*range(12)), []
    for seed, step in ((1, 0), (1, 1), (2, 0), (1 + 2**32, 0)):
        seen.append(op.vocabulary(hidden, order, embedding, *draws(seed, step), None, None, SOFTCAP, None).sample)
    for index, one in enumerate(seen):
        for other in seen[:index]:
            assert (one == other).float().mean() < 0.3


def test_nothing_free_is_nothing_done() -> None:
    got = op.vocabulary(noise(0, 3, 8), ids(), noise(1, 9, 8), *draws(0, 0), None, None, SOFTCAP, 1.0)
    assert got.soft is not None
    assert got.soft.eq(0).all()
    assert got.entropy.eq(0).all()
