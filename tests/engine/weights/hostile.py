"""Hostile checkpoint folders: each has one thing wrong, and names the key or file that its refusal must name."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file, save_file

from midspan.engine.weights.load import EMBEDDED, save_weights
from tests.engine.tiny import random_model, tiny_checkpoint

DEEP = 200_000
# Values that no whole number of a checkpoint may have; 1e999 is read as infinity.
NO_WHOLE = ("-5", "2199023255552", '"8"', "true", "1.5", "1e999", "[]", "{}")
NO_NUMBER = ("-5", "1e30", '"0.1"', "true", "-1e999", "[]")
WHOLE = {
    "config.json": (
        *("canvas_length", "text_config.vocab_size", "text_config.hidden_size", "text_config.intermediate_size"),
        *("text_config.num_hidden_layers", "text_config.num_attention_heads", "text_config.num_key_value_heads"),
        *("text_config.head_dim", "text_config.global_head_dim", "text_config.num_global_key_value_heads"),
        *("text_config.num_experts", "text_config.top_k_experts", "text_config.moe_intermediate_size"),
        *("text_config.sliding_window", "text_config.max_position_embeddings", "text_config.bos_token_id"),
        *("text_config.pad_token_id", "text_config.eos_token_id"),
    ),
    "midspan.json": (
        *("layout.filler_id", "layout.prefix_tokens", "layout.slots[0]", "layout.block_slots[3]", "denoise.draws"),
        *("denoise.survivors", "denoise.steps", "hypotheses.beams", "hypotheses.similar_lines"),
        "hypotheses.length_slack",
    ),
}
NUMBER = {
    "config.json": (
        *("text_config.rms_norm_eps", "text_config.final_logit_softcapping"),
        "text_config.rope_parameters.full_attention.rope_theta",
    ),
    "midspan.json": (
        *("denoise.t_min", "denoise.t_max", "denoise.entropy_bound", "denoise.confidence_threshold"),
        *("show.show_threshold", "show.early_exit.reject", "show.early_exit.accept", "show.search_floor.evidence"),
        *("hypotheses.ranking.gap", "show.early_exit.ranking.end"),
    ),
}
OTHER: dict[str, tuple[tuple[str, str], ...]] = {
    "config.json": (
        *(("model_type", value) for value in ('"gemma4"', "5", "null")),
        *(("text_config", value) for value in ("[]", "null", '"text"')),
        *(("text_config.num_hidden_layers", value) for value in ("0", "5", "7", "512", "513")),
        *(("text_config.layer_types", value) for value in ("[]", '"sliding_attention"', '["linear_attention"]')),
        ("text_config.layer_types[0]", '"linear_attention"'),
        *(("text_config.rope_parameters", value) for value in ("null", "[]", "{}")),
        ("text_config.rope_parameters.sliding_attention.rope_type", '"yarn"'),
        ("text_config.rope_parameters.sliding_attention.partial_rotary_factor", "0.5"),
        ("text_config.vocab_size", "2147483648"),
        ("text_config.rms_norm_eps", "0"),
        ("text_config.top_k_experts", "2"),
        ("text_config.num_key_value_heads", "3"),
        ("text_config.head_dim", "63"),
        ("text_config.eos_token_id", "[106]"),
        ("text_config.eos_token_id", "[1, 8192]"),
        ("text_config.pad_token_id", "8192"),
        ("text_config.bos_token_id", "5"),
        ("text_config.hidden_activation", '"relu"'),
        ("text_config.attention_bias", "true"),
        ("tie_word_embeddings", "false"),
    ),
    "midspan.json": (
        *((group, value) for group in ("layout", "denoise", "show") for value in ("null", "[]", "5")),
        *(("layout.kind", value) for value in ('"sideways"', "5", "null", '"prompted"', '"clamped"')),
        *(("layout.slots", value) for value in ("[]", "5", "null", "[0]", "[4, 2]", "[2, 2]", '"12"')),
        *(("layout.filler_id", value) for value in ("1000000", "8192", "20000", "8191", "100", "1", "-1", "-2")),
        *((f"denoise.{key}", "10000000") for key in ("draws", "survivors", "steps")),
        *((f"hypotheses.{key}", "10000000") for key in ("beams", "similar_lines")),
        ("denoise.t_min", "0"),
        ("denoise.reuse_suffix", "1"),
        *(("show.languages", value) for value in ('"python"', "[]", "[5]", '["a\\nb"]', '[""]')),
        ("show.show_threshold", "7"),
        *(("show.calibration", value) for value in ("[]", "[1.0]", '"x"', "null")),
        ("show.calibration[2]", '"x"'),
        *(("show.search_floor", value) for value in ("[1, 2]", "{}", "5")),
        *(("show.early_exit", value) for value in ("[]", "{}", "5")),
        ("show.early_exit.reject", "0.7"),
        *(("show.actions", value) for value in ('"refill"', '["dance"]', "5")),
        *(("hypotheses.ranking", value) for value in ('"gap"', '{"luck": 1}', "[1]")),
        ("hypotheses.length_bias", "[1.0]"),
        *(("quantize", value) for value in ('"fp4"', "5", "null")),
        ("more", "1"),
        ("layout.more", "1"),
    ),
}
TOKENIZER: dict[str, tuple[Any, ...]] = {
    "model": (None, [], "BPE", {"type": "Unigram", "vocab": []}),
    "model.type": ("WordPiece", None, 5),
    "model.vocab": ({}, [], None, {"a": 5, "b": 5}, {"a": -1}, {"a": 2**31}, {"a": "0"}),
    "model.merges": (None, 5, [["never", "there"]], [5]),
    "model.continuing_subword_prefix": ("a" * 50,),
    "model.end_of_word_suffix": ("</w>",),
    "model.dropout": (0.5,),
    "added_tokens": ([], None, 5, [{"id": 1}]),
    "normalizer": (
        {"type": "Precompiled", "precompiled_charsmap": ""},
        {"type": "Lowercase"},
        {"type": "Replace", "pattern": {"Regex": "()"}, "content": "x"},
        {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 10_000},
        {"type": "Replace", "pattern": {"String": "a"}, "content": "b"},
    ),
    "pre_tokenizer": (
        {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False},
        {"type": "Split", "pattern": {"Regex": "(?:a|a)*$"}, "behavior": "Isolated", "invert": False},
        {"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated", "invert": False},
        {"type": "Sequence", "pretokenizers": 5},
    ),
    "decoder": (
        {"type": "Strip", "content": "d", "start": 5, "stop": 50_000},
        {"type": "CTC", "pad_token": "", "word_delimiter_token": "", "cleanup": True},
        None,
    ),
}
JSON_FILES = ("config.json", "midspan.json", "tokenizer.json", "model.safetensors.index.json")
INDEXES = (
    *({}, {"weight_map": {}}, {"weight_map": {"a": 5}}, {"weight_map": {"a": ["x"]}}, {"weight_map": [1]}),
    *({"weight_map": {"a": name}} for name in ("/etc/passwd", "../model.safetensors", "none.safetensors", "", "a\nb")),
)


class Hostile(NamedTuple):
    """One folder: its name, a function that makes it in an empty folder, and what the refusal must name."""

    name: str
    make: Callable[[Path], None]
    named: str


def link(folder: Path, base: Path, *but: str) -> None:
    """Link all of a checkpoint's files into the folder, except for some."""
    for file in base.iterdir():
        if file.name not in but:
            (folder / file.name).symlink_to(file)


