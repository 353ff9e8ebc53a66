"""The network in ONNX Runtime reads as plain torch does, verb by verb; int8 nearly so, and row by row."""

from __future__ import annotations

import platform
import threading
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from midspan.engine.api import Budget, Hole
from midspan.engine.backends import onnx as onnx_gemma
from midspan.engine.backends.choose import chosen, one_expert
from midspan.engine.backends.onnx import OnnxGemma, multiplies_int8
from midspan.engine.engine import Engine, load_infiller
from midspan.engine.model import ModelConfig, product_threads
from midspan.kernels import native
from tests.engine.reads import READS, VOCAB, WINDOW, Read, ids
from tests.engine.tiny import config_json, random_model, tiny_checkpoint
from tests.examples import examples

EQUAL_HEADS = {"num_key_value_heads": 4, "num_global_key_value_heads": 4, "head_dim": 16, "global_head_dim": 16}
ONE_EXPERT = {"num_experts": 1, "top_k_experts": 1, "sliding_window": WINDOW, **EQUAL_HEADS}


@pytest.fixture(autouse=True)
def _without_kernels_of_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "library", lambda: None)


PLAIN = random_model(config_json(VOCAB, **ONE_EXPERT))
FLOAT, INT8 = OnnxGemma.of(PLAIN, int8=False), OnnxGemma.of(PLAIN, int8=True)
int8_units = pytest.mark.skipif(not multiplies_int8(), reason="pairs of products overflow on this CPU")


@pytest.mark.parametrize("read", READS)
def test_float32_is_the_same_network(read: Read) -> None:
    with torch.inference_mode():
        for mine, theirs in zip(read(FLOAT), read(PLAIN), strict=True):
            torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=1e-4)


@int8_units
@pytest.mark.parametrize("read", READS)
def test_int8_is_nearly_the_same_network(read: Read) -> None:
    with torch.inference_mode():
        for mine, theirs in zip(read(INT8), read(PLAIN), strict=True):
            # Of a network of 32 wide rows of noise; how near real text comes stands below.
            assert float((mine - theirs).norm()) < 0.15 * float(theirs.norm())
        hidden, _ = FLOAT.score(ids(1, 4, 0).tolist(), FLOAT.new_cache())
        assert not torch.equal(INT8.logits(hidden), FLOAT.logits(hidden))


@int8_units
def test_int8_of_the_embedded_model_predicts_as_float32_does(monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    for units in (True, False):
        monkeypatch.setattr(onnx_gemma, "multiplies_int8", lambda units=units: units)
        infiller = load_infiller("embedded", "cpu")
        text = infiller.prompt.encode(Path(onnx_gemma.__file__).read_text(encoding="utf-8"))[:400]
        with torch.inference_mode():
            hidden = infiller.model.prefill(torch.tensor([text]), infiller.model.new_cache())
            read.append(infiller.model.logits(hidden[0]).log_softmax(dim=-1))
    rounded, exact = read
    assert float((exact.exp() * (exact - rounded)).sum(dim=-1).mean()) < 0.005
    assert float((exact.argmax(dim=-1) == rounded.argmax(dim=-1)).float().mean()) > 0.95


@int8_units
@examples(20)
@given(rows=st.integers(1, 40), seed=st.integers(0, 99))
def test_an_int8_row_does_not_know_the_others(rows: int, seed: int) -> None:
    """So a text reads the same whether it comes as a whole or key by key."""
    hidden = torch.randn(rows, 32, generator=torch.Generator().manual_seed(seed)) * torch.logspace(-2, 2, rows)[:, None]
    whole = INT8.logits(hidden)
    for row in (0, rows // 2, rows - 1):
        assert torch.equal(INT8.logits(hidden[row : row + 1]), whole[row : row + 1])


@pytest.mark.parametrize("model", [FLOAT, pytest.param(INT8, marks=int8_units)])
def test_rows_of_zeros_are_read_as_zeros(model: OnnxGemma) -> None:
    assert torch.equal(model.logits(torch.zeros(2, 32)), torch.zeros(2, VOCAB))


def test_it_never_keeps_what_a_gradient_needs() -> None:
    made = OnnxGemma.of(random_model(config_json(VOCAB, **ONE_EXPERT)), int8=False)
    assert made.prefill(ids(1, 3, 0), made.new_cache()).shape == (1, 3, 32)


@examples(25)
@given(steps=st.lists(st.tuples(st.integers(0, 300), st.integers(1, 300)), min_size=1, max_size=6))
def test_a_fitted_cache_has_room_and_not_much_more(steps: list[tuple[int, int]]) -> None:
    cache = FLOAT.new_cache()
    for kept, more in steps:
        cache.truncate(min(kept, cache.length))
        before = [cache.read(layer, 0, cache.length)[0].clone() for layer in range(cache.layers)]
        cache.fit(cache.length + more, step=32, spare=32, most_spare=128)
        keys, values = cache.whole(0)
        assert cache.length + more <= keys.shape[2] == values.shape[2] <= cache.length + more + 128
        assert all(torch.equal(cache.read(layer, 0, cache.length)[0], old) for layer, old in enumerate(before))
        new = torch.full((1, 4, more, 16), float(more))
        for layer in range(cache.layers):
            cache.write(layer, new, new)
        cache.advance(more)
        assert bool(cache.whole(0)[0].isfinite().all())


def test_networks_that_no_graph_is_made_of_are_named() -> None:
    assert one_expert(ModelConfig.from_json(config_json(VOCAB, **ONE_EXPERT))) is None
    assert "expert" in str(one_expert(ModelConfig.from_json(config_json(VOCAB, **EQUAL_HEADS))))
    grouped = ONE_EXPERT | {"num_key_value_heads": 2}
    assert "heads" in str(one_expert(ModelConfig.from_json(config_json(VOCAB, **grouped))))


def test_the_embedded_model_runs_in_int8_where_the_cpu_does(monkeypatch: pytest.MonkeyPatch) -> None:
    for units in (True, False):
        monkeypatch.setattr(onnx_gemma, "multiplies_int8", lambda units=units: units)
        model = load_infiller("embedded", "cpu").model
        assert isinstance(model, OnnxGemma)
        assert model.int8 is units
        assert dict(chosen(model)) == {
            "network": f"onnxruntime, as {native.absent()}",
            "products": "int8" if units else "float32",
        }


def test_weights_that_were_never_rounded_keep_their_bits(tmp_path: Path) -> None:
    folder = tiny_checkpoint(tmp_path, **ONE_EXPERT)
    model = load_infiller(str(folder), "cpu").model
    assert isinstance(model, OnnxGemma)
    assert not model.int8


@pytest.mark.parametrize(("machine", "vnni", "expected"), [("arm64", False, True), ("x86_64", False, False)])
def test_int8_needs_one_instruction_for_four_products(
    machine: str, vnni: bool, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: vnni)
    assert multiplies_int8() is expected


def test_torch_leaves_the_cores_to_the_products() -> None:
    """A worker's own setting: other threads of this process keep theirs."""
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
