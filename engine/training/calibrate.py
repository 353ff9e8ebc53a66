"""Fit the confidence of a checkpoint on held-out packages and store it in its `midspan.json`.

`python -m midspan.engine.training.calibrate FOLDER --heldout runs/corpus/heldout.jsonl`: a logistic regression from
candidates.FEATURES to "the fill is exactly the text that stood there", and the lowest threshold above which at least
PRECISION of the fills of the second half of the holes (not fitted on) were right.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch
from torch import nn

from midspan.engine.api import Budget
from midspan.engine.candidates import FEATURES
from midspan.engine.engine import load_infiller
from midspan.engine.infill import Watch
from midspan.engine.training.holes import heldout_holes

PRECISION = 0.5
FEWEST_SHOWN = 20


def observe(folder: Path, heldout: Path, count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Features [N, F] of the best hypothesis of each hole, and whether it was right [N]."""
    infiller = load_infiller(str(folder), "auto")
    watch = Watch(interrupted=lambda: False, late=lambda: False)
    features, right = [], []
    for number, (hole, truth) in enumerate(heldout_holes(heldout, count, seed)):
        out = infiller.infill(hole, Budget(seed=number), watch)
        if not out.ranked:
            continue
        text = infiller.prompt.text(list(out.ranked[0].ids), out.layout)
        features.append(out.ranked[0].features)
        right.append(text.rstrip() == truth.rstrip())
        if number % 50 == 49:
            print(f"{number + 1}/{count} holes, {100 * sum(right) / len(right):.1f} % right", file=sys.stderr)
    return torch.tensor(features), torch.tensor(right, dtype=torch.float32)


def fit(features: torch.Tensor, right: torch.Tensor) -> tuple[float, ...]:
    """Bias and weights of a logistic regression with a light ridge, in the features' own units."""
    mean, deviation = features.mean(dim=0), features.std(dim=0).clamp(min=1e-6)
    scaled = (features - mean) / deviation
    weight = torch.zeros(features.shape[1] + 1, requires_grad=True)
    optimiser = torch.optim.LBFGS([weight], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        logits = weight[0] + scaled @ weight[1:]
        loss = nn.functional.binary_cross_entropy_with_logits(logits, right) + 1e-3 * weight[1:].square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    slopes = weight.detach()[1:] / deviation
    return (float(weight.detach()[0] - (slopes * mean).sum()), *slopes.tolist())


def threshold(confidence: torch.Tensor, right: torch.Tensor) -> float:
    """The lowest confidence above which PRECISION of at least FEWEST_SHOWN fills are right; 0.5 if there is none."""
    order = confidence.argsort(descending=True)
    share = right[order].cumsum(dim=0) / torch.arange(1, len(right) + 1)
    enough = [i for i in range(FEWEST_SHOWN - 1, len(right)) if share[i] >= PRECISION]
    return round(float(confidence[order][enough[-1]]), 3) if enough else 0.5


def main() -> None:
    """Read the command line, observe, fit, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--heldout", type=Path, required=True)
    parser.add_argument("--holes", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    features, right = observe(arguments.folder, arguments.heldout, arguments.holes, arguments.seed)
    half = len(right) // 2
    calibration = fit(features[:half], right[:half])
    confidence = torch.sigmoid(calibration[0] + features[half:] @ torch.tensor(calibration[1:]))
    file = arguments.folder / "midspan.json"
    settings = json.loads(file.read_text())
    settings["calibration"] = [round(value, 5) for value in calibration]
    settings["show_threshold"] = threshold(confidence, right[half:])
    file.write_text(json.dumps(settings, indent=2) + "\n")
    shown = confidence >= settings["show_threshold"]
    row = {
        "holes": len(right),
        "exact": float(right.mean()),
        "features": FEATURES,
        "show_threshold": settings["show_threshold"],
        "shown": float(shown.float().mean()),
        "right_when_shown": float(right[half:][shown].mean()) if bool(shown.any()) else None,
    }
    print(json.dumps(row))


if __name__ == "__main__":
    main()
