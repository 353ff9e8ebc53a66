"""Weights of the llama family: errors of fewer bits are bounded, and wrong files are refused at load with one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from midspan.engine.api import Budget, CheckpointError, Hole
from midspan.engine.engine import load_path
from midspan.engine.hypotheses.task import PATIENT
from midspan.engine.llama import Llama, LlamaConfig
from midspan.engine.weights.load import read_config
from midspan.engine.weights.load_llama import Bits, read_llama, save_llama
from midspan.engine.weights.safetensors import weight_files
from tests.engine.llama_tiny import marked_checkpoint

HOLE = Hole(prefix="def total(items):\n    resu", suffix="\n    return result\n")
UP = "model.layers.1.mlp.up_proj.weight"
Tensors = dict[str, torch.Tensor]


def open_network(folder: Path) -> Llama:
    config = LlamaConfig.from_json(read_config(folder))
    return read_llama(folder, config).network(config, torch.float32, torch.device("cpu"))


def with_bits(folder: Path, bits: Bits) -> Path:
    """Write the folder's weights again in `bits` bits."""
    network = open_network(folder)
    (folder / "model.safetensors").unlink()
    save_llama(network, folder, bits)
    return folder


def refusal(folder: Path) -> str | None:
    """The line with which a folder is refused; None if a gap is filled."""
    try:
        path = load_path(str(folder), "cpu")
    except CheckpointError as error:
        return str(error)
    path.infill(HOLE, Budget(), PATIENT)
    return None


# Bounds of half a step. Rows have 32 or 48 numbers, int4 has groups of 32 or 16 of them; the largest number is 127
# steps in int8, 7 in int4. bf16 keeps 8 bits of a number, and of int4's scales. These scales are chosen for the least
# squared error, so that a single error may be larger: the bound is for a row's root mean square.
@pytest.mark.parametrize(("bits", "step"), [(16, 2**-8), (8, 0.5 / 127), (4, 0.5 / 7 + 2**-8)])
def test_errors_of_fewer_bits_are_at_most_half_a_step(tmp_path: Path, bits: Bits, step: float) -> None:
    exact = dict(open_network(marked_checkpoint(tmp_path)).named_parameters())
    found = dict(open_network(with_bits(tmp_path, bits)).named_parameters())
    assert exact.keys() == found.keys()
    for name, tensor in exact.items():
        if tensor.ndim > 1:
            largest, error = tensor.detach().abs().amax(dim=-1), (found[name] - tensor).square().mean(dim=-1).sqrt()
            assert bool((error <= step * largest + 1e-6).all()), name
    kinds = {tensor.dtype for file in weight_files(tmp_path) for tensor in load_file(file).values()}
    assert {torch.uint8 in kinds, torch.int8 in kinds} == {16: {False}, 8: {True, False}, 4: {True}}[bits]
    assert refusal(tmp_path) is None


def put(name: str, value: torch.Tensor | None) -> Callable[[Tensors], None]:
    def change(tensors: Tensors) -> None:
        tensors.pop(name)
        if value is not None:
            tensors[name] = value

    return change


def spoil(name: str, number: float) -> Callable[[Tensors], None]:
    def change(tensors: Tensors) -> None:
        tensors[name][0] = number

    return change


