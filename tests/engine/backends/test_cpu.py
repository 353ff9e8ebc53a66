"""The backend of the CPU's own kernels computes and decides as plain torch does, verb by verb.

tests/kernels/test_program.py checks how exact the kernels are, against a reference that rounds as they do.
"""

from __future__ import annotations

import platform
import threading
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from midspan.engine.api import Budget, DeviceError, Hole
from midspan.engine.backends.backend import CanvasBackend
from midspan.engine.backends.bound import BoundCanvases
from midspan.engine.backends.choose import choose
from midspan.engine.backends.cpu import CpuBackend
from midspan.engine.backends.cpu_calls import product_threads
from midspan.engine.backends.cpu_weights import unfit
from midspan.engine.backends.plain import TorchCanvasBackend
from midspan.engine.canvas import Canvas, Plan, Rng
from midspan.engine.denoise import denoise
from midspan.engine.engine import Engine, load_infiller
from midspan.engine.model import ModelConfig
from midspan.engine.next_token import next_token
from midspan.engine.sampling import limit, permitted, sample
from midspan.kernels import native
from tests.engine.exact import PASSED_OVER, Step, plain_sums, sums
from tests.engine.reads import READS, VOCAB, WINDOW, Read, ids
from tests.engine.tiny import config_json, random_model, tiny_checkpoint
from tests.examples import examples
from tests.near import (
    Near,
    assert_best,
    assert_within,
    gamma,
    log_sum_of,
    near,
)

SIZES = {
    "num_experts": 1,
    "top_k_experts": 1,
    "sliding_window": WINDOW,
    "hidden_size": 128,
    "intermediate_size": 192,
    "moe_intermediate_size": 64,
    "num_key_value_heads": 4,
    "num_global_key_value_heads": 4,
    "head_dim": 32,
    "global_head_dim": 32,
}
PLAIN = random_model(config_json(VOCAB, **SIZES))
for scalar in PLAIN.scalars(encoder=True):
    # Different from the decoder's scalars, which are random as well.
    scalar.mul_(3.0)
TORCH = TorchCanvasBackend(PLAIN)
# A CPU that runs the fastest build runs the slower ones too, so all are tested.
LIBRARIES = [found for build in native.fitting() if (found := native.opened(build)) is not None]
pytestmark = pytest.mark.skipif(not LIBRARIES, reason="no build of the kernels is for this CPU")
each_build = pytest.mark.parametrize(
    "model", [CpuBackend(PLAIN, library) for library in LIBRARIES], ids=[library.name for library in LIBRARIES]
)


