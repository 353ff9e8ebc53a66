"""Our network and loop against transformers, on the same random checkpoints from disk.

float32: logits agree within 1e-4, and every decision of the loop is the same. bfloat16: the difference of transformers
in bf16 from transformers in float32, on the same bf16 weights, is the effect of bf16 rounding on this network: the
budget. We round at the same places up to the order of sums, so our error against float32 must not exceed the budget by
more than a quarter (root mean square), and by the triangle inequality the two bf16 results are within twice the budget.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from midspan.engine.backends.bound import BoundCanvases
from midspan.engine.backends.plain import TorchCanvasBackend
from midspan.engine.cache import Cache
from midspan.engine.canvas import Canvas
from midspan.engine.model import DiffusionGemma
from tests.engine.oracle import (
    CANVAS,
    VOCAB,
    Recorded,
    denoise_logits,
    distance,
    new_cache,
    open_ours,
    open_theirs,
    outputs_of,
    prefill,
    save_checkpoint,
    tiny_sizes,
)

pytestmark = pytest.mark.parity
TOLERANCE = 1e-4
SLIDING, FULL = "sliding_attention", "full_attention"
SETTINGS: dict[str, dict[str, Any]] = {
    "grouped": {},
    "dense": {
        "num_key_value_heads": 4,
        "num_global_key_value_heads": 4,
        "global_head_dim": 8,
        "num_experts": 1,
        "top_k_experts": 1,
    },
    "wide": {
        "num_attention_heads": 6,
        "num_key_value_heads": 3,
        "num_global_key_value_heads": 2,
        "head_dim": 16,
        "global_head_dim": 32,
        "sliding_window": 16,
        "num_experts": 8,
        "top_k_experts": 4,
    },
    "full-first": {
        "num_global_key_value_heads": None,
        "layer_types": [FULL, SLIDING, FULL],
        "num_experts": 3,
        "top_k_experts": 3,
        "final_logit_softcapping": 5.0,
        "rope_parameters": {
            SLIDING: {"rope_type": "default", "rope_theta": 500.0},
            FULL: {"rope_type": "proportional", "partial_rotary_factor": 0.5, "rope_theta": 90_000.0},
        },
    },
    "release-like": {
        "num_hidden_layers": 6,
        "layer_types": [SLIDING] * 5 + [FULL],
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "num_global_key_value_heads": 2,
        "num_experts": 16,
        "top_k_experts": 8,
        "hidden_size": 48,
    },
}
# Shorter than either window, at its edges, and longer than both.
CONTEXTS = (3, 7, 8, 9, 16, 41)


class Pair:
    """One checkpoint in both implementations."""

    def __init__(self, folder: Path, dtype: torch.dtype = torch.float32) -> None:
        self.ours: DiffusionGemma = open_ours(folder, dtype)
        self.theirs: Recorded = open_theirs(folder, dtype)

    def caches(self, length: int, seed: int = 0) -> tuple[Cache, Any]:
        """Both encoders' caches after the same random text."""
        ids, ours, theirs = (
            some_ids(1, length, seed),
            TorchCanvasBackend(self.ours).new_cache(4),
            new_cache(self.theirs),
        )
        TorchCanvasBackend(self.ours).prefill(ids, ours)
        prefill(self.theirs, ids, theirs)
        return ours, theirs


@pytest.fixture(scope="module", params=SETTINGS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp(request.param), seed=1, **SETTINGS[request.param])


@pytest.fixture(scope="module")
def pair(folder: Path) -> Pair:
    return Pair(folder)


@pytest.fixture(autouse=True)
def tiny() -> Iterator[None]:
    with tiny_sizes():
        yield


def some_ids(batch: int, length: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, VOCAB, (batch, length), generator=torch.Generator().manual_seed(1000 + seed))


def deviation(left: torch.Tensor, right: torch.Tensor) -> float:
    return float((left.float() - right.float()).square().mean().sqrt())


@pytest.mark.parametrize("length", CONTEXTS)
def test_the_encoder_s_layers_agree_with_transformers(pair: Pair, length: int) -> None:
    ids = some_ids(1, length)
    with outputs_of(pair.ours.layers) as mine:
        hidden = TorchCanvasBackend(pair.ours).prefill(ids, TorchCanvasBackend(pair.ours).new_cache())
    with outputs_of(pair.theirs.model.encoder.language_model.layers) as other:
        expected = prefill(pair.theirs, ids, new_cache(pair.theirs))
    assert len(mine) == len(pair.ours.config.layers)
    for left, right in zip(mine, other, strict=True):
        assert distance(left, right) <= TOLERANCE
    assert distance(hidden, expected) <= TOLERANCE


@pytest.mark.parametrize("length", CONTEXTS)
def test_the_cache_holds_transformers_keys_and_values(pair: Pair, length: int) -> None:
    ours, theirs = pair.caches(length)
    assert ours.length == theirs.get_seq_length() == length
    for index, layer in enumerate(theirs.layers):
        kept = layer.keys.shape[2]
        keys, values = ours.read(index, length - kept, length)
        assert distance(keys, layer.keys) <= TOLERANCE
        assert distance(values, layer.values) <= TOLERANCE


