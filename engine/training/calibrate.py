"""Fit `show.calibration` and `show.show_threshold` of `midspan.json` on held-out packages.

The calibration is a logistic regression from FEATURES to "the fill is exactly the text that stood there", fitted on all
holes. The threshold is the lowest confidence above which at least a given share of the fills were right, for whole
lines and for ends of lines alike. For the threshold and for the reliability plot (`calibration.json`), each half's
confidences are by the regression of the other half.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from midspan.engine.api import Budget, Judge
from midspan.engine.engine import load_infiller
from midspan.engine.hypotheses.task import PATIENT
from midspan.engine.settings import FEATURES
from midspan.engine.training.holes import HeldOut
from midspan.engine.weights.midspan_json import write_settings

FEWEST_SHOWN = 40


def observe(folder: Path, heldout: HeldOut, judge: Judge | None) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Of each hole: FEATURES of the best hypothesis [N, F], whether it is right [N], whether the gap is a line [N]."""
    infiller = load_infiller(str(folder), "cpu")
    infiller.judge = judge
    features, right, whole = [], [], []
    for number, (hole, truth) in enumerate(heldout.holes()):
        out = infiller.infill(hole, Budget(seed=number), PATIENT)
        if not out.ranked:
            continue
        text = infiller.prompt.text(list(out.ranked[0].ids), out.layout)
        features.append(out.ranked[0].features)
        right.append(text.rstrip() == truth.rstrip())
        whole.append(hole.kind == "line")
    return torch.tensor(features), torch.tensor(right, dtype=torch.float32), torch.tensor(whole)


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


def confidences(calibration: tuple[float, ...], features: torch.Tensor) -> torch.Tensor:
    """The logistic of features [N, F]; see hypotheses/hypothesis.py."""
    return torch.sigmoid(calibration[0] + features @ torch.tensor(calibration[1:]))


def by_the_other_half(features: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """The confidence [N] of every fill, by the regression of the half that it is not in."""
    half = len(right) // 2
    first, second = fit(features[half:], right[half:]), fit(features[:half], right[:half])
    return torch.cat((confidences(first, features[:half]), confidences(second, features[half:])))


def cost(confidence: torch.Tensor, right: torch.Tensor) -> float:
    """The mean cross-entropy in nats of a confidence [N]."""
    return float(nn.functional.binary_cross_entropy(confidence, right))


def cost_without(features: torch.Tensor, right: torch.Tensor, name: str) -> float:
    """The same of confidences by features [N, F] without one of FEATURES."""
    others = features.clone()
    others[:, FEATURES.index(name)] = 0.0
    return cost(by_the_other_half(others, right), right)


def threshold(confidence: torch.Tensor, right: torch.Tensor, precision: float) -> float:
    """The lowest confidence above which `precision` of at least FEWEST_SHOWN fills are right; 0.9 if there is none."""
    order = confidence.argsort(descending=True)
    share = right[order].cumsum(dim=0) / torch.arange(1, len(right) + 1)
    enough = [i for i in range(FEWEST_SHOWN - 1, len(right)) if share[i] >= precision]
    return round(float(confidence[order][enough[-1]]), 3) if enough else 0.9


def calibrate(folder: Path, heldout: HeldOut, precision: float, judge: Judge | None) -> dict[str, Any]:
    """Observe, fit, write `midspan.json` and `calibration.json`. Returns the figures."""
    features, right, whole = observe(folder, heldout, judge)
    confidence = by_the_other_half(features, right)
    calibration = [round(value, 5) for value in fit(features, right)]
    kinds = {"lines": whole, "ends_of_lines": ~whole}
    show_threshold = max(threshold(confidence[of], right[of], precision) for of in kinds.values())
    write_settings(folder, show={"calibration": calibration, "show_threshold": show_threshold})
    pairs = {"confidence": [round(value, 4) for value in confidence.tolist()], "right": right.bool().tolist()}
    (folder / "calibration.json").write_text(json.dumps(pairs) + "\n")
    shown = confidence >= show_threshold
    shares = {"all": _shown(shown, right)} | {kind: _shown(shown[of], right[of]) for kind, of in kinds.items()}
    return {
        "holes": len(right),
        "nats": round(cost(confidence, right), 4),
        "nats_without": {name: round(cost_without(features, right, name), 4) for name in FEATURES},
        "show_threshold": show_threshold,
        **shares,
    }


def _shown(shown: torch.Tensor, right: torch.Tensor) -> dict[str, float | None]:
    """The share that is shown, and the share of the shown that is right."""
    of_them = float(right[shown].mean()) if bool(shown.any()) else None
    return {"exact": float(right.mean()), "shown": float(shown.float().mean()), "right_when_shown": of_them}