def far(mine: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((mine - theirs).norm() / theirs.norm())


@each_build
@pytest.mark.parametrize("read", READS)
def test_hidden_rows_are_near_those_of_plain_torch(model: CpuBackend, read: Read) -> None:
    with torch.inference_mode():
        for mine, exact in zip(read(model), read(TORCH), strict=True):
            assert mine.shape == exact.shape
            # Noise in int8 is this near; a test below has real text.
            assert far(mine, exact) < 0.1


@each_build
def test_every_key_of_the_window_is_read(model: CpuBackend) -> None:
    """A change of any token changes the last row: at the edges of the kernels' blocks of keys and within them."""
    with torch.inference_mode():
        text = ids(1, WINDOW - 1, 3)
        whole = model.prefill(text, model.new_cache())[0, -1]
        for place in range(WINDOW - 1):
            other = text.clone()
            other[0, place] = 5 if text[0, place] != 5 else 6
            assert not torch.equal(model.prefill(other, model.new_cache())[0, -1], whole)


@each_build
@examples(30)
@given(cuts=st.lists(st.integers(1, 40), min_size=1, max_size=6), seed=st.integers(0, 99))
def test_a_text_reads_the_same_in_pieces(model: CpuBackend, cuts: list[int], seed: int) -> None:
    """Equal to the bit, so that a text typed key by key has the same fills as a text that was opened."""
    text = ids(1, sum(cuts), seed)
    with torch.inference_mode():
        whole, pieces, cache = model.prefill(text, model.new_cache(4)), [], model.new_cache(4)
        for piece in text.split(cuts, dim=1):
            pieces.append(model.prefill(piece, cache))
    assert torch.equal(torch.cat(pieces, dim=1), whole)


@each_build
@examples(30)
@given(rows=st.integers(1, 100), last=st.integers(1, 100), behind=st.integers(0, 20), seed=st.integers(0, 99))
def test_computing_only_the_last_rows_gives_equal_rows(
    model: CpuBackend, rows: int, last: int, behind: int, seed: int
) -> None:
    """The last rows are equal to the bit, and so are rows that are computed after them."""
    text, cache, other = ids(1, behind + rows, seed), model.new_cache(4), model.new_cache(4)
    with torch.inference_mode():
        if behind:
            for each in (cache, other):
                model.prefill(text[:, :behind], each)
        whole, some = model.prefill(text[:, behind:], cache), model.prefill(text[:, behind:], other, last)
        assert torch.equal(some, whole[:, -last:])
        assert torch.equal(model.prefill(text[:, :3], other), model.prefill(text[:, :3], cache))


@each_build
@examples(20)
@given(batch=st.integers(1, 5), rows=st.integers(1, 40), threads=st.integers(2, 4))
def test_the_number_of_threads_changes_nothing(model: CpuBackend, batch: int, rows: int, threads: int) -> None:
    read, canvases = [], ids(batch, rows, rows)
    with torch.inference_mode():
        for count in (1, threads):
            model.network.threads = count
            cache = model.new_cache()
            model.prefill(ids(1, 9, 1), cache)
            hidden = model.denoise(canvases, cache)
            read.append((hidden, model.logits(hidden), model.denoise(canvases, cache, hidden)))
    model.network.threads = product_threads()
    for one, many in zip(*read, strict=True):
        assert torch.equal(one, many)


@each_build
@examples(40)
@given(
    rows=st.integers(1, 30),
    temperature=st.floats(0.05, 2.0),
    healed=st.booleans(),
    banned=st.sets(st.integers(0, VOCAB - 1), max_size=20),
    seed=st.integers(0, 999),
)
def test_a_step_is_sampled_as_in_plain_torch(
    model: CpuBackend, rows: int, temperature: float, healed: bool, banned: set[int], seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(rows, 128, generator=generator) * 2
    free = torch.ones(1, rows, dtype=torch.bool)
    allowed = torch.rand(VOCAB, generator=generator) < 0.3 if healed else None
    if allowed is not None:
        allowed[next(iter({*range(VOCAB)} - banned))] = True
    canvas = Canvas(ids=torch.zeros(1, rows, dtype=torch.long), free=free, allowed_first=allowed, banned=tuple(banned))
    first = torch.arange(rows) == 0
    with torch.inference_mode():
        logits = limit(model.logits(hidden), canvas, first) / temperature
        plain = sample(logits, Rng(seed), lambda some: model.soft_embed(torch.softmax(some, dim=-1)))
        own = model.sample(hidden, temperature, permitted(canvas, VOCAB), first, Rng(seed).uniform(rows))
        some = torch.rand(rows, generator=generator) < 0.5
        embeddings = model.soft_embed(torch.eye(VOCAB))
        # Both start from the same logits; samples and entropies of each are compared with the exact result.
        exact = Step(model.logits(hidden), permitted(canvas, VOCAB)[first.long()], temperature, embeddings)
        places = Rng(seed).uniform(rows)
        for found, entropy in ((own, exact.entropy()), (plain, exact.plain_entropy())):
            assert_within(found.entropy, entropy)
            assert_best(found.argmax, exact.masked)
            exact.check_sample(found.sample, places)
            assert_within(found.expected(None), exact.expected())
            assert_within(found.expected(some), exact.expected()[some])


@each_build
@pytest.mark.parametrize("seed", range(4))
def test_canvases_settle_as_in_the_torch_loop_over_the_same_logits(model: CpuBackend, seed: int) -> None:
    """Step for step: with healing, banned ids, a suffix that is read once, canvases dropped after the first step."""
    generator = torch.Generator().manual_seed(seed)
    free = torch.arange(12)[None] < torch.tensor([3, 5, 8])[:, None]
    free[2, 0] = False  # if the first slot is frozen, no other one is healed
    allowed = torch.rand(VOCAB, generator=generator) < 0.2
    canvas = Canvas(
        ids=ids(3, 12, seed), free=free, allowed_first=allowed, banned=tuple(range(0, VOCAB, 3)), later_rows=8
    )
    # With this bound at least one slot a step is accepted; with this threshold no canvas stops early.
    plan = Plan(steps=4, entropy_bound=1.0, confidence_threshold=0.0, survivors=2)
    cache = model.new_cache()
    with torch.inference_mode():
        model.prefill(ids(1, 9, 1), cache)
        mine = list(model.bind(cache, canvas).steps(plan, Rng(seed)))
        plain = list(denoise(BoundCanvases(model, cache, canvas), canvas, plan, Rng(seed)))
    assert len(mine) == len(plain) == plan.steps
    for own, other in zip(mine, plain, strict=True):
        for name in ("rows", "draft", "canvas", "accepted", "finished"):
            assert torch.equal(getattr(own, name), getattr(other, name)), name
        # Soft embeddings differ in their last bits, and are rounded to int8.
        assert far(own.entropy, other.entropy) < 0.02
        filled = own.draft[free[own.rows]]
        assert bool((filled % 3 != 0).all())
        assert bool(allowed[own.draft[free[own.rows, 0], 0]].all())


@each_build
def test_log_probabilities_are_those_of_the_logits(model: CpuBackend) -> None:
    hidden, rows = torch.randn(9, 128, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 8, 3, 3])
    wanted = torch.tensor([5, 63, 0, 7])
    with torch.inference_mode():
        theirs = model.logits(hidden[rows]).log_softmax(dim=-1).gather(-1, wanted[:, None]).squeeze(-1)
        logits = near(model.logits(hidden))
    exact = logits[rows, wanted] - log_sum_of(logits)[rows]
    assert_within(model.log_probabilities(hidden, rows, wanted), exact)
    assert_within(theirs, exact)


@each_build
@examples(40)
@given(rows=st.integers(1, 20), width=st.integers(1, 9), share=st.floats(0, 1), seed=st.integers(0, 999))
def test_next_token_distributions_are_those_of_plain_torch(
    model: CpuBackend, rows: int, width: int, share: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(rows, 128, generator=generator) * 2
    kinds = torch.rand(VOCAB, generator=generator)
    inner, stops = kinds < share, kinds > 0.9
    # At least one id may continue, so that the distribution is never empty.
    inner[0], stops[0] = True, False
    stops &= ~inner
    with torch.inference_mode():
        own = model.next_token(hidden, inner, stops, width)
        plain = next_token(model.logits(hidden), inner, stops, width)
    assert torch.equal(own.logits, plain.logits)
    scores, best = near(plain.logits), plain.logits.masked_fill(~inner, -torch.inf).topk(width).values
    there = best > -torch.inf
    for found, (log_sum, ends) in ((own, sums(scores, inner, stops)), (plain, plain_sums(scores, inner, stops))):
        assert_within(found.log_sum, log_sum)
        if ends is not None:
            assert_within(found.ends, ends - log_sum)
        assert found.ends.isfinite().all() == (ends is not None)
        assert torch.equal(found.values > -torch.inf, there)
        # Of equal logits either may come first, but no id twice.
        chosen = found.ids.where(there, -1 - torch.arange(width))
        assert all(len(set(row)) == width for row in chosen.tolist())
        assert torch.equal(plain.logits.gather(1, found.ids)[there], best[there])
        assert_within(found.values[there], (near(best.where(there, 0.0)) - log_sum[:, None])[there])
        assert bool(inner[found.ids[there]].all())


@each_build
def test_rows_of_zeros_are_read_as_zeros(model: CpuBackend) -> None:
    with torch.inference_mode():
        assert float(model.logits(torch.zeros(2, 128)).abs().max()) < 1e-5


@each_build
def test_expected_embeddings_are_those_of_the_probabilities(model: CpuBackend) -> None:
    probabilities = torch.softmax(torch.randn(3, 5, VOCAB, generator=torch.Generator().manual_seed(1)) * 4, dim=-1)
    with torch.inference_mode():
        mine, theirs = model.soft_embed(probabilities), PLAIN.soft_embed(probabilities)
        embeddings = model.soft_embed(torch.eye(VOCAB))
    # The kernels leave out weights below a last bit of one, and divide by the sum of the weights, which is one but for
    # roundings; plain torch scales the mixed embedding.
    mixed = near(probabilities).dot(embeddings.mT)
    exact = Near(mixed.value, mixed.error + PASSED_OVER * embeddings.abs().sum(dim=0) + 2 * gamma(VOCAB) * mixed.size)
    assert_within(mine, exact)
    assert_within(theirs, exact)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("hidden_size", 96, "hidden_size is 96"),
        ("intermediate_size", 200, "intermediate_size is 200"),
        ("moe_intermediate_size", 8, "together is 200"),
        ("head_dim", 16, "head_dim is 16"),
        ("head_dim", 1024, "head_dim is 1024, above 512"),
    ],
)
def test_sizes_that_do_not_fit_the_kernels_panels_are_named(name: str, value: int, said: str) -> None:
    assert unfit(PLAIN.config, 16) is None
    assert said in str(unfit(ModelConfig.from_json(config_json(VOCAB, **SIZES | {name: value})), 16))
    assert "vocab_size is 50" in str(unfit(ModelConfig.from_json(config_json(50, **SIZES)), 16))


