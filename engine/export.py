"""Write a checkpoint as transformers opens it: `python -m midspan.engine.export FOLDER OUT [--dtype bf16|fp32]`."""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

import torch

from midspan.engine.api import CheckpointError
from midspan.engine.model import DiffusionGemma, ModelConfig
from midspan.engine.weights import load_weights, read_config, resolve, save_weights

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
COPIED = ("config.json", "generation_config.json", "tokenizer.json", "midspan.json")


def export(checkpoint: str, out: Path, dtype: torch.dtype) -> None:
    """Write plain weights in `dtype`, the config and the tokenizer into `out`, made if needed."""
    folder = resolve(checkpoint)
    model = DiffusionGemma(ModelConfig.from_json(read_config(folder)))
    load_weights(model, folder, dtype, torch.device("cpu"))
    out.mkdir(parents=True, exist_ok=True)
    for name in COPIED:
        if (folder / name).is_file():
            shutil.copyfile(folder / name, out / name)
    save_weights(model, out, int8=False)


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
