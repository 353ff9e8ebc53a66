"""The vocabulary kernels and their reference (with all logits in memory), against exact results."""

from __future__ import annotations

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from midspan.kernels import vocabulary as op
from midspan.kernels.counter import DRAW, philox_reference
from tests.kernels.compare import DEVICE, few, noise
from tests.near import LEAST, Near, assert_best, assert_within, entropy_of, near, softmax, weights_of

pytestmark = pytest.mark.gpu_kernels

# hidden, rows, embedding, temperatures, seed, step, allowed, first, softcap, scale: arguments of kernel and reference.
Given = tuple[
    torch.Tensor,
    torch.Tensor,
    torch.Tensor,
    torch.Tensor,
    torch.Tensor,
    torch.Tensor,
    torch.Tensor | None,
    torch.Tensor | None,
    float,
    float | None,
]

SOFTCAP = 30.0


def ids(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int32, device=DEVICE)


def draws(seed: int, step: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Temperatures of five steps, the seed, the step."""
    return torch.linspace(0.8, 0.4, 5, device=DEVICE), torch.tensor([seed], device=DEVICE), ids(step)


def capped(raw: Near, by_tanh: bool) -> Near:
    """Soft-capped scores: by tanh in the reference, by an exponential in the kernel, whose error is not 0 at 0."""
    if by_tanh:
        return (raw / SOFTCAP).tanh() * SOFTCAP
    small = (Near(-raw.value.abs(), raw.error) * 2.0 / SOFTCAP).exp()
    size = (-small + 1.0) * SOFTCAP / (small + 1.0)
    return Near(size.value * raw.value.sign(), size.error)


class Expected:
    """The expected results for the rows that are read, with the roundings of the kernel or of the reference."""

    def __init__(self, given: Given, *, reference: bool) -> None:
        hidden, rows, embedding, temperatures, _, step, allowed, first, *_ = given
        self.given, self.dtype, row = given, hidden.dtype, rows[rows >= 0].long()
        raw = near(hidden[row]).dot(embedding).to(self.dtype)
        self.logits = capped(raw, by_tanh=reference) / temperatures[step.long()]
        self.seen = torch.ones(len(row), len(embedding), dtype=torch.bool, device=DEVICE)
        if allowed is not None and first is not None:
            self.seen = (allowed.long() >> first[row].long()[:, None]) & 1 != 0
        # Rescaling to a tile's maximum, a chunk's, and those of the chunks before: a factor each.
        steps = 1 if reference else 2 + -(-len(embedding) // op.CHUNK)
        self.weights = weights_of(self.logits, self.seen, steps=steps)
        self.shares = self.weights / self.weights.sum()[:, None]
        self.row, self.reference = row, reference

    def entropy(self) -> Near:
        """Entropy: in the kernel from sums of e^x and e^x x, in the reference from probabilities."""
        if not self.reference:
            return entropy_of(self.weights, self.logits, self.seen)
        # A probability that underflows adds nothing, whatever its logarithm.
        kept = self.shares.value > LEAST
        shares = Near(self.shares.value.where(kept, 1.0), self.shares.error.where(kept, 0.0))
        return -(shares * shares.log()).sum()

    def race(self) -> Near:
        """Logits plus Gumbel noise, whose maximum is the sample."""
        _, _, embedding, _, seed, step, *_ = self.given
        column = torch.arange(len(embedding), device=DEVICE)
        four = philox_reference(int(seed), column // 4, self.row[:, None], step, torch.full_like(step, DRAW))
        bits = torch.stack(four, dim=-1).gather(-1, (column % 4).expand(len(self.row), -1)[..., None]).squeeze(-1)
        # Exact in float32: 23 bits plus a half.
        uniform = near((bits >> 9) + 0.5) * 2.0**-23
        return self.logits + -((-Near(uniform.value, torch.zeros_like(uniform.value)).log()).log())

    def soft(self, scale: float) -> Near:
        """Soft embeddings: weights and result are in the embedding's dtype; the reference rounds before scaling too."""
        mixed = self.shares.to(self.dtype).dot(self.given[2].mT)
        return (mixed.to(self.dtype) * scale if self.reference else mixed * scale).to(self.dtype)

    def check(self, got: op.Vocabulary) -> None:
        """Check statistics and ids of the rows that are read, and zeros in the others."""
        others = torch.ones(len(got.entropy), dtype=torch.bool, device=DEVICE)
        others[self.row] = False
        assert_within(got.entropy[self.row], self.entropy())
        for index, scores in ((got.argmax, self.logits), (got.sample, self.race())):
            assert_best(index[self.row], Near(scores.value.masked_fill(~self.seen, -torch.inf), scores.error))
        scale = self.given[-1]
        assert (got.soft is None) == (scale is None)
        if scale is not None and got.soft is not None:
            assert_within(got.soft[self.row], self.soft(scale))
        assert all(one[others].eq(0).all() for one in got if one is not None)


def check(given: Given) -> None:
    """Kernel and reference, each against the exact result."""
    Expected(given, reference=False).check(op.vocabulary(*given))
    Expected(given, reference=True).check(op.vocabulary_reference(*given))


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
@example(count=1, width=8, size=5, chunk=64, soft=True, limited=False, step=4)
@example(count=1, width=8, size=5, chunk=64, soft=True, limited=True, step=4)
def test_statistics_samples_and_soft_embeddings(
    count: int, width: int, size: int, chunk: int, soft: bool, limited: bool, step: int
) -> None:
    tokens = count + 3
    hidden, embedding = noise(0, tokens, width), noise(1, size, width, scale=2 * width**-0.5)
    order = torch.randperm(tokens, generator=torch.Generator().manual_seed(2))[:count].int()
    order[1::4] = -1
    allowed = first = None
    if limited:
        allowed = torch.randint(0, 4, (size,), generator=torch.Generator().manual_seed(3)).byte().to(DEVICE)
        allowed[0] = 3
        first = (torch.arange(tokens) % 3 == 0).to(DEVICE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(op, "CHUNK", chunk)
        check((hidden, order.to(DEVICE), embedding, *draws(7, step), allowed, first, SOFTCAP, 5.0 if soft else None))


def test_bfloat16() -> None:
    hidden, embedding = noise(0, 20, 48, dtype=torch.bfloat16), noise(1, 96, 48, dtype=torch.bfloat16, scale=0.2)
    check((hidden, ids(*range(20)), embedding, *draws(3, 1), None, None, SOFTCAP, 4.0))


def test_softcap_bounds_and_temperature_sharpens() -> None:
    hidden, embedding = torch.tensor([[1.0]] * 2, device=DEVICE), torch.tensor([[1e4], [-1e4]], device=DEVICE)
    temperatures = torch.tensor([20.0], device=DEVICE)
    _, seed, step = draws(0, 0)
    got = op.vocabulary(hidden, ids(0, 1), embedding, temperatures, seed, step, None, None, SOFTCAP, None)
    # The capped logits are 30 and -30; over the temperature 20 they are 3 apart.
    shares = softmax(near(torch.tensor([[1.5, -1.5], [-1.5, 1.5]], device=DEVICE)) * 1.0)
    assert_within(got.entropy, -(shares * shares.log()).sum())


def test_samples_follow_the_distribution_and_depend_on_the_counter_alone() -> None:
    """120 samples of three tokens; a row's sample does not depend on the other rows."""
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


def test_another_step_or_seed_gives_other_samples() -> None:
    hidden, embedding = torch.zeros(12, 8, device=DEVICE), noise(0, 64, 8)
    order, seen = ids(*range(12)), []
    for seed, step in ((1, 0), (1, 1), (2, 0), (1 + 2**32, 0)):
        seen.append(op.vocabulary(hidden, order, embedding, *draws(seed, step), None, None, SOFTCAP, None).sample)
    for index, one in enumerate(seen):
        for other in seen[:index]:
            assert (one == other).float().mean() < 0.3


def test_without_free_rows_all_results_are_zero() -> None:
    got = op.vocabulary(noise(0, 3, 8), ids(), noise(1, 9, 8), *draws(0, 0), None, None, SOFTCAP, 1.0)
    assert got.soft is not None
    assert got.soft.eq(0).all()
    assert got.entropy.eq(0).all()