def test_a_prefill_in_chunks_equals_one_prefill(pair: Pair) -> None:
    ids = some_ids(1, 41)
    ours, theirs = TorchCanvasBackend(pair.ours).new_cache(), new_cache(pair.theirs)
    expected = prefill(pair.theirs, ids, theirs)
    chunks = [TorchCanvasBackend(pair.ours).prefill(chunk, ours) for chunk in ids.split((5, 20, 1, 15), dim=1)]
    assert distance(torch.cat(chunks, dim=1), expected) <= TOLERANCE


@pytest.mark.parametrize("length", CONTEXTS)
def test_denoise_logits_with_and_without_self_conditioning(pair: Pair, length: int) -> None:
    ours, theirs = pair.caches(length)
    canvas = some_ids(2, CANVAS, 7)
    theirs.batch_repeat_interleave(2)
    first = pair.ours.logits(TorchCanvasBackend(pair.ours).denoise(canvas, ours))
    assert distance(first, denoise_logits(pair.theirs, canvas, theirs)) <= TOLERANCE
    conditioning = first / 0.6
    free = torch.ones_like(canvas, dtype=torch.bool)
    network = BoundCanvases(TorchCanvasBackend(pair.ours), ours, Canvas(ids=canvas, free=free))
    second = network.logits(canvas, network.soft(conditioning), free)
    expected = denoise_logits(pair.theirs, canvas, theirs, conditioning)
    assert distance(second.view_as(expected), expected) <= TOLERANCE
    assert distance(first, expected) > 0.1, "self-conditioning must matter for this comparison to mean anything"


@pytest.mark.parametrize("length", CONTEXTS)
def test_scoring_a_canvas_gives_its_encoding_and_leaves_the_cache_unchanged(pair: Pair, length: int) -> None:
    ours, theirs = pair.caches(length)
    canvas = some_ids(1, CANVAS, 3)
    scored, rows = TorchCanvasBackend(pair.ours).score(canvas.expand(2, -1).tolist(), ours)
    expected = prefill(pair.theirs, canvas, theirs)
    assert distance(scored[rows].view(2, CANVAS, -1), expected.expand(2, -1, -1)) <= TOLERANCE
    assert ours.length == length
    assert distance(TorchCanvasBackend(pair.ours).prefill(canvas, ours), expected) <= TOLERANCE


def test_padding_does_not_change_a_canvas(pair: Pair) -> None:
    ours, theirs = pair.caches(9)
    short = some_ids(1, 8, 5)
    padded = torch.cat((short, some_ids(1, CANVAS - 8, 6)), dim=1)
    valid = torch.arange(CANVAS)[None] < 8
    hidden = TorchCanvasBackend(pair.ours).denoise(padded, ours, None, valid)[:, :8]
    assert distance(pair.ours.logits(hidden), denoise_logits(pair.theirs, short, theirs)) <= TOLERANCE


@pytest.fixture(scope="module")
def rounded(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Pair, Pair]:
    """The checkpoint in bf16, and the same bf16 numbers in float32 computation."""
    half = tmp_path_factory.mktemp("bf16")
    narrow = open_theirs(folder, torch.bfloat16)
    narrow.save_pretrained(half)
    return Pair(half, torch.bfloat16), Pair(half, torch.float32)


@pytest.mark.parametrize("length", [7, 41])
def test_bf16_logits_are_as_near_to_float32_as_those_of_transformers(rounded: tuple[Pair, Pair], length: int) -> None:
    narrow, wide = rounded
    canvas = some_ids(4, CANVAS, 2)
    (mine, other), (_, truth) = narrow.caches(length), wide.caches(length)
    for cache in (other, truth):
        cache.batch_repeat_interleave(4)
    ours = narrow.ours.logits(TorchCanvasBackend(narrow.ours).denoise(canvas, mine))
    theirs = denoise_logits(narrow.theirs, canvas, other)
    exact = denoise_logits(wide.theirs, canvas, truth)
    budget = deviation(theirs, exact)
    assert 0 < budget < 0.5 * deviation(exact, torch.zeros(()))
    assert deviation(ours, exact) <= 1.25 * budget
    assert deviation(ours, theirs) <= 2 * budget


def test_every_bf16_layer_alone_is_as_near_to_float32_as_that_of_transformers(rounded: tuple[Pair, Pair]) -> None:
    """Each layer gets transformers' input, because one other choice of experts dominates all later layers."""
    narrow, wide = rounded
    ids = some_ids(1, 41)
    with outputs_of(narrow.theirs.model.encoder.language_model.layers) as theirs:
        prefill(narrow.theirs, ids, new_cache(narrow.theirs))
    inputs = [narrow.ours.embed(ids), *theirs[:-1]]
    for index, (x, expected) in enumerate(zip(inputs, theirs, strict=True)):
        exact = one_layer(wide.ours, index, x.float())
        assert deviation(one_layer(narrow.ours, index, x), exact) <= 1.25 * deviation(expected, exact)


def one_layer(model: DiffusionGemma, index: int, x: torch.Tensor) -> torch.Tensor:
    """Encoder layer `index` on hidden rows x [1, N, d]."""
    layer, shape = model.layers[index], model.config.layers[index]
    rope = model.rope(shape, torch.arange(x.shape[1])[None])
    out: torch.Tensor = layer(x, rope, layer.encoder_layer_scalar, index, TorchCanvasBackend(model)._causal)
    return out
