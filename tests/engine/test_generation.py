"""Whole generations against transformers with the same noise and samples: step for step, token for token."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from midspan.engine.backends.bound import BoundCanvases
from midspan.engine.backends.plain import TorchCanvasBackend
from midspan.engine.cache import Cache
from midspan.engine.canvas import Canvas, Plan
from midspan.engine.denoise import Step, denoise
from midspan.engine.model import DiffusionGemma
from tests.engine.oracle import (
    CANVAS,
    VOCAB,
    InjectedRng,
    Recorded,
    Trace,
    distance,
    generate,
    open_ours,
    open_theirs,
    save_checkpoint,
    tiny_sizes,
)

pytestmark = pytest.mark.parity
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[DiffusionGemma, Recorded]:
    """Both networks, with sharp logits, so that canvases settle, and with small residual branches: with large ones a
    random network is chaotic, and every step makes a difference of 1e-5 about eight times larger."""
    folder = save_checkpoint(tmp_path_factory.mktemp("loop"), seed=1, sharpness=8.0, branch=0.4)
    return open_ours(folder), open_theirs(folder)


@pytest.fixture(autouse=True)
def tiny() -> Iterator[None]:
    with tiny_sizes():
        yield


class Ours:
    """Steps and raw logits of every canvas."""

    def __init__(self) -> None:
        self.steps: list[list[Step]] = []
        self.raw: list[list[torch.Tensor]] = []


class Listening(BoundCanvases):
    """Keeps the logits that it returns."""

    def __init__(self, model: DiffusionGemma, cache: Cache, canvas: Canvas) -> None:
        super().__init__(TorchCanvasBackend(model), cache, canvas)
        self.raw: list[torch.Tensor] = []

    def logits(self, ids: torch.Tensor, soft: torch.Tensor | None, free: torch.Tensor) -> torch.Tensor:
        out = super().logits(ids, soft, free)
        self.raw.append(out.view(*ids.shape, -1).clone())
        return out


def our_generation(model: DiffusionGemma, prompt: torch.Tensor, canvases: int, plan: Plan, seed: int) -> Ours:
    """transformers' generate by our loop: denoise a canvas, then encode its draft."""
    draws, cache, out = InjectedRng(seed), TorchCanvasBackend(model).new_cache(), Ours()
    TorchCanvasBackend(model).prefill(prompt[:1], cache)
    shape = (len(prompt), CANVAS)
    for number in range(canvases):
        canvas = Canvas(ids=torch.zeros(shape, dtype=torch.long), free=torch.ones(shape, dtype=torch.bool))
        network = Listening(model, cache, canvas)
        steps = list(denoise(network, canvas, plan, draws))
        out.steps.append(steps)
        out.raw.append(network.raw)
        if number + 1 < canvases:
            TorchCanvasBackend(model).prefill(steps[-1].draft, cache)
    return out


def assert_same_decisions(ours: Ours, theirs: Trace) -> None:
    """Step for step: logits, draft, accepted positions, next canvas, entropies, finished rows."""
    assert [len(steps) for steps in ours.steps] == [len(steps) for steps in theirs.canvases]
    for mine, raw, other in zip(ours.steps, ours.raw, theirs.canvases, strict=True):
        for step, logits, expected in zip(mine, raw, other, strict=True):
            assert distance(logits, expected.raw) <= TOLERANCE
            assert torch.equal(step.draft, expected.draft)
            assert torch.equal(step.canvas, expected.canvas)
            assert torch.equal(step.accepted, expected.accepted)
            assert torch.equal(step.finished, expected.finished)


def prompt(length: int, batch: int = 1) -> torch.Tensor:
    ids = torch.randint(0, VOCAB, (1, length), generator=torch.Generator().manual_seed(1000))
    return ids.expand(batch, -1)


@pytest.mark.parametrize("length", [5, 11, 30])
def test_two_canvases_token_for_token(models: tuple[DiffusionGemma, Recorded], length: int) -> None:
    ours, theirs = models
    plan = Plan(steps=12, confidence_threshold=0.05)
    expected = generate(theirs, prompt(length), 2, plan, seed=5)
    mine = our_generation(ours, prompt(length), 2, plan, seed=5)
    assert_same_decisions(mine, expected)
    tokens = torch.cat([prompt(length), *(steps[-1].draft for steps in mine.steps)], dim=1)
    assert torch.equal(tokens, expected.sequences)


def test_the_recorded_generation_is_worth_comparing(models: tuple[DiffusionGemma, Recorded]) -> None:
    """Some positions are accepted and some not, both canvases settle early, and drafts differ from next canvases."""
    trace = generate(models[1], prompt(11), 2, Plan(steps=12, confidence_threshold=0.05), seed=5)
    assert len(trace.canvases) == 2
    for steps in trace.canvases:
        assert 2 < len(steps) < 12
        accepted = [int(step.accepted.sum()) for step in steps]
        assert min(accepted) < CANVAS == max(accepted)
        assert not torch.equal(steps[0].draft, steps[0].canvas)


def test_a_canvas_that_does_not_settle_ends_with_the_steps(models: tuple[DiffusionGemma, Recorded]) -> None:
    ours, theirs = models
    plan = Plan(steps=3, confidence_threshold=1e-6)
    expected = generate(theirs, prompt(11), 2, plan, seed=5)
    assert [len(steps) for steps in expected.canvases] == [3, 3]
    assert_same_decisions(our_generation(ours, prompt(11), 2, plan, seed=5), expected)


def test_finished_rows_of_a_batch_freeze(models: tuple[DiffusionGemma, Recorded]) -> None:
    ours, theirs = models
    # With this threshold rows finish while they are unsure, and would still change if they went on.
    plan = Plan(steps=12, confidence_threshold=0.3)
    expected = generate(theirs, prompt(11, batch=3), 1, plan, seed=5)
    finished = [int(step.finished.sum()) for step in expected.canvases[0]]
    assert 0 < finished[-2] < 3 == finished[-1]
    mine = our_generation(ours, prompt(11, batch=3), 1, plan, seed=5)
    assert [len(steps) for steps in mine.steps] == [len(steps) for steps in expected.canvases]
    for step, other in zip(mine.steps[0], expected.canvases[0], strict=True):
        assert torch.equal(step.draft, other.draft)
        assert torch.equal(step.canvas, other.canvas)
        assert torch.equal(step.finished, other.finished)
