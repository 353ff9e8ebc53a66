"""A continued checkpoint as it is shipped: fewer bits, files that any host takes, and settings.

`python -m midspan.engine.training.continued.package runs/continued OUT --corpus runs/sources` writes int4 in groups of
32 (`--bits 8`: int8 by row) in safetensors files of at most 16 MiB. With `--corpus` it reads what it wrote and measures
held-out gaps before and after; `package.json` holds what came of it. A calibration that was there is of other weights:
fit it again.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import torch

from midspan.engine.api import CheckpointError
from midspan.engine.prompts.prompt import Prompt
from midspan.engine.training.continued.heldout import ROOM, gap_losses
from midspan.engine.training.continued.recipes import LONG
from midspan.engine.training.continued.rows import RowBuilder
from midspan.engine.training.continued.run import TEMPLATE
from midspan.engine.training.continued.texts import Corpus
from midspan.engine.weights.load_llama import Bits, open_llama, save_llama

MOST_FILE, MOST_ALL = 16 << 20, 80_000_000
# Rows had 768 tokens in the last part of the training, a third of them of the suffix at most.
SETTINGS: dict[str, dict[str, Any]] = {
    "layout": {
        "kind": "marks",
        "template": TEMPLATE,
        "prefix_tokens": 448,
        "suffix_tokens": 160,
        "line_tokens": 48,
        "span_tokens": 128,
    },
    "hypotheses": {"beams": 4},
    "show": {"languages": ["python", "javascript", "typescript", "tsx", "go", "rust", "c", "cpp"]},
}


def package(run: Path, out: Path, bits: Bits) -> dict[str, Any]:
    """Write the folder of a run's checkpoint, or of a checkpoint; returns its bits and bytes.

    Raises CheckpointError where it is none, or larger than a package may be.
    """
    folder = run / "checkpoint" if (run / "checkpoint").is_dir() else run
    if out.resolve() == folder.resolve():
        raise CheckpointError(f"{out}: is the checkpoint itself; give another folder")
    network = open_llama(folder)
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("model*.safetensors*"):
        old.unlink()
    save_llama(network, out, bits)
    sizes = [file.stat().st_size for file in out.glob("model*.safetensors")]
    if max(sizes) > MOST_FILE or sum(sizes) > MOST_ALL:
        found = f"{sum(sizes)} bytes, {max(sizes)} of them in one file"
        raise CheckpointError(f"{out}: {found}; a package has {MOST_ALL} and {MOST_FILE} at most: give fewer --bits")
    shutil.copyfile(folder / "config.json", out / "config.json")
    shutil.copyfile(folder / "tokenizer.json", out / "tokenizer.json")
    if (run / "log.jsonl").is_file():
        shutil.copyfile(run / "log.jsonl", out / "log.jsonl")
    (out / "midspan.json").write_text(json.dumps(SETTINGS, indent=2) + "\n")
    return {"bits": bits, "bytes": sum(sizes), "files": len(sizes), "from": str(folder)}


def measure(folder: Path, corpus: Corpus, gaps: int) -> dict[str, float]:
    """Held-out nats a byte of a checkpoint folder by language, computed in float32."""
    network = open_llama(folder)
    builder = RowBuilder(Prompt(folder / "tokenizer.json", prefix_tokens=ROOM, filler_id=0), LONG)
    return {language: round(nats, 4) for language, nats in gap_losses(network, builder, corpus, gaps).items()}


def main() -> None:
    """Read the command line, package and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run's folder, or a checkpoint's")
    parser.add_argument("out", type=Path)
    parser.add_argument("--bits", type=int, choices=(4, 8), default=4)
    parser.add_argument("--corpus", type=Path, help="measure on its heldout.jsonl")
    parser.add_argument("--gaps", type=int, default=40, help="of each language")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    row = package(arguments.run, arguments.out, arguments.bits)
    if arguments.corpus is not None:
        heldout = Corpus.read(arguments.corpus / "heldout.jsonl")
        before, after = (measure(folder, heldout, arguments.gaps) for folder in (Path(row["from"]), arguments.out))
        row |= {"gaps": arguments.gaps, "nats_a_byte_before": before, "nats_a_byte": after}
    row["from"] = arguments.run.name
    (arguments.out / "package.json").write_text(json.dumps(row, indent=1) + "\n")
    print(json.dumps(row))


if __name__ == "__main__":
    main()