def put(values: Any, path: str, value: Any) -> None:
    """Set the value at a path such as `layout.slots[0]`."""
    *above, last = path.replace("[", ".[").split(".")
    for key in above:
        values = values[int(key[1:-1])] if key.startswith("[") else values[key]
    values[int(last[1:-1]) if last.startswith("[") else last] = value


def changed(file: str, path: str, value: str) -> Callable[[Path], None]:
    """A maker of a folder like the embedded one, with another JSON value at a path of a file."""

    def make(folder: Path) -> None:
        link(folder, EMBEDDED, file)
        values = json.loads((EMBEDDED / file).read_text())
        put(values, path, "<here>")
        (folder / file).write_text(json.dumps(values).replace('"<here>"', value))

    return make


def without(file: str, path: str) -> Callable[[Path], None]:
    """A maker of a folder like the embedded one, without a key."""

    def make(folder: Path) -> None:
        link(folder, EMBEDDED, file)
        values = json.loads((EMBEDDED / file).read_text())
        *above, last = path.split(".")
        inner = values
        for key in above:
            inner = inner[key]
        del inner[last]
        (folder / file).write_text(json.dumps(values))

    return make


def holding(file: str, content: bytes) -> Callable[[Path], None]:
    """A maker of a folder like the embedded one, with a file of this content."""

    def make(folder: Path) -> None:
        link(folder, EMBEDDED, file)
        (folder / file).write_bytes(content)

    return make


def special(file: str, make_file: Callable[[Path], None]) -> Callable[[Path], None]:
    """A maker of a folder like the embedded one, with something else in place of a file."""

    def make(folder: Path) -> None:
        link(folder, EMBEDDED, file)
        make_file(folder / file)

    return make