def test_kernels_of_another_version_are_refused_with_the_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    def outdated() -> None:
        raise RuntimeError("avx2.so is of another version, by Read.rows: install midspan again (make venv)")

    monkeypatch.setattr(native, "library", outdated)
    with pytest.raises(DeviceError, match=r"of another version.*install midspan again"):
        choose(PLAIN, int8=True)


def test_the_reason_for_plain_torch_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def why(*, int8: bool = True) -> str:
        return dict(choose(PLAIN, int8=int8).describe().kernels)["network"]

    loaded = load_infiller(str(tiny_checkpoint(tmp_path, **SIZES)), "cpu").backend
    assert "vocab_size is" in dict(loaded.describe().kernels)["network"]
    assert why(int8=False) == "torch, as its weights are not in int8"
    monkeypatch.setattr(native, "library", lambda: None)
    assert why() == "torch, as our kernels cannot be opened here: build them (make venv)"
    with monkeypatch.context() as patch:
        patch.setattr(native, "find_spec", lambda module: None)
        assert why() == "torch, as no compiler built our kernels"
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"sse4_2": True, "avx2": True})
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    assert why() == "torch, as the CPU has not avx512_vnni, or avx_vnni, or avx2 and fma3"
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    assert why() == "torch, as there are none for riscv64"


