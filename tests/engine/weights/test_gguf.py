"""GGUF files: numbers as in gguf's own reader, fills as from the folder, hostile files refused with one line."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Form
from gguf.quants import dequantize, quantize
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from midspan.engine.api import Budget, CheckpointError, Hole
from midspan.engine.engine import load_path
from midspan.engine.hypotheses.task import PATIENT
from midspan.engine.weights.gguf_blocks import numbers
from midspan.engine.weights.gguf_file import GgufFile
from midspan.engine.weights.gguf_header import OTHERS, SIZES, TYPES
from midspan.engine.weights.load import read_config
from midspan.engine.weights.load_gguf import NAMES, gguf_config, read_gguf
from midspan.engine.weights.load_llama import open_llama
from tests.engine.llama_tiny import SETTINGS, SPECIAL, marked_checkpoint
from tests.examples import examples

HOLE = Hole(prefix="def total(items):\n    resu", suffix="\n    return result\n")
GGUF_NAMES = {ours: theirs for theirs, ours in NAMES.items()}
HALVES = {"Q4_0": (0,), "Q4_1": (0, 2), "Q5_0": (0,), "Q8_0": (0,), "Q4_K": (0, 2), "Q6_K": (208,)}


def gguf_name(name: str) -> str:
    """A parameter's name in a GGUF file."""
    stem, _, kind = name.rpartition(".")
    if not stem.startswith("model.layers."):
        return f"{GGUF_NAMES[stem]}.{kind}"
    _, _, layer, rest = stem.split(".", 3)
    return f"blk.{layer}.{GGUF_NAMES[rest]}.{kind}"