def damaged(change: Callable[[dict[str, torch.Tensor]], object], *, int8: bool = False) -> Callable[[Path], None]:
    """A maker of a tiny checkpoint whose tensors are changed."""

    def make(folder: Path) -> None:
        tiny_checkpoint(folder)
        if int8:
            save_weights(random_model(json.loads((folder / "config.json").read_text())), folder, int8=True)
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors")

    return make


def fields() -> Iterator[Hostile]:
    """One wrong value, or none, for a key of config.json or midspan.json."""
    for table, values in ((WHOLE, NO_WHOLE), (NUMBER, NO_NUMBER)):
        for file, keys in table.items():
            for key in keys:
                for value in values:
                    yield Hostile(f"{file} {key} {value}", changed(file, key, value), f"{file}: {key}")
                if "[" not in key and key not in OPTIONAL:
                    yield Hostile(f"{file} without {key}", without(file, key), f"{file}: {key}")
    for file, pairs in OTHER.items():
        for key, value in pairs:
            named = NAMED_ELSEWHERE.get((key, value), f"{file}: {key}")
            yield Hostile(f"{file} {key} {value}", changed(file, key, value), named)


OPTIONAL = {
    *("text_config.max_position_embeddings", "text_config.bos_token_id", "text_config.eos_token_id"),
    *("text_config.pad_token_id", "text_config.num_global_key_value_heads", "text_config.final_logit_softcapping"),
    *("hypotheses.beams", "hypotheses.similar_lines", "hypotheses.length_slack", "hypotheses.ranking.gap"),
    "show.early_exit.ranking.end",
}
# Values that are possible by themselves and wrong because of another key: the refusal names that.
NAMED_ELSEWHERE = {
    ("text_config.num_hidden_layers", "5"): "config.json: text_config.layer_types",
    ("text_config.num_hidden_layers", "7"): "config.json: text_config.layer_types",
    ("text_config.num_hidden_layers", "512"): "config.json: text_config.layer_types",
    ("text_config.layer_types", '["linear_attention"]'): "config.json: text_config.layer_types[0]",
    ("layout.kind", '"prompted"'): "midspan.json: layout.slots",
    ("layout.kind", '"clamped"'): "midspan.json: layout.filler_id",
    ("show.languages", "[5]"): "midspan.json: show.languages[0]",
}


def tokenizers() -> Iterator[Hostile]:
    """One wrong part of tokenizer.json."""
    for key, values in TOKENIZER.items():
        for number, value in enumerate(values):
            make = changed("tokenizer.json", key, json.dumps(value))
            yield Hostile(f"tokenizer.json {key} {number}", make, "tokenizer.json: ")


def files() -> Iterator[Hostile]:
    """Something else where a file should be."""
    deep = b'{"a":' + b"[" * DEEP + b"]" * DEEP + b"}"
    for file in JSON_FILES:
        contents = {
            "deep": deep,
            "empty": b"",
            "cut": b'{"a":',
            "list": b"[1]",
            "no text": b'\xff{"a": 1}',
            "NaN": b"NaN",
        }
        for name, content in contents.items():
            said = "not a JSON object" if name == "list" else "not valid JSON"
            yield Hostile(f"{file} {name}", holding(file, content), f"{file}: {said}")
        yield Hostile(f"{file} huge", special(file, lambda path: sparse(path, 3 << 30)), f"{file}: has more than")
    for file in ("config.json", "tokenizer.json", "model.safetensors", "midspan.json"):
        yield Hostile(f"{file} folder", special(file, Path.mkdir), f"{file}: ")
        yield Hostile(f"{file} pipe", special(file, lambda path: os.mkfifo(path)), f"{file}: ")
        yield Hostile(f"{file} dangling", special(file, lambda path: path.symlink_to("nowhere")), f"{file}: ")
    for file in ("config.json", "tokenizer.json", "model.safetensors"):
        yield Hostile(f"{file} absent", special(file, lambda path: None), f"{file}: missing")
    for number, index in enumerate(INDEXES):
        name = "none.safetensors: missing" if "none" in str(index) else "model.safetensors.index.json: "
        make = holding("model.safetensors.index.json", json.dumps(index).encode())
        yield Hostile(f"index {number}", make, name)


def sparse(path: Path, size: int, begin: bytes = b"") -> None:
    """A sparse file of `size` bytes, which takes hardly any room on the disk."""
    with path.open("wb") as file:
        file.write(begin)
        file.truncate(size)


