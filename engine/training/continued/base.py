"""The base model as a checkpoint folder: a llama GGUF, dequantised, in Hugging Face's format.

`python -m midspan.engine.training.continued.base FILE.gguf runs/base` writes `config.json`, `model.safetensors` in
float32 and `tokenizer.json`. Quantised types are read by the `gguf` package.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGUFReader
from gguf.quants import dequantize
from safetensors.torch import save_file
from tokenizers import Tokenizer

from midspan.engine.api import CheckpointError
from midspan.engine.llama import Llama, LlamaConfig, load_state
from midspan.engine.training.continued.vocabulary import byte_level
from midspan.engine.weights.load_gguf import NAMES, halves

CONTROL = 3  # token_type of special tokens


def convert(file: Path, out: Path) -> None:
    """Write the folder. Raises CheckpointError where the file is no llama GGUF with SmolLM's tokenizer."""
    reader = GGUFReader(file)
    if (family := _field(reader, "general.architecture")) != "llama":
        raise CheckpointError(f"{file}: architecture `{family}` is not llama; use SmolLM2's GGUF")
    out.mkdir(parents=True, exist_ok=True)
    config = config_json(reader)
    tensors = {}
    for stored in reader.tensors:
        values = np.array(dequantize(stored.data, stored.tensor_type), dtype=np.float32)
        tensors[hugging_face_name(stored.name)] = torch.from_numpy(values.reshape(tuple(stored.shape[::-1])))
    for name, weight in tensors.items():
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            tensors[name] = halves(weight, config["head_dim"])
    load_state(Llama(LlamaConfig.from_json(config)), tensors)
    save_file({name: weight.contiguous() for name, weight in tensors.items()}, out / "model.safetensors")
    (out / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    tokenizer(reader).save(str(out / "tokenizer.json"))


def hugging_face_name(name: str) -> str:
    """Hugging Face's name of a GGUF tensor (`blk.3.attn_q.weight`). Raises CheckpointError for an unknown one."""
    match = re.fullmatch(r"(?:blk\.(\d+)\.)?(\w+)\.weight", name)
    if match is None or match[2] not in NAMES:
        raise CheckpointError(f"tensor `{name}` is not one of a llama network; use SmolLM2's GGUF")
    layer = "" if match[1] is None else f"model.layers.{match[1]}."
    return f"{layer}{NAMES[match[2]]}.weight"


def config_json(reader: GGUFReader) -> dict[str, Any]:
    """config.json's object from the GGUF's metadata."""
    heads, hidden = _field(reader, "llama.attention.head_count"), _field(reader, "llama.embedding_length")
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": len(_field(reader, "tokenizer.ggml.tokens")),
        "hidden_size": hidden,
        "intermediate_size": _field(reader, "llama.feed_forward_length"),
        "num_hidden_layers": _field(reader, "llama.block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": _field(reader, "llama.attention.head_count_kv"),
        "head_dim": hidden // heads,
        "rope_theta": _field(reader, "llama.rope.freq_base"),
        "rms_norm_eps": round(_field(reader, "llama.attention.layer_norm_rms_epsilon"), 9),
        "max_position_embeddings": _field(reader, "llama.context_length"),
        "tie_word_embeddings": all(stored.name != "output.weight" for stored in reader.tensors),
        "hidden_act": "silu",
        "attention_bias": False,
        "torch_dtype": "float32",
        "bos_token_id": 0,
        "eos_token_id": 0,
    }


def tokenizer(reader: GGUFReader) -> Tokenizer:
    """The byte-level BPE tokenizer of the metadata: every digit by itself, then GPT-2's words."""
    if (split := _field(reader, "tokenizer.ggml.pre")) != "smollm":
        raise CheckpointError(f"tokenizer `{split}` is not SmolLM's; use SmolLM2's GGUF")
    tokens, kinds = _field(reader, "tokenizer.ggml.tokens"), _field(reader, "tokenizer.ggml.token_type")
    merges = [tuple(merge.split(" ")) for merge in _field(reader, "tokenizer.ggml.merges")]
    special = [token for token, kind in zip(tokens, kinds, strict=True) if kind == CONTROL]
    return byte_level({token: place for place, token in enumerate(tokens)}, merges, special)


def _field(reader: GGUFReader, name: str) -> Any:
    field = reader.get_field(name)
    if field is None:
        raise CheckpointError(f"the GGUF says nothing of `{name}`; use SmolLM2's GGUF")
    return field.contents()


def main() -> None:
    """Read the command line and convert."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    convert(arguments.file, arguments.out)


if __name__ == "__main__":
    main()