def write_gguf(folder: Path, form: str = "F32", **changes: Any) -> Path:
    """Write a tiny folder's network and tokenizer as llama.cpp's converter does, with matrices in `form`."""
    config, file = read_config(marked_checkpoint(folder, **changes)), folder / "tiny.gguf"
    family, writer = config["model_type"], gguf.GGUFWriter(file, config["model_type"])
    head = config["head_dim"]
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(head)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_context_length(2048)
    add_tokenizer(writer, folder)
    for name, parameter in open_llama(folder).named_parameters():
        values = parameter.detach().numpy()
        if family == "llama" and name.split(".")[-2] in ("q_proj", "k_proj"):
            # llama.cpp's `permute`: the two halves of a head become pairs.
            values = values.reshape(-1, 2, head // 2, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)
        if values.ndim > 1 and form != "F32":
            writer.add_tensor(gguf_name(name), quantize(values, Form[form]), raw_dtype=Form[form])
        else:
            writer.add_tensor(gguf_name(name), np.ascontiguousarray(values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    (folder / "tiny.gguf.midspan.json").write_text(json.dumps(SETTINGS))
    return file


def add_tokenizer(writer: Any, folder: Path) -> None:
    found = json.loads((folder / "tokenizer.json").read_text())
    tokens = sorted(found["model"]["vocab"], key=found["model"]["vocab"].__getitem__)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in SPECIAL else 1 for token in tokens])
    writer.add_token_merges([" ".join(pair) for pair in found["model"]["merges"]])


@pytest.mark.parametrize("number", TYPES, ids=TYPES.values())
def test_numbers_agree_with_gguf_s_reader(number: int) -> None:
    name, form, chance = TYPES[number], Form(number), np.random.default_rng(number)
    assert (form.name, gguf.GGML_QUANT_SIZES[form]) == (name, SIZES[name])
    if name in HALVES:
        data = chance.integers(0, 256, size=(32, SIZES[name][1]), dtype=np.uint8)
        for at in HALVES[name]:
            data[:, at : at + 2] = chance.normal(size=(32, 1)).astype(np.float16).view(np.uint8)
    else:
        data = np.ascontiguousarray(quantize(chance.normal(size=(32, 8)).astype(np.float32), form)).view(np.uint8)
    found = numbers(torch.from_numpy(data.reshape(-1).copy()), name).numpy()
    stored = data.view(np.float32) if name == "F32" else data
    np.testing.assert_array_equal(found, np.asarray(dequantize(stored.reshape(1, -1), form)).reshape(-1))


def test_forms_that_are_not_read_have_gguf_s_names() -> None:
    assert {number: Form(number).name for number in OTHERS} == OTHERS


@pytest.mark.parametrize(
    "changes",
    [{}, {"model_type": "qwen2", "tie_word_embeddings": False}, {"model_type": "qwen3", "head_dim": 16}],
    ids=["llama", "qwen2", "qwen3"],
)
def test_a_file_fills_as_its_folder_does(tmp_path: Path, changes: dict[str, Any]) -> None:
    file = write_gguf(tmp_path, **changes)
    fills = []
    for checkpoint in (file, tmp_path):
        path = load_path(str(checkpoint), "cpu")
        out = path.infill(HOLE, Budget(candidates=3), PATIENT)
        fills.append([(one.ids, one.log_probability) for one in out.ranked])
    assert fills[0] == fills[1]
    assert len(fills[0]) >= 3


@pytest.mark.parametrize("form", ["F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0"])
def test_weights_agree_with_gguf_s_quantisation(tmp_path: Path, form: str) -> None:
    # With this size rows are whole blocks.
    file = write_gguf(tmp_path, form, intermediate_size=64)
    found = GgufFile(file)
    config = gguf_config(found)
    network = read_gguf(found, config).network(config, torch.float32, torch.device("cpu"))
    for name, exact in open_llama(tmp_path).named_parameters():
        values = exact.detach().numpy()
        expected = dequantize(quantize(values, Form[form]), Form[form]) if values.ndim > 1 else values
        np.testing.assert_array_equal(network.get_parameter(name).detach().numpy(), expected)


def refusal(file: Path) -> str | None:
    """The line with which a file is refused; None if a gap is filled."""
    try:
        path = load_path(str(file), "cpu")
    except CheckpointError as error:
        said = str(error)
        return said if said.isprintable() else None
    path.infill(HOLE, Budget(), PATIENT)
    return None


@pytest.mark.timeout(60)
def test_a_pipe_is_refused_without_waiting_for_its_other_end(tmp_path: Path) -> None:
    file = tmp_path / "pipe.gguf"
    os.mkfifo(file)
    assert refusal(file) == f"{file}: is no file; give a GGUF file"


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def header(tensors: int, keys: int, rest: bytes = b"", version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, keys) + rest


def tensor(name: str, shape: tuple[int, ...], form: int = 0, begin: int = 0) -> bytes:
    axes = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
    return text(name) + axes + struct.pack("<IQ", form, begin)


HOSTILE = {
    "nothing": (b"", "cannot be mapped"),
    "something else": (b"PK\x03\x04" * 9, "does not begin with GGUF"),
    "an old version": (header(0, 0, version=1), "does not begin with GGUF and version 2 or 3"),
    "a million tensors": (header(1 << 40, 0), "says that it has 1099511627776 tensors"),
    "a million keys": (header(0, 1 << 60), "says that it has 1152921504606846976 keys"),
    "a text of 4 GB": (header(0, 1, struct.pack("<Q", 1 << 32) + b"a"), "4294967296 bytes should follow"),
    "a long name": (header(0, 1, text("a" * 999)), "a name has 999 characters"),
    "no such type": (header(0, 1, text("a") + struct.pack("<I", 77)), "a key is of type 77"),
    "a long list": (
        header(0, 1, text("a") + struct.pack("<IIQ", 9, 4, 1 << 50)),
        "a list says that it has 1125899906842624 items",
    ),
    "a list of lists": (header(0, 1, text("a") + struct.pack("<IIQ", 9, 9, 1) * 99), "a list is of type 9"),
    "a key twice": (header(0, 2, (text("a") + struct.pack("<IB", 0, 1)) * 2), '"a" is there twice'),
    "an odd alignment": (
        header(0, 1, text("general.alignment") + struct.pack("<II", 4, 3)),
        "general.alignment is 3",
    ),
    "no axes": (header(1, 0, tensor("a", ())), "has 0 axes"),
    "a huge shape": (header(1, 0, tensor("a", (1 << 40, 1 << 40))), "has shape [1099511627776, 1099511627776]"),
    "an empty shape": (header(1, 0, tensor("a", (0, 4)) + bytes(99)), "has shape [4, 0]"),
    "half a block": (header(1, 0, tensor("a", (33,), 8) + bytes(99)), "has shape [33]"),
    "a form that is not read": (header(1, 0, tensor("a", (256,), 10)), "is Q2_K; F32, F16, Q4_0, Q4_1"),
    "no such form": (header(1, 0, tensor("a", (4,), 999)), "is of an unknown type"),
    "beyond the end": (header(1, 0, tensor("a", (16,), begin=64) + bytes(99)), "ends behind the file"),
    "one over another": (
        header(2, 0, tensor("a", (16,)) + tensor("b", (16,), begin=32) + bytes(400)),
        'tensor "b" lies over another',
    ),
    "a tensor twice": (
        header(2, 0, tensor("a", (8,)) + tensor("a", (8,), begin=32) + bytes(400)),
        'tensor "a" is there twice',
    ),
    "no model": (header(0, 0), "architecture null is not one of llama, qwen2, qwen3"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_header_is_refused_with_one_line(tmp_path: Path, name: str) -> None:
    data, said = HOSTILE[name]
    (tmp_path / "a.gguf").write_bytes(data)
    found = refusal(tmp_path / "a.gguf")
    assert found is not None
    assert said in found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gguf(tmp_path_factory.mktemp("whole"))


@examples(60)
@given(cut=st.floats(0, 0.999), at=st.floats(0, 0.2), byte=st.integers(0, 255))
def test_a_cut_or_changed_file_is_refused_with_one_line_or_fills(whole: Path, cut: float, at: float, byte: int) -> None:
    data, file = bytearray(whole.read_bytes()), whole.with_name("odd.gguf")
    file.write_bytes(data[: int(cut * len(data))])
    assert refusal(file) is not None
    data[int(at * len(data))] = byte
    file.write_bytes(data)
    refusal(file)


def test_an_unsupported_tokenizer_is_named(whole: Path) -> None:
    data = whole.read_bytes()
    other = whole.with_name("other.gguf")
    other.write_bytes(data.replace(text("gpt2"), text("bert")))
    assert 'its tokenizer is "bert" with splits "smollm"; gpt2 with one of' in str(refusal(other))
    other.write_bytes(data.replace(text("smollm"), text("sm-llm")))
    assert 'with splits "sm-llm"' in str(refusal(other))


def test_texts_have_the_tokens_of_the_folder_s_tokenizer(whole: Path, tmp_path: Path) -> None:
    folder = whole.parent
    path = load_path(str(whole), "cpu")
    theirs = Tokenizer.from_file(str(folder / "tokenizer.json"))
    for line in ("def total_price(items, tax=12):\n", "    x  =  'it''s' # 345\n\n\n", "\tnaïve = 𝒳()"):
        assert path.prompt.encode(line) == theirs.encode(line).ids  # type: ignore[attr-defined]
