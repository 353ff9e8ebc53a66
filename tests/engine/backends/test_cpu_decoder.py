"""The CPU's own kernels read a llama-family text as plain torch does where that rounds to int8 as they do."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from midspan.engine.api import DeviceError
from midspan.engine.backends.backend import Interrupted
from midspan.engine.backends.choose import choose_causal
from midspan.engine.backends.cpu_calls import product_threads
from midspan.engine.backends.cpu_decoder import CpuDecoder
from midspan.engine.backends.cpu_decoder_weights import unfit_decoder
from midspan.engine.backends.plain import TorchBackend
from midspan.engine.llama import Llama, LlamaConfig
from midspan.engine.weights.load_llama import Matrix, Weights, parameter_shapes, plain
from midspan.kernels import native
from midspan.kernels.int8 import STEPS, int8_rows
from midspan.kernels.nibbles import GROUP, Nibbles
from tests.engine.llama_tiny import config
from tests.engine.reads import VOCAB, Read, branches, ids, texts
from tests.examples import examples

SIZES = {"hidden_size": 128, "intermediate_size": 160, "num_attention_heads": 4, "head_dim": 32, "vocab_size": VOCAB}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "llama-biased-untied": {"attention_bias": True, "tie_word_embeddings": False},
    "qwen2": {"model_type": "qwen2", "num_key_value_heads": 1, "intermediate_size": 96, "num_attention_heads": 2},
    "qwen3": {"model_type": "qwen3", "num_key_value_heads": 4},
    "llama-int4": {},
    "qwen2-int4-but-values": {"model_type": "qwen2", "num_key_value_heads": 1, "intermediate_size": 96},
}
LIBRARIES = [found for build in native.fitting() if (found := native.opened(build)) is not None]
pytestmark = pytest.mark.skipif(not LIBRARIES, reason="no build of the kernels is for this CPU")
each = pytest.mark.parametrize(
    ("family", "library"),
    [(family, library) for family in FAMILIES for library in LIBRARIES],
    ids=[f"{family}-{library.name}" for family in FAMILIES for library in LIBRARIES],
)


def rounded(rows: torch.Tensor) -> torch.Tensor:
    """Each group of a row's numbers over its largest one, in STEPS steps."""
    groups = rows.unflatten(-1, (-1, GROUP))
    top = groups.abs().amax(dim=-1, keepdim=True).clamp(min=1e-30)
    out: torch.Tensor = (torch.round(groups / top * STEPS) * (top / STEPS)).flatten(-2)
    return out


def in_int8(weight: torch.Tensor) -> torch.Tensor:
    values, scale = int8_rows(weight)
    return values * scale[:, None]


class Rounded(Llama):
    """The network with its weights in int8 and every product's rows too."""

    def __init__(self, found: LlamaConfig) -> None:
        super().__init__(found)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                module.register_forward_pre_hook(lambda _, given: (rounded(given[0]),))

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """See Llama."""
        return nn.functional.linear(rounded(self.model.norm(hidden)), self.head)


def in_four_bits(weight: torch.Tensor) -> Nibbles:
    """Groups from their least number to their greatest; scales and offsets that bfloat16 has."""
    groups = weight.detach().unflatten(-1, (-1, GROUP))
    least, most = groups.amin(dim=-1), groups.amax(dim=-1)
    scale, offset = ((most - least) / 15).bfloat16().float(), least.bfloat16().float()
    codes = ((groups - offset[..., None]) / scale[..., None]).round().clamp(0, 15)
    return Nibbles(codes.to(torch.uint8).flatten(-2), scale, offset)


class Made(NamedTuple):
    """A network's sizes, its tensors as they are read, and the network of their numbers, with rows in int8."""

    config: LlamaConfig
    tensors: list[tuple[str, Matrix]]
    exact: Rounded


@cache
def networks(family: str, layers: int) -> Made:
    """A random network; float64 leaves the kernels' own roundings alone."""
    torch.manual_seed(3)
    found = LlamaConfig.from_json(config(**{**SIZES, **FAMILIES[family], "num_hidden_layers": layers}))
    exact, tensors = Rounded(found), list[tuple[str, Matrix]]()
    with torch.no_grad():
        for name, parameter in exact.named_parameters():
            centre = 1.0 if name.endswith("norm.weight") else 0.0
            nn.init.normal_(parameter, mean=centre, std=0.3 if centre else 0.12)
            four = "int4" in family and name.endswith("proj.weight") and not ("values" in family and ".v_" in name)
            matrix = in_four_bits(parameter) if four else parameter.detach().clone()
            tensors.append((name, matrix))
            # What stands in one product with int8 becomes int8.
            joined = four and not ("values" in family and (".q_" in name or ".k_" in name))
            parameter.copy_(plain(matrix) if joined or parameter.ndim == 1 else in_int8(plain(matrix)))
    return Made(found, tensors, exact.double().eval())


