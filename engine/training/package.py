"""A run's weights as a checkpoint folder: `python -m midspan.engine.training.package runs/embedded OUT`.

int8 with a scale a row, the config, the tokenizer, `midspan.json` (uncalibrated until calibrate.py has run; its layout
is what the run was trained for), the loss curve, and what is known of the run and its corpus.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import torch

from midspan.engine.features import FEATURES
from midspan.engine.model import DiffusionGemma, ModelConfig
from midspan.engine.training.run import FILLER_ID
from midspan.engine.weights.load import save_weights

SETTINGS: dict[str, Any] = {
    "layout": "filler",
    "filler_id": FILLER_ID,
    "slots": [*range(1, 13), 14, 16],
    "block_slots": [8, 16, 24, 32],
    "draws": 1,
    "keep": 4,
    "neighbours": 4,
    "beams": 6,
    "around_beams": 2,
    # Until training/ranking.py has fitted them.
    "ranking": {"gap": 0.1, "suffix": 0.2, "evidence": 1.5, "middle": 0.1, "end": 0.6, "agreed": 1.5, "syntax": 3.0},
    "prefix_tokens": 256,
    "reuse_suffix": True,
    "steps": 2,
    "t_min": 0.1,
    "t_max": 0.3,
    "entropy_bound": 0.1,
    "confidence_threshold": 0.005,
    "languages": ["python"],
    "show_threshold": 0.5,
    "calibration": [0.0, *(float(name in ("gap_mean", "suffix_mean")) for name in FEATURES)],
}

# A canvas checkpoint denoises as many hypotheses as the twin searches beams; its longest gap in training was 32 tokens.
FIM_SETTINGS: dict[str, Any] = SETTINGS | {
    "layout": "fim",
    "slots": [32],
    "draws": 4,
    "neighbours": 0,
    "beams": 0,
    "around_beams": None,
    "reuse_suffix": False,
}


def settings_of(run: Path) -> dict[str, Any]:
    """The `midspan.json` that fits what the run was taught, by its log; one that names no objective had canvases."""
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    objectives = [row["recipe"].get("objective", "canvas") for row in rows if "recipe" in row]
    return FIM_SETTINGS if objectives[-1:] == ["fim"] else SETTINGS


def package(run: Path, corpus: Path, out: Path) -> None:
    """Write the checkpoint folder; an existing `midspan.json` is replaced, since its calibration was another's."""
    out.mkdir(parents=True, exist_ok=True)
    config = json.loads((run / "config.json").read_text())
    model = DiffusionGemma(ModelConfig.from_json(config))
    state = torch.load(run / "state.pt", weights_only=True)
    model.load_state_dict(state["average"] | {n: b for n, b in model.state_dict().items() if "scalar" in n})
    save_weights(model, out, int8=True)
    for name in ("config.json", "tokenizer.json", "loss.png", "log.jsonl"):
        shutil.copyfile(run / name, out / name)
    (out / "midspan.json").write_text(json.dumps(settings_of(run), indent=2) + "\n")
    shutil.copyfile(corpus / "manifest.json", out / "manifest.json")


def main() -> None:
    """Read the command line and write the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--corpus", type=Path, required=True)
    arguments = parser.parse_args()
    package(arguments.run, arguments.corpus, arguments.out)


if __name__ == "__main__":
    main()
