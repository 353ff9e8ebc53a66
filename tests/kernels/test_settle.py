"""The settle kernel accepts, renoises and stops as its reference and as the engine's rules do."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from midspan.engine.canvas import accept, settled
from midspan.kernels.counter import below_reference, philox_reference
from midspan.kernels.settle import settle, settle_reference
from tests.kernels.compare import DEVICE, few

pytestmark = pytest.mark.gpu_kernels

VOCABULARY = 1000


def state(batch: int, canvas: int, seed: int, free: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
    """A step's arguments; entropies are multiples of 1/64, whose sums are exact in any order."""
    draw = torch.Generator().manual_seed(seed)
    ids = {name: torch.randint(0, 9, (batch, canvas), generator=draw).int() for name in ("sample", "argmax", "clean")}
    entropy = torch.randint(0, 40, (batch, canvas), generator=draw) / 64
    free = torch.rand(batch, canvas, generator=draw) < 0.7 if free is None else free
    given = {"entropy": entropy, **ids, "free": free}
    given |= {name: torch.full((batch, canvas), -1, dtype=torch.int32) for name in ("current", "draft")}
    given |= {"finished": torch.zeros(batch, dtype=torch.bool), "seed": torch.tensor([seed + 2**40])}
    given |= {"step": torch.tensor([3], dtype=torch.int32), "stop": torch.tensor([7], dtype=torch.int32)}
    return {name: value.to(DEVICE) for name, value in given.items()}


def copy(given: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in given.items()}


@few(15)
@given(
    batch=st.integers(1, 4),
    canvas=st.sampled_from([1, 5, 32, 33, 70]),
    seed=st.integers(0, 9),
    bound=st.sampled_from([0.0, 0.5, 3.0]),
    threshold=st.sampled_from([0.005, 0.3, 9.0]),
    agreed=st.booleans(),
)
def test_the_kernel_decides_as_its_reference(
    batch: int, canvas: int, seed: int, bound: float, threshold: float, agreed: bool
) -> None:
    got = state(batch, canvas, seed)
    got["finished"][::3] = True
    if agreed:
        got["draft"].copy_(got["argmax"])
    want = copy(got)
    accepted = settle(**got, bound=bound, threshold=threshold, vocabulary=VOCABULARY)
    assert torch.equal(accepted, settle_reference(**want, bound=bound, threshold=threshold, vocabulary=VOCABULARY))
    for name in want:
        assert torch.equal(got[name], want[name]), name


@few(10)
@given(canvas=st.integers(1, 40), seed=st.integers(0, 99), bound=st.sampled_from([0.0, 0.1, 2.0]))
def test_acceptance_and_stop_are_the_engine_s(canvas: int, seed: int, bound: float) -> None:
    given = state(2, canvas, seed)
    given["draft"][0].copy_(given["argmax"][0])
    previous, entropy, free = given["draft"].clone(), given["entropy"], given["free"]
    accepted = settle(**given, bound=bound, threshold=0.3, vocabulary=VOCABULARY)
    assert torch.equal(accepted, accept(entropy, free, bound))
    assert torch.equal(given["finished"], settled(given["argmax"], previous, entropy, free, 0.3))


def test_frozen_positions_and_finished_canvases_do_not_change() -> None:
    given = state(3, 20, 1)
    given["finished"][1] = True
    settle(**given, bound=0.5, threshold=0.005, vocabulary=VOCABULARY)
    frozen = ~given["free"]
    for name in ("current", "draft"):
        assert torch.equal(given[name][::2][frozen[::2]], given["clean"][::2][frozen[::2]])
        assert given[name][1].eq(-1).all()


def test_the_stop_flag_is_set_once_every_canvas_has_finished() -> None:
    """Two canvases finish in different steps; the flag is set with the second, and steps are counted."""
    given = state(2, 6, 0, free=torch.ones(2, 6, dtype=torch.bool))
    given["entropy"].zero_()
    given["draft"][0].copy_(given["argmax"][0])
    stops = []
    for _ in range(2):
        settle(**given, bound=0.1, threshold=0.005, vocabulary=VOCABULARY)
        stops.append(int(given["stop"]))
    assert stops == [0, 1]
    assert int(given["step"]) == 5


def test_noise_is_fresh_every_step_and_covers_the_vocabulary() -> None:
    given = state(2, 64, 0, free=torch.ones(2, 64, dtype=torch.bool))
    given["entropy"].fill_(1.0)
    seen = []
    for _ in range(2):
        accepted = settle(**given, bound=0.0, threshold=0.0, vocabulary=VOCABULARY)
        seen.append(given["current"][~accepted])
    both = torch.cat(seen)
    assert len(both) == 2 * 2 * 63
    assert both.min() >= 0
    assert both.max() < VOCABULARY
    # 252 uniform draws of 1000: fewer than 200 distinct ones would be beyond four standard deviations.
    assert len(both.unique()) > 200


def test_philox_gives_the_published_numbers() -> None:
    """Known answers of Random123 for Philox4x32-10."""
    zero, ones = torch.zeros(1, dtype=torch.long), torch.full((1,), 0xFFFFFFFF)
    assert [int(x) for x in philox_reference(0, zero, zero, zero, zero)] == [
        *(0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)
    ]
    assert [int(x) for x in philox_reference(2**64 - 1, ones, ones, ones, ones)] == [
        *(0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)
    ]
    assert below_reference(ones, 262_144).item() == 262_143
