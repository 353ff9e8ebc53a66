"""A tiny random network of the llama family, with a tokenizer learnt from a few lines, as a checkpoint folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from midspan.engine.llama import Llama, LlamaConfig
from midspan.engine.training.continued.rows import END, FILE, MIDDLE, PREFIX, SUFFIX
from midspan.engine.training.continued.vocabulary import byte_level

SPECIAL = [END, FILE, PREFIX, SUFFIX, MIDDLE]
SETTINGS: dict[str, dict[str, Any]] = {
    "layout": {"kind": "marks", "template": "smollm2-continued", "line_tokens": 12, "span_tokens": 24},
    "show": {"languages": ["python", "go"], "show_threshold": 0.4},
}
SOURCE = "".join(
    f"def total_{name}(items, tax):\n    result = 0\n    for item in items:\n        result += item.{name}\n"
    f"    return result * (1 + tax)\n\n\n"
    for name in ("price", "weight", "volume", "count", "length", "width", "height", "depth")
)


def config(**changes: Any) -> dict[str, Any]:
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4, "num_attention_heads": 4}
    more = {"num_key_value_heads": 2, "head_dim": 8, "vocab_size": 64, "rope_theta": 10_000.0, "rms_norm_eps": 1e-5}
    return {"model_type": "llama", "tie_word_embeddings": True, **sizes, **more, **changes}


def tokenizer(special: list[str] = SPECIAL) -> Tokenizer:
    """Byte-level BPE as in the base model: special tokens first, then bytes, then merges."""
    learnt = Tokenizer(models.BPE())
    learnt.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    learnt.train_from_iterator([SOURCE], trainer)
    model = json.loads(learnt.to_str())["model"]
    return byte_level(model["vocab"], [(first, second) for first, second in model["merges"]], special)


def write_checkpoint(folder: Path, seed: int = 0, spread: float | None = None, **changes: Any) -> Path:
    """A folder in Hugging Face's format; `changes` go to its config, `spread` is the deviation of all weights."""
    folder.mkdir(parents=True, exist_ok=True)
    made = tokenizer()
    made.save(str(folder / "tokenizer.json"))
    found = config(**{"vocab_size": made.get_vocab_size(), **changes})
    (folder / "config.json").write_text(json.dumps(found))
    torch.manual_seed(seed)
    network = Llama(LlamaConfig.from_json(found))
    if spread is not None:
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=spread)
    save_file({name: p.detach() for name, p in network.named_parameters()}, folder / "model.safetensors")
    return folder


def marked_checkpoint(folder: Path, seed: int = 0, spread: float = 0.3, **changes: Any) -> Path:
    """The same with a `midspan.json`, as in a packaged checkpoint."""
    write_checkpoint(folder, seed, spread, **changes)
    (folder / "midspan.json").write_text(json.dumps(SETTINGS))
    return folder
