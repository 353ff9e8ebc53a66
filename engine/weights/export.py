"""Write a checkpoint for transformers: `python -m midspan.engine.weights.export FOLDER OUT [--dtype bf16|fp32]`."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

import torch

from midspan.engine.api import CheckpointError
from midspan.engine.model import DiffusionGemma, ModelConfig
from midspan.engine.weights.load import load_weights, read_config, resolve, save_weights, vision_tensors

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
COPIED = ("generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "midspan.json")
# Where config.json has no vision half, transformers would build its default one of 167M random parameters.
BLIND = {
    "model_type": "gemma4_vision",
    "hidden_size": 8,
    "intermediate_size": 8,
    "num_hidden_layers": 0,
    "num_attention_heads": 1,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "position_embedding_size": 1,
    "patch_size": 1,
}


def export(checkpoint: str, out: Path, dtype: torch.dtype) -> None:
    """Write plain weights in `dtype`, the config and the tokenizer into `out`, made if needed.

    Raises CheckpointError for a checkpoint that cannot be read.
    """
    folder = resolve(checkpoint)
    if out.resolve() == folder.resolve():
        raise CheckpointError(f"{out}: is the checkpoint itself; give another folder to export to")
    config = read_config(folder)
    model = DiffusionGemma(ModelConfig.from_json(config))
    load_weights(model, folder, dtype, torch.device("cpu"))
    vision = vision_tensors(folder)
    if config.get("vision_config") is None:
        config["vision_config"], vision = BLIND, blind_tensors(model.config.hidden_size)
    out.mkdir(parents=True, exist_ok=True)
    for name in COPIED:
        if (folder / name).is_file():
            shutil.copyfile(folder / name, out / name)
    config["dtype"] = str(dtype).removeprefix("torch.")
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    save_weights(model, out, int8=False, vision={name: tensor.to(dtype) for name, tensor in vision.items()})


def blind_tensors(hidden_size: int) -> dict[str, torch.Tensor]:
    """The three tensors that transformers expects of a vision half without layers."""
    return {
        "model.encoder.vision_tower.patch_embedder.position_embedding_table": torch.zeros(2, 1, 8),
        "model.encoder.vision_tower.patch_embedder.input_proj.weight": torch.zeros(8, 3),
        "model.encoder.embed_vision.embedding_projection.weight": torch.zeros(hidden_size, 8),
    }


def main() -> int:
    """Read the command line and export."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint")
    parser.add_argument("out", type=Path)
    parser.add_argument("--dtype", choices=sorted(DTYPES), default="bf16")
    arguments = parser.parse_args()
    try:
        export(arguments.checkpoint, arguments.out, DTYPES[arguments.dtype])
    except CheckpointError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