def headers() -> Iterator[Hostile]:
    """Headers of safetensors that are wrong."""
    embedding = "model.decoder.embed_tokens.weight"
    cases = {
        "length": struct.pack("<Q", 1 << 40) + b"{}",
        "length of all memory": struct.pack("<Q", (1 << 64) - 1),
        "no JSON": struct.pack("<Q", 5) + b"{{{{{",
        "deep": (deep := b'{"a":' * DEEP) and struct.pack("<Q", len(deep)) + deep,
        "empty": struct.pack("<Q", 2) + b"{}",
        "offsets": header({embedding: {"dtype": "F32", "shape": [4], "data_offsets": [0, 1 << 50]}}),
        "name": header({"a\nb": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}}),
        "axes": header({"a": {"dtype": "U8", "shape": [0] * 100, "data_offsets": [0, 0]}}),
        "overflow": header({embedding: {"dtype": "F32", "shape": [1 << 40, 1 << 40], "data_offsets": [0, 0]}}),
        "dtype": header({embedding: {"dtype": "F7", "shape": [0], "data_offsets": [0, 0]}}),
    }
    for name, content in cases.items():
        named = "its header has" if name.startswith("length") else "model.safetensors: "
        named = "tensor model.decoder" if name == "empty" else named
        yield Hostile(f"header {name}", holding("model.safetensors", content), named)
    for ids in (1 << 20, 8191, 8193):
        named = f"{embedding} has shape [8192, 256], config.json says [{ids}, 256]"
        yield Hostile(
            f"header of fewer than {ids} ids", changed("config.json", "text_config.vocab_size", str(ids)), named
        )
    yield Hostile("header of other widths", changed("config.json", "text_config.intermediate_size", "1048576"), "mlp.")
    yield Hostile("sparse giant", sparse_giant, "is all zeros")


def header(values: dict[str, Any]) -> bytes:
    """A safetensors file that is only a header."""
    text = json.dumps(values).encode()
    return struct.pack("<Q", len(text)) + text


def sparse_giant(folder: Path) -> None:
    """An embedding of 17 million zeros that takes no room on the disk, and a config that says the same."""
    ids, width = 1 << 16, 256
    tiny_checkpoint(folder, hidden_size=width)
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["vocab_size"] = ids
    (folder / "config.json").write_text(json.dumps(config))
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.decoder.embed_tokens.weight"]
    save_file(tensors, folder / "model-2.safetensors")
    entry = {"dtype": "F16", "shape": [ids, width], "data_offsets": [0, 2 * ids * width]}
    begin = header({"model.decoder.embed_tokens.weight": entry})
    sparse(folder / "model-1.safetensors", len(begin) + 2 * ids * width, begin)
    places = dict.fromkeys(tensors, "model-2.safetensors") | {entry_name(): "model-1.safetensors"}
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))


def entry_name() -> str:
    """The embedding's name."""
    return "model.decoder.embed_tokens.weight"


def weights() -> Iterator[Hostile]:
    """Weights with impossible numbers, and tensors that do not fit."""
    first = "model.decoder.layers.0."
    names = (f"{first}mlp.gate_proj.weight", f"{first}input_layernorm.weight", f"{first}layer_scalar")
    for name in (*names, "model.decoder.embed_tokens.weight", f"{first}experts.down_proj", "model.decoder.norm.weight"):
        for bad in (float("nan"), float("inf"), float("-inf")):

            def spoil(tensors: dict[str, torch.Tensor], name: str = name, bad: float = bad) -> None:
                tensors[name].view(-1)[0] = bad

            yield Hostile(f"{bad} in {name}", damaged(spoil), f"{name} has numbers that are not finite")
        yield Hostile(f"without {name}", damaged(lambda t, n=name: t.pop(n)), f"tensor {name} missing")  # type: ignore[misc]
    for name in ("model.decoder.embed_tokens.weight", f"{first}mlp.gate_proj.weight", f"{first}experts.down_proj"):
        yield Hostile(f"zero {name}", damaged(lambda t, n=name: t[n].zero_()), f"{name} is all zeros")  # type: ignore[misc]
        scale = f"{name}_scale"
        yield Hostile(f"zero {scale}", damaged(lambda t, n=scale: t[n].zero_(), int8=True), f"{scale} is all zeros")  # type: ignore[misc]
        yield Hostile(f"nan {scale}", damaged(lambda t, n=scale: t[n].fill_(float("nan")), int8=True), f"{scale} has")  # type: ignore[misc]
    yield Hostile("norm zero", damaged(lambda t: t["model.decoder.norm.weight"].zero_()), "compute no finite logits")
    yield Hostile("scalar huge", damaged(lambda t: t[names[2]].fill_(3e38)), "compute no finite logits")
    yield Hostile("more", damaged(lambda t: t.update({f"{first}mlp.bias": torch.ones(3)})), "unexpected tensor")
    yield Hostile("whole numbers", damaged(lambda t: t.update({names[0]: t[names[0]].long()})), "stored as I64")


HOSTILE = (*fields(), *tokenizers(), *files(), *headers(), *weights())
