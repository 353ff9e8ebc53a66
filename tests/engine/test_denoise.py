"""The denoising loop over scripted networks: frozen tokens, seeds, stopping, healing, banned ids, self-conditioning."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from midspan.engine.canvas import Canvas, Plan, Rng
from midspan.engine.denoise import Step, denoise
from midspan.engine.sampling import LogitsNetwork

VOCAB = 24


class Scripted(LogitsNetwork):
    """A network whose logits depend on the canvas, as a real one's do; it keeps every canvas that it reads."""

    vocab_size = VOCAB

    def __init__(self, sharpness: float = 3.0) -> None:
        self.sharpness = sharpness
        self.seen: list[torch.Tensor] = []
        self.softs: list[torch.Tensor | None] = []
        self.kept: list[list[int]] = []

    def logits(self, ids: torch.Tensor, soft: torch.Tensor | None, free: torch.Tensor) -> torch.Tensor:
        self.seen.append(ids.clone())
        self.softs.append(soft)
        shifted = (ids * 7 + ids.sum(dim=-1, keepdim=True) + torch.arange(ids.shape[1])) % VOCAB
        return self.sharpness * torch.nn.functional.one_hot(shifted, VOCAB).float()[free]

    def soft(self, logits: torch.Tensor) -> torch.Tensor:
        return torch.softmax(logits, dim=-1)

    def keep(self, rows: torch.Tensor) -> None:
        self.kept.append(rows.tolist())


class Certain(Scripted):
    """A network that is always sure that position i holds token i."""

    def logits(self, ids: torch.Tensor, soft: torch.Tensor | None, free: torch.Tensor) -> torch.Tensor:
        self.seen.append(ids.clone())
        places = torch.arange(ids.shape[1]).expand_as(ids) % VOCAB
        return 40.0 * torch.nn.functional.one_hot(places, VOCAB).float()[free]


class Uneven(Scripted):
    """A network that is surer of some canvases than of others."""

    def __init__(self, sharpness: list[float]) -> None:
        super().__init__()
        self.by_canvas = torch.tensor(sharpness)

    def logits(self, ids: torch.Tensor, soft: torch.Tensor | None, free: torch.Tensor) -> torch.Tensor:
        even = super().logits(ids, soft, free)
        return even * self.by_canvas[free.nonzero()[:, 0], None]

    def keep(self, rows: torch.Tensor) -> None:
        super().keep(rows)
        self.by_canvas = self.by_canvas[rows]


@st.composite
def canvases(draw: st.DrawFn) -> Canvas:
    """Any batch of canvases with any mask."""
    batch, width = draw(st.integers(1, 3)), draw(st.integers(1, 12))
    mask = draw(st.lists(st.booleans(), min_size=batch * width, max_size=batch * width))
    ids = draw(st.lists(st.integers(0, VOCAB - 1), min_size=batch * width, max_size=batch * width))
    return Canvas(ids=torch.tensor(ids).view(batch, width), free=torch.tensor(mask).view(batch, width))


def run(network: Scripted, canvas: Canvas, seed: int = 0, steps: int = 5) -> list[Step]:
    return list(denoise(network, canvas, Plan(steps=steps), Rng(seed)))


@given(canvases(), st.integers(0, 2**31))
def test_frozen_tokens_never_change(canvas: Canvas, seed: int) -> None:
    network = Scripted()
    steps = run(network, canvas, seed)
    frozen = ~canvas.free
    for shown in [*network.seen, *(step.draft for step in steps), *(step.canvas for step in steps)]:
        assert torch.equal(shown[frozen], canvas.ids[frozen])
    for step in steps:
        assert not bool((step.accepted & frozen).any())
        assert float(step.entropy[frozen].sum()) == 0.0


@given(canvases())
def test_a_canvas_with_nothing_free_ends_at_once(canvas: Canvas) -> None:
    network = Scripted()
    nothing = Canvas(ids=canvas.ids, free=torch.zeros_like(canvas.free))
    assert run(network, nothing) == []
    assert network.seen == []


@given(canvases(), st.integers(0, 2**31))
def test_same_seed_same_steps(canvas: Canvas, seed: int) -> None:
    one, two = run(Scripted(), canvas, seed), run(Scripted(), canvas, seed)
    assert len(one) == len(two)
    for left, right in zip(one, two, strict=True):
        assert torch.equal(left.draft, right.draft)
        assert torch.equal(left.canvas, right.canvas)


def test_another_seed_begins_with_other_noise() -> None:
    canvas = Canvas(ids=torch.zeros(1, 12, dtype=torch.long), free=torch.ones(1, 12, dtype=torch.bool))
    one, two = Scripted(), Scripted()
    run(one, canvas, 1)
    run(two, canvas, 2)
    assert not torch.equal(one.seen[0], two.seen[0])