@cache
def decoder(family: str, number: int, layers: int) -> CpuDecoder:
    made = networks(family, layers)
    return CpuDecoder(made.config, made.tensors, LIBRARIES[number])


def made(family: str, library: native.Library, layers: int = 2) -> CpuDecoder:
    return decoder(family, LIBRARIES.index(library), layers)


def far(mine: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
    """How far each row is from what it should be, of its own length."""
    apart: torch.Tensor = mine.double() - theirs.double()
    out: torch.Tensor = apart.norm(dim=-1) / theirs.double().norm(dim=-1)
    return out


@each
@pytest.mark.parametrize("read", [texts, branches])
@pytest.mark.parametrize("layers", [1, 4])
def test_it_is_the_same_network(family: str, library: native.Library, read: Read, layers: int) -> None:
    """Hidden rows are compared by their logits: the kernels' are behind the last norm, torch's before it.

    Where a number lies at half a step the two may round apart, by one of 127 steps. In one layer few do, which the
    median does not see. A layer reads what the one before it rounded, in five products, so that in each the worst row
    has hardly more than three such steps in all.
    """
    mine, theirs = made(family, library, layers), TorchBackend(networks(family, layers).exact)
    with torch.inference_mode():
        for hidden, exact in zip(read(mine), read(theirs), strict=True):  # type: ignore[arg-type]
            is_logits = hidden.shape[-1] == VOCAB
            logits, expected = (hidden, exact) if is_logits else (mine.logits(hidden), theirs.logits(exact))
            assert logits.shape == expected.shape
            apart = far(logits, expected).flatten()
            # Sums of at most 200 float32 products, whose roundings exponentials make relative.
            assert layers > 1 or apart.median() < 4 * 200 * torch.finfo(torch.float32).eps
            assert apart.max() < 3 * layers / STEPS


@each
@examples(20)
@given(cuts=st.lists(st.integers(1, 40), min_size=1, max_size=5), last=st.integers(1, 50), seed=st.integers(0, 99))
def test_a_text_reads_the_same_in_pieces_and_for_its_last_rows(
    family: str, library: native.Library, cuts: list[int], last: int, seed: int
) -> None:
    """To the bit, so that what is typed key by key gives the fills of what is opened."""
    model, text = made(family, library), ids(1, sum(cuts), seed)
    with torch.inference_mode():
        whole, pieces, cache = model.prefill(text, model.new_cache(4)), [], model.new_cache(4)
        for piece in text.split(cuts, dim=1):
            pieces.append(model.prefill(piece, cache))
        other = model.new_cache(4)
        assert torch.equal(torch.cat(pieces, dim=1), whole)
        assert torch.equal(model.prefill(text, other, last), whole[:, -last:])
        assert torch.equal(model.prefill(text[:, :3], other), model.prefill(text[:, :3], cache))


@each
@examples(10)
@given(rows=st.integers(1, 70), threads=st.integers(2, 4), seed=st.integers(0, 99))
def test_threads_change_nothing(family: str, library: native.Library, rows: int, threads: int, seed: int) -> None:
    model = made(family, library)
    found = []
    with torch.inference_mode():
        for count in (1, threads):
            model._weights.decoder.threads = model.network.threads = count
            hidden = model.prefill(ids(1, rows, seed), model.new_cache())
            found.append((hidden, model.logits(hidden)))
    model._weights.decoder.threads = model.network.threads = product_threads()
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


@each
def test_a_pass_ends_between_layers_where_nobody_waits_for_it(
    family: str, library: native.Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The text is then read as if nothing had been; a large pass asks once a layer, a small one never."""
    model, text, asked = made(family, library, 4), ids(1, 21, 3), list[int]()

    def stop() -> bool:
        asked.append(1)
        return len(asked) == 3

    with torch.inference_mode():
        whole, cache = model.prefill(text, model.new_cache()), model.new_cache()
        model.watch(stop)
        model.prefill(text[:, :5], cache)
        assert asked == []
        monkeypatch.setattr("midspan.engine.backends.cpu_decoder.PRODUCTS", 1)
        with pytest.raises(Interrupted):
            model.prefill(text[:, 5:], cache)
        assert (len(asked), cache.length) == (3, 5)
        assert torch.equal(model.prefill(text[:, 5:], cache), whole[:, 5:])
        assert len(asked) == 6
    model.watch(lambda: False)


@each
def test_every_key_counts(family: str, library: native.Library) -> None:
    model, text = made(family, library), ids(1, 21, 3)
    with torch.inference_mode():
        whole = model.prefill(text, model.new_cache())[0, -1]
        for place in range(21):
            other = text.clone()
            other[0, place] = 5 if text[0, place] != 5 else 6
            assert not torch.equal(model.prefill(other, model.new_cache())[0, -1], whole)


@each
def test_ids_that_are_none_are_refused(family: str, library: native.Library) -> None:
    model = made(family, library)
    for wrong in (-1, VOCAB, 10**9):
        with pytest.raises(ValueError, match=f"token id {wrong} is not one of {VOCAB}"):
            model.prefill(torch.tensor([[1, wrong]]), model.new_cache())


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"hidden_size": 100}, "hidden_size is 100, no multiple of 64"),
        ({"vocab_size": 65}, "vocab_size is 65, no multiple of 64"),
        ({"intermediate_size": 150}, "intermediate_size is 150, no multiple of 32"),
        ({"num_key_value_heads": 1, "head_dim": 24}, "queries, keys and values together is 144, no multiple of 64"),
        ({"num_key_value_heads": 2, "head_dim": 16}, "head_dim is 16, no multiple of 32"),
        ({}, None),
    ],
)
def test_sizes_that_fill_no_registers_are_named(changes: dict[str, int], why: str | None) -> None:
    found = LlamaConfig.from_json(config(**{**SIZES, **changes}))
    assert unfit_decoder(found, 16) == why


def test_what_a_load_no_longer_needs_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once all is packed."""
    made, left, returned = networks("llama", 1), list[str](), list[int]()

    def tensors() -> Iterator[tuple[str, Matrix]]:
        yield from made.tensors
        left.append("read")

    monkeypatch.setattr("midspan.engine.backends.choose.return_free_memory", lambda: returned.append(len(left)))
    choose_causal(made.config, Weights(parameter_shapes(made.config), tensors()), torch.device("cpu"))
    assert returned == [1]


def test_the_choice_is_said() -> None:
    def said(family: str) -> dict[str, str]:
        made = networks(family, 1)
        weights = Weights(parameter_shapes(made.config), made.tensors)
        return dict(choose_causal(made.config, weights, torch.device("cpu")).describe().kernels)

    native_network = {"network": f"native, {LIBRARIES[0].name}"}
    assert said("llama") == {**native_network, "products": "int8"}
    # The vocabulary's product is in int8 in any case.
    assert said("llama-int4") == {**native_network, "products": "int4 and int8"}


@pytest.mark.parametrize("fits", [True, False])
def test_a_network_that_memory_does_not_hold_is_refused_before_it_is_read(
    fits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a byte a number over the kernels, and by what numbers take in plain torch."""
    made = networks("llama", 1)
    shapes = parameter_shapes(made.config)
    count = sum(torch.Size(shape).numel() for shape in shapes.values())
    if not fits:
        monkeypatch.setattr("midspan.engine.backends.choose.unfit_decoder", lambda config, lanes: "it is odd")
    there = {"SC_PAGE_SIZE": 1, "SC_PHYS_PAGES": count - 1 if fits else 2 * count - 1}
    monkeypatch.setattr(os, "sysconf", there.__getitem__)
    weights = Weights(shapes, (pytest.fail("a tensor was read") for _ in range(1)))
    with pytest.raises(DeviceError, match="the weights need"):
        choose_causal(made.config, weights, torch.device("cpu"))


def test_a_network_that_the_kernels_do_not_fit_is_read_in_plain_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the fastest dtype, from four bits too, and the reason is said."""
    made = networks("llama-int4", 1)
    monkeypatch.setattr("midspan.engine.backends.choose.unfit_decoder", lambda config, lanes: "vocab_size is odd")
    monkeypatch.setattr("midspan.engine.backends.choose.fastest_dtype", lambda place: torch.float32)
    backend = choose_causal(made.config, Weights(parameter_shapes(made.config), made.tensors), torch.device("cpu"))
    assert isinstance(backend, TorchBackend)
    assert dict(backend.describe().kernels) == {"network": "torch, as vocab_size is odd"}
    numbers = dict(backend._causal_model.named_parameters())  # type: ignore[attr-defined]
    assert all(torch.equal(numbers[name], plain(matrix)) for name, matrix in made.tensors)