WRONG: dict[str, tuple[Bits, Callable[[Tensors], None], str]] = {
    "missing": (16, put(UP, None), f"tensor {UP} missing"),
    "another shape": (16, put(UP, torch.ones(48, 31)), f"{UP} has shape [48, 31], config.json says [48, 32]"),
    "whole numbers": (16, put(UP, torch.ones(48, 32, dtype=torch.int64)), f"{UP} is stored as I64"),
    "no numbers": (16, spoil(UP, torch.nan), f"{UP} has numbers that are not finite"),
    "all zeros": (16, put(UP, torch.zeros(48, 32)), f"{UP} is all zeros"),
    "int8 without a scale": (8, put(UP + "_scale", None), f"int8 needs {UP}_scale beside it"),
    "another scale": (8, put(UP + "_scale", torch.ones(47)), f"{UP}_scale has shape [47], not [48]"),
    "infinite scales": (8, spoil(UP + "_scale", torch.inf), f"{UP}_scale has numbers that are not finite"),
    "int4 without a scale": (4, put(UP + "_scale", None), f"{UP} is stored as U8"),
    "int4's scales by row": (4, put(UP + "_scale", torch.ones(48)), f"{UP}_scale has shape [48], not [48, 1]"),
    "int4's scales in int8": (4, put(UP + "_scale", torch.ones(48, 1, dtype=torch.int8)), "_scale is I8, not F32"),
    "int4 of another width": (4, put(UP, torch.ones(48, 15, dtype=torch.uint8)), f"{UP} has shape [48, 15]"),
    "a packed norm": (
        4,
        lambda tensors: tensors.update(
            {"model.norm.weight": torch.ones(16, dtype=torch.uint8), "model.norm.weight_scale": torch.ones(1)}
        ),
        "model.norm.weight is packed, which [32] cannot be",
    ),
    "one more": (16, lambda tensors: tensors.update(extra=torch.ones(2)), "unexpected tensor extra"),
}


@pytest.mark.parametrize("name", WRONG)
def test_weights_that_do_not_fit_are_named_in_one_line(tmp_path: Path, name: str) -> None:
    bits, change, said = WRONG[name]
    file = with_bits(marked_checkpoint(tmp_path), bits) / "model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)
    found = refusal(tmp_path)
    assert found is not None
    assert said in found
    assert found.isprintable()


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("vocab_size", 1 << 40, "vocab_size is 1099511627776; give a whole number from 8 to"),
        ("vocab_size", 300, "300"),
        ("hidden_size", 1 << 16, "config.json says"),
        ("num_hidden_layers", 512, "missing; copy the whole checkpoint again"),
        ("num_hidden_layers", 3, "unexpected tensor model.layers.3."),
        ("rope_theta", "a", 'rope_theta is "a"; give a number from 1 to'),
        ("rms_norm_eps", 0, "rms_norm_eps is 0; give a number from 1e-12 to 1"),
        ("tie_word_embeddings", False, "tensor lm_head.weight missing"),
        ("max_position_embeddings", 64, "layout may take 696 tokens, the network has 64 positions"),
        ("model_type", "qwen3", "missing; copy the whole checkpoint again"),
    ],
)
def test_a_config_that_does_not_fit_is_named_in_one_line(tmp_path: Path, key: str, value: Any, said: str) -> None:
    file = marked_checkpoint(tmp_path) / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}))
    found = refusal(tmp_path)
    assert found is not None
    assert said in found
    assert found.isprintable()


@pytest.mark.parametrize("damage", ["truncated", "empty", "pickled"])
def test_a_damaged_file_is_named_in_one_line(tmp_path: Path, damage: str) -> None:
    file = marked_checkpoint(tmp_path) / "model.safetensors"
    whole = file.read_bytes()
    if damage == "pickled":
        file.rename(tmp_path / "pytorch_model.bin")
    else:
        file.write_bytes(whole[: len(whole) // 2] if damage == "truncated" else b"")
    found = refusal(tmp_path)
    assert found is not None
    assert {"pickled": "a pickle is never loaded"}.get(damage, "truncated or not safetensors") in found
    assert found.isprintable()


def test_weights_that_compute_nothing_are_refused(tmp_path: Path) -> None:
    file = marked_checkpoint(tmp_path) / "model.safetensors"
    tensors = load_file(file)
    # Each tensor by itself looks like weights.
    tensors["model.norm.weight"] = torch.zeros(32)
    save_file(tensors, file)
    found = refusal(tmp_path)
    assert found is not None
    assert "compute no finite logits that differ" in found


def test_a_stored_copy_of_the_tied_head_is_ignored(tmp_path: Path) -> None:
    file = marked_checkpoint(tmp_path) / "model.safetensors"
    tensors = load_file(file)
    save_file(tensors | {"lm_head.weight": torch.ones(2)}, file)
    assert refusal(tmp_path) is None