def test_a_stable_and_confident_canvas_stops_after_two_steps() -> None:
    canvas = Canvas(ids=torch.zeros(2, 6, dtype=torch.long), free=torch.ones(2, 6, dtype=torch.bool))
    steps = run(Certain(), canvas, steps=9)
    assert len(steps) == 2
    assert steps[-1].finished.tolist() == [True, True]
    assert steps[-1].draft.tolist() == [list(range(6))] * 2


def test_the_next_step_reads_the_canvas_of_accepted_samples_and_noise() -> None:
    canvas = Canvas(ids=torch.zeros(1, 12, dtype=torch.long), free=torch.ones(1, 12, dtype=torch.bool))
    network = Scripted(sharpness=1.0)
    steps = run(network, canvas, steps=3)
    for step, shown in zip(steps, network.seen[1:], strict=False):
        assert torch.equal(step.canvas, shown)
        assert 0 < int(step.accepted.sum()) < 12


def test_healing_limits_the_first_slot_and_banned_ids_never_come() -> None:
    allowed = torch.zeros(VOCAB, dtype=torch.bool)
    allowed[[5, 6]] = True
    ids = torch.zeros(2, 8, dtype=torch.long)
    canvas = Canvas(
        ids=ids, free=torch.ones(2, 8, dtype=torch.bool), allowed_first=allowed, banned=tuple(range(10, 24))
    )
    for step in run(Scripted(sharpness=0.5), canvas, steps=6):
        assert bool(allowed[step.draft[:, 0]].all())
        assert int(step.draft[:, 1:].max()) < 10


def test_conditions_on_the_last_step_from_the_second_on_and_not_at_frozen_positions() -> None:
    free = torch.tensor([[True, True, False, True]])
    canvas = Canvas(ids=torch.full((1, 4), 3), free=free)
    network = Scripted(sharpness=1.0)
    run(network, canvas, steps=3)
    assert network.softs[0] is None
    later = network.softs[1]
    assert later is not None
    assert float(later[0, 2].abs().sum()) == 0.0
    assert torch.allclose(later[free].sum(dim=-1), torch.ones(3))


def test_a_finished_canvas_waits_unchanged_for_its_batch() -> None:
    class HalfCertain(Scripted):
        def logits(self, ids: torch.Tensor, soft: torch.Tensor | None, free: torch.Tensor) -> torch.Tensor:
            self.seen.append(ids.clone())
            wild = torch.randint(0, VOCAB, (6,), generator=torch.Generator().manual_seed(len(self.seen)))
            places = torch.stack((torch.arange(6), wild))
            return 40.0 * torch.nn.functional.one_hot(places, VOCAB).float()[free]

    canvas = Canvas(ids=torch.zeros(2, 6, dtype=torch.long), free=torch.ones(2, 6, dtype=torch.bool))
    network = HalfCertain()
    steps = run(network, canvas, steps=5)
    assert len(steps) == 5
    assert steps[1].finished.tolist() == [True, False]
    for step, shown in zip(steps[2:], network.seen[3:], strict=False):
        assert torch.equal(step.canvas[0], steps[2].canvas[0])
        assert torch.equal(shown[0], steps[1].canvas[0])


def test_only_the_surest_canvases_go_on_after_the_first_step() -> None:
    """Entropy is summed over slots: a short gap may survive before a long one that is a little surer per slot."""
    free = torch.tensor([[True] * size + [False] * (6 - size) for size in (6, 3, 1, 4, 2)])
    canvas = Canvas(ids=torch.arange(30).view(5, 6) % VOCAB, free=free)
    network = Uneven([0.1, 0.2, 0.1, 0.5, 0.05])
    steps = list(denoise(network, canvas, Plan(steps=3, survivors=2, t_min=1.0, t_max=1.0), Rng(0)))
    total = steps[0].entropy.sum(dim=-1)
    surest = sorted(total.argsort()[:2].tolist())
    assert surest == [2, 4]
    assert network.kept == [surest]
    assert [step.rows.tolist() for step in steps] == [[0, 1, 2, 3, 4], surest, surest]
    assert torch.equal(network.seen[1], steps[0].canvas[surest])
    soft = network.softs[1]
    assert soft is not None
    assert torch.equal(soft.abs().sum(dim=-1) > 0, free[surest])
    for step in steps[1:]:
        assert torch.equal(step.draft[~free[surest]], canvas.ids[surest][~free[surest]])


def test_no_canvas_is_dropped_if_there_are_as_many_survivors_as_canvases() -> None:
    canvas = Canvas(ids=torch.zeros(3, 4, dtype=torch.long), free=torch.ones(3, 4, dtype=torch.bool))
    network = Scripted()
    steps = list(denoise(network, canvas, Plan(steps=3, survivors=3), Rng(0)))
    assert (network.kept, [len(step.rows) for step in steps]) == ([], [3, 3, 3])
