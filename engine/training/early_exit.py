"""Fit when canvases would change nothing, on held-out packages: `early_exit` of `midspan.json`.

Gaps are filled to the end. What was there before a canvas was denoised gets a ranking and a confidence of its own. As
many gaps as may be are answered early: with nothing, while of the fills that are shown and right at most a share is
lost; with the best one, while as many of them are right as in the end, and nearly all would be shown.
"""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from midspan.engine.api import Budget, Judge
from midspan.engine.engine import load_infiller
from midspan.engine.features import FEATURES
from midspan.engine.hypotheses.ranking import rank_proposals
from midspan.engine.hypotheses.syntax import FARTHEST, SyntaxChecker
from midspan.engine.hypotheses.task import PATIENT
from midspan.engine.infill import Infiller
from midspan.engine.settings import EarlyExit, Ranking, write_settings
from midspan.engine.training import calibrate, ranking
from midspan.engine.training.holes import heldout_holes

GRID = tuple(step / 100 for step in range(1, 100))
# Of what is answered early, so much is to be shown in the end as well, and as many right but for two in a hundred.
SHOWN_ANYWAY, AS_RIGHT = 0.95, 0.98


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A gap: what there was to choose from early, with the FEATURES of each [N, F], and what came of it in the end."""

    choice: ranking.Choice
    features: torch.Tensor
    shown: bool
    right: bool


def observe(infiller: Infiller, heldout: Path, count: int, seed: int, judge: Judge | None) -> list[Seen]:
    """Every hole as the engine fills it; those without anything to choose from early are left out."""
    out, settings = [], infiller.settings
    for number, (hole, truth) in enumerate(heldout_holes(heldout, count, seed), 1):
        found = infiller.infill(hole, Budget(seed=number), PATIENT)
        checked = SyntaxChecker(judge, hole, infiller.prompt, found.layout)
        first = [(one, checked.parses(one)) for one in rank_proposals(found.proposals, settings.ranking)[0]]
        texts = [infiller.prompt.text(list(one.ids), found.layout).rstrip() == truth.rstrip() for one, _ in first]
        if first:
            signs = [[*ranking.signs_of(one)[:-1], -float(not parses)] for one, parses in first]
            features = [[*one.features[:-1], float(parses)] for one, parses in first]
            best = found.ranked[0] if found.ranked else None
            text = "" if best is None else infiller.prompt.text(list(best.ids), found.layout).rstrip()
            out.append(
                Seen(
                    choice=ranking.Choice(signs=torch.tensor(signs), right=texts.index(True) if any(texts) else None),
                    features=torch.tensor(features),
                    shown=best is not None and best.confidence(settings.calibration) >= settings.show_threshold,
                    right=text == truth.rstrip(),
                )
            )
        if number % 50 == 0:
            sys.stderr.write(f"{number}/{count} holes\n")
    return out


def best_of(seen: list[Seen], weights: Ranking) -> tuple[torch.Tensor, torch.Tensor]:
    """FEATURES [N, F] of each gap's best by a ranking, its margin among them, and whether it is right [N]."""
    by, features, right = torch.tensor([float(value) for value in asdict(weights).values()]), [], []
    for one in seen:
        standing = one.choice.signs @ by
        order = standing.argsort(descending=True)
        row = one.features[order[0]].clone()
        margin = standing[order[0]] - standing[order[1]] if len(order) > 1 else torch.tensor(FARTHEST)
        row[FEATURES.index("margin")] = margin.clamp(max=FARTHEST)
        features.append(row)
        right.append(float(one.choice.right == int(order[0])))
    return torch.stack(features), torch.tensor(right)


def fit(seen: list[Seen], most: float) -> tuple[EarlyExit, dict[str, float]]:
    """The rule, and shares of what it would do, each half judged by the regression that was fitted on the other."""
    # Nothing was read causally, and no canvas can agree.
    weights = replace(ranking.fit([one.choice for one in seen]), gap=0.0, suffix=0.0, agreed=0.0)
    features, right = best_of(seen, weights)
    sure = calibrate.by_the_other_half(features, right)
    shown, final = (torch.tensor([getattr(one, name) for one in seen]) for name in ("shown", "right"))
    kept = (shown & final).sum().clamp(min=1)

    def lost(bound: float) -> float:
        return float((shown & final & (sure < bound)).sum() / kept)

    def as_good(bound: float) -> bool:
        over = sure >= bound
        if int(over.sum()) < calibrate.FEWEST_SHOWN:
            return False
        shown_anyway = bool(shown[over].sum() >= SHOWN_ANYWAY * over.sum())
        return shown_anyway and bool(right[over].sum() >= AS_RIGHT * final[over].sum())

    silent = max((bound for bound in GRID if lost(bound) <= most), default=0.0)
    # None is sure where no bound is good enough.
    bound = min((bound for bound in GRID if bound > silent and as_good(bound)), default=1.0)
    calibration = tuple(round(value, 5) for value in calibrate.fit(features, right))
    over = sure >= bound
    figures = {
        "stopped": float((sure < silent).float().mean()),
        "lost_of_right": lost(silent),
        "answered": float(over.float().mean()),
        "of_shown": float((shown & over).sum() / shown.sum().clamp(min=1)),
        "answered_right": float(right[over].sum() / over.sum().clamp(min=1)),
        "right_in_the_end": float(final[over].sum() / over.sum().clamp(min=1)),
    }
    return EarlyExit(ranking=weights, calibration=calibration, silent=silent, sure=bound), figures


def fit_folder(
    folder: Path, heldout: Path, holes: int, seed: int, most: float, judge: Judge | None
) -> dict[str, object]:
    """Observe, fit, write `midspan.json`; the figures of it."""
    infiller = load_infiller(str(folder), "cpu")
    assert isinstance(infiller, Infiller), "a checkpoint of canvases"
    infiller.judge = judge
    seen = observe(infiller, heldout, holes, seed, judge)
    rule, figures = fit(seen, most)
    write_settings(folder, early_exit=asdict(rule))
    return {"holes": len(seen), "early_exit": asdict(rule), **figures}
