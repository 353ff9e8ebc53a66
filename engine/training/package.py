"""A run's weights as a checkpoint folder: `python -m midspan.engine.training.package runs/embedded OUT`.

The folder holds the weights in int8 with a scale a row, config, tokenizer, `midspan.json` (of the layout that the run
was trained for; not calibrated before calibrate.py has run), the loss curve, and the records of the run and its corpus.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import torch

from midspan.engine.model import DiffusionGemma, ModelConfig
from midspan.engine.settings import FEATURES
from midspan.engine.training.run import FILLER_ID
from midspan.engine.weights.load import save_weights

SETTINGS: dict[str, dict[str, Any]] = {
    "layout": {
        "kind": "filler",
        "filler_id": FILLER_ID,
        "slots": [*range(1, 13), 14, 16],
        "block_slots": [8, 16, 24, 32],
        "prefix_tokens": 256,
    },
    "denoise": {
        "draws": 1,
        "survivors": 4,
        "steps": 2,
        "t_min": 0.1,
        "t_max": 0.3,
        "entropy_bound": 0.1,
        "confidence_threshold": 0.005,
        "reuse_suffix": True,
    },
    "hypotheses": {
        "beams": 6,
        "similar_lines": 4,
        "length_slack": 2,
        # Until training/ranking.py has fitted them.
        "ranking": {"gap": 0.1, "suffix": 0.2, "evidence": 1.5, "fim": 0.1, "end": 0.6, "agreed": 1.5, "syntax": 3.0},
    },
    "show": {
        "languages": ["python"],
        "show_threshold": 0.5,
        "calibration": [0.0, *(float(name in ("gap_mean", "suffix_mean")) for name in FEATURES)],
    },
}

# The twin searches as many beams as a canvas checkpoint denoises hypotheses; its longest gap in training was 32 tokens.
FIM_SETTINGS = SETTINGS | {
    "layout": SETTINGS["layout"] | {"kind": "fim", "slots": [32]},
    "denoise": SETTINGS["denoise"] | {"draws": 4, "reuse_suffix": False},
    "hypotheses": {"ranking": SETTINGS["hypotheses"]["ranking"]},
}


def settings_of(run: Path) -> dict[str, Any]:
    """The `midspan.json` of the objective that the run's log names; a log that names none had canvases."""
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    objectives = [row["recipe"].get("objective", "canvas") for row in rows if "recipe" in row]
    return FIM_SETTINGS if objectives[-1:] == ["fim"] else SETTINGS


def package(run: Path, corpus: Path, out: Path) -> None:
    """Write the checkpoint folder. A `midspan.json` that is there is replaced: its calibration was of other weights."""
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