@each_build
@pytest.mark.parametrize("wrong", [VOCAB, 1_000_000, -1])
def test_ids_out_of_range_are_refused_in_one_line(model: CpuBackend, wrong: int) -> None:
    said = f"token id {wrong} is not one of {VOCAB}"
    with torch.inference_mode():
        cache = model.new_cache()
        for read in (
            lambda: model.prefill(torch.tensor([[5, wrong]]), cache),
            lambda: model.denoise(torch.tensor([[5, 6], [wrong, 7]]), cache),
            lambda: model.score([[5], [wrong]], cache),
        ):
            with pytest.raises(ValueError, match=said):
                read()
        hidden, ids_ = torch.zeros(2, 128), torch.tensor([5, wrong])
        with pytest.raises(ValueError, match=said):
            model.log_probabilities(hidden, torch.tensor([0, 1]), ids_)
        with pytest.raises(ValueError, match="row 2 is not one of 2"):
            model.log_probabilities(hidden, torch.tensor([0, 2]), torch.tensor([5, 6]))


def test_the_embedded_model_runs_on_the_kernels_and_predicts_as_in_plain_torch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = load_infiller("embedded", "cpu")
    assert own.backend.describe().kernels[0] == ("network", f"native, {LIBRARIES[0].name}")
    monkeypatch.setattr(native, "library", lambda: None)
    plain = load_infiller("embedded", "cpu").backend
    assert isinstance(plain, TorchCanvasBackend)
    text = torch.tensor([own.prompt.encode(Path(native.__file__).read_text(encoding="utf-8"))[:400]])

    def predicted(backend: CanvasBackend) -> torch.Tensor:
        return backend.logits(backend.prefill(text, backend.new_cache())[0]).log_softmax(dim=-1)

    with torch.inference_mode():
        exact = predicted(plain)
        for library in LIBRARIES:
            rounded = predicted(CpuBackend(plain.model, library))
            assert float((exact.exp() * (exact - rounded)).sum(dim=-1).mean()) < 0.005
            assert float((exact.argmax(dim=-1) == rounded.argmax(dim=-1)).float().mean()) > 0.95


def test_torch_has_one_thread_in_a_worker_whose_kernels_have_their_own() -> None:
    """The setting is the worker thread's own: other threads of the process keep theirs."""
    before, seen = torch.get_num_threads(), list[int]()
    torch.set_num_threads(2)

    def judge(hole: Hole, text: str) -> tuple[tuple[int, int], ...]:
        seen.append(torch.get_num_threads())
        return ()

    try:
        engine = Engine.load("embedded", "cpu", judge=judge)
        engine.fill(Hole(prefix="def add(a, b):\n    return ", suffix="\n", kind="rest_of_line"), Budget()).result(60)
        engine.close()
        assert set(seen) == {1}
        assert torch.get_num_threads() == 2
        assert engine.about.threads == product_threads()
    finally:
        torch.set_num_threads(before)
    assert not any(thread.name == "midspan-engine" for thread in threading.enumerate())
