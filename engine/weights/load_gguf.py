"""The `llama` family from a GGUF file: its sizes from the metadata, its weights under Hugging Face's names."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

import torch

from midspan.engine.api import CheckpointError, OnProgress
from midspan.engine.llama import LlamaConfig
from midspan.engine.marks_settings import FAMILIES
from midspan.engine.weights.gguf_file import GgufFile
from midspan.engine.weights.load_llama import Matrix, Weights, parameter_shapes
from midspan.engine.weights.typed_json import shown
from midspan.kernels.nibbles import Nibbles

NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
TENSOR = re.compile(r"(?:blk\.(\d{1,3})\.)?(\w+)\.(weight|bias)", re.ASCII)
# Key of the metadata behind the family's name -> key of config.json.
SIZES = {
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "block_count": "num_hidden_layers",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "rope.freq_base": "rope_theta",
    "context_length": "max_position_embeddings",
}
FIX = "take the model's safetensors folder"


def gguf_config(found: GgufFile) -> LlamaConfig:
    """The sizes of the network. Raises CheckpointError naming the file, and config.json's name of what is wrong."""
    family = found.metadata.get("general.architecture")
    if family not in FAMILIES:
        raise CheckpointError(f"{found.file}: architecture {shown(family)} is not one of {', '.join(FAMILIES)}")
    values: dict[str, Any] = {"model_type": family}
    values |= {name: found.metadata.get(f"{family}.{key}") for key, name in SIZES.items()}
    if "token_embd.weight" not in found.tensors:
        raise CheckpointError(f"{found.file}: tensor token_embd.weight missing; copy the file again")
    values["vocab_size"] = found.tensors["token_embd.weight"].shape[0]
    values["tie_word_embeddings"] = "output.weight" not in found.tensors
    values["attention_bias"] = family == "llama" and "blk.0.attn_q.bias" in found.tensors
    values["rope_scaling"] = _rope_scaling(found, family)
    return LlamaConfig.from_json(values, str(found.file))


def _rope_scaling(found: GgufFile, family: str) -> dict[str, Any] | None:
    """How positions are stretched, as config.json says it."""
    if "rope_freqs.weight" in found.tensors:
        raise CheckpointError(f"{found.file}: its rope factors are in tensor rope_freqs, which is not read here; {FIX}")
    kind = found.metadata.get(f"{family}.rope.scaling.type", "none")
    if kind == "none":
        return None
    scaling, context = f"{family}.rope.scaling", "original_max_position_embeddings"
    values = {"rope_type": kind, "factor": found.metadata.get(f"{scaling}.factor")}
    return values | {context: found.metadata.get(f"{scaling}.original_context_length")}


def read_gguf(found: GgufFile, config: LlamaConfig, progress: OnProgress | None = None) -> Weights:
    """The file's weights, tensor by tensor; matrices whose form has four bits stay so.

    Raises CheckpointError for a missing, unexpected or wrongly shaped tensor.
    """
    shapes = parameter_shapes(config)
    names = _fitting(found, shapes)
    pairs_apart = found.metadata["general.architecture"] == "llama"

    def tensors() -> Iterator[tuple[str, Matrix]]:
        total, done = sum(one.bytes for one in found.tensors.values()), 0
        for name, target in names.items():
            matrix = found.matrix(name)
            _check_numbers(found, name, matrix)
            if pairs_apart and name.split(".")[-2] in ("attn_q", "attn_k"):
                matrix = _halves(matrix, config.head_dim)
            yield target, matrix
            done += found.tensors[name].bytes
            if progress is not None:
                progress(done, total)

    return Weights(shapes, tensors())


def _check_numbers(found: GgufFile, name: str, matrix: Matrix) -> None:
    for part in (matrix.scale, matrix.offset) if isinstance(matrix, Nibbles) else (matrix,):
        low, high = map(float, part.aminmax())
        if not (math.isfinite(low) and math.isfinite(high)) or (part.ndim > 1 and low == high == 0):
            raise CheckpointError(f"{found.file}: {name} has numbers that no weights have; copy the file again")


def _halves(matrix: Matrix, head_dim: int) -> Matrix:
    if isinstance(matrix, Nibbles):
        return Nibbles(*(halves(part, head_dim) for part in matrix))
    return halves(matrix, head_dim)


def halves(rows: torch.Tensor, head_dim: int) -> torch.Tensor:
    """Rows [heads * head_dim, ...] from GGUF's order, a rotated pair's parts side by side, to halves of a head."""
    pairs: torch.Tensor = rows.unflatten(0, (-1, head_dim // 2, 2)).transpose(1, 2)
    return pairs.flatten(0, 2)


def _fitting(found: GgufFile, shapes: dict[str, tuple[int, ...]]) -> dict[str, str]:
    """Name in the file -> name of the parameter, for every tensor. Raises CheckpointError where they do not fit."""
    out = {}
    for name, tensor in found.tensors.items():
        match = TENSOR.fullmatch(name)
        layer = "" if match is None or match[1] is None else f"model.layers.{match[1]}."
        target = None if match is None or match[2] not in NAMES else f"{layer}{NAMES[match[2]]}.{match[3]}"
        if target not in shapes:
            raise CheckpointError(f"{found.file}: unexpected tensor {shown(name)}; {FIX}")
        if tensor.shape != shapes[target]:
            wanted = f"the metadata says {list(shapes[target])}"
            raise CheckpointError(f"{found.file}: {name} has shape {list(tensor.shape)}, {wanted}; copy the file again")
        out[name] = target
    if missing := sorted(set(shapes) - set(out.values())):
        raise CheckpointError(f"{found.file}: tensor {missing[0]} missing; copy the file again")
    return out
