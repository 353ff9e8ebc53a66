"""Fit `show.early_exit` of `midspan.json` on held-out packages: which gaps are answered before a canvas is denoised.

Gaps are filled to the end. What was there before a canvas gets a ranking and a confidence of its own. As many gaps as
possible are answered early: rejected, while at most a share of the fills that are shown and right is lost; accepted,
while as many of the accepted are right as in the end, and nearly all of them would be shown.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from midspan.engine.api import Budget, Judge
from midspan.engine.engine import load_infiller
from midspan.engine.hypotheses.early_exit import rank_proposals
from midspan.engine.hypotheses.syntax import FARTHEST, SyntaxChecker
from midspan.engine.hypotheses.task import PATIENT
from midspan.engine.infill import Infiller
from midspan.engine.settings import FEATURES, EarlyExit, Ranking
from midspan.engine.training import calibrate, ranking
from midspan.engine.training.holes import HeldOut
from midspan.engine.weights.midspan_json import write_settings

GRID = tuple(step / 100 for step in range(1, 100))
# Shares of the accepted: shown in the end as well, and right relative to the end.
SHOWN_ANYWAY, AS_RIGHT = 0.95, 0.98


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One gap: the hypotheses before a canvas, the FEATURES of each [N, F], and whether the end was shown and right."""

    choice: ranking.Choice
    features: torch.Tensor
    shown: bool
    right: bool


def observe(infiller: Infiller, heldout: HeldOut, judge: Judge | None) -> list[Seen]:
    """The holes, each as the engine fills it, without those that have no hypothesis before a canvas."""
    out = []
    for number, (hole, truth) in enumerate(heldout.holes(), 1):
        found = infiller.infill(hole, Budget(seed=number), PATIENT)
        checker = SyntaxChecker(judge, hole, infiller.prompt, found.layout)
        ranked, _ = rank_proposals(found.proposals, infiller.settings.hypotheses.ranking)
        first = [(one, checker.parses(one)) for one in ranked]
        texts = [infiller.prompt.text(list(one.ids), found.layout).rstrip() == truth.rstrip() for one, _ in first]
        if first:
            signs = [[*ranking.signs_of(one)[:-1], -float(not parses)] for one, parses in first]
            features = [[*one.features[:-1], float(parses)] for one, parses in first]
            best, show = (found.ranked[0] if found.ranked else None), infiller.settings.show
            text = "" if best is None else infiller.prompt.text(list(best.ids), found.layout).rstrip()
            out.append(
                Seen(
                    choice=ranking.Choice(signs=torch.tensor(signs), right=texts.index(True) if any(texts) else None),
                    features=torch.tensor(features),
                    shown=best is not None and best.confidence(show.calibration) >= show.show_threshold,
                    right=text == truth.rstrip(),
                )
            )
    return out


def best_of(seen: list[Seen], weights: Ranking) -> tuple[torch.Tensor, torch.Tensor]:
    """FEATURES [N, F] of each gap's best by a ranking, with its margin, and whether it is right [N]."""
    by, features, right = torch.tensor([float(value) for value in asdict(weights).values()]), [], []
    for one in seen:
        score = one.choice.signs @ by
        order = score.argsort(descending=True)
        row = one.features[order[0]].clone()
        margin = score[order[0]] - score[order[1]] if len(order) > 1 else torch.tensor(FARTHEST)
        row[FEATURES.index("margin")] = margin.clamp(max=FARTHEST)
        features.append(row)
        right.append(float(one.choice.right == int(order[0])))
    return torch.stack(features), torch.tensor(right)


def fit(seen: list[Seen], most: float) -> tuple[EarlyExit, dict[str, float]]:
    """The rule, and the shares that it comes to; each half's confidences are by the regression of the other half."""
    # Nothing is read causally yet, and no canvas can agree.
    weights = replace(ranking.fit([one.choice for one in seen]), gap=0.0, suffix=0.0, agreed=0.0)
    features, right = best_of(seen, weights)
    confidence = calibrate.by_the_other_half(features, right)
    shown, final = (torch.tensor([getattr(one, name) for one in seen]) for name in ("shown", "right"))
    kept = (shown & final).sum().clamp(min=1)

    def lost(bound: float) -> float:
        return float((shown & final & (confidence < bound)).sum() / kept)

    def as_good(bound: float) -> bool:
        over = confidence >= bound
        if int(over.sum()) < calibrate.FEWEST_SHOWN:
            return False
        shown_anyway = bool(shown[over].sum() >= SHOWN_ANYWAY * over.sum())
        return shown_anyway and bool(right[over].sum() >= AS_RIGHT * final[over].sum())

    reject = max((bound for bound in GRID if lost(bound) <= most), default=0.0)
    # None is accepted where no bound is good enough.
    accept = min((bound for bound in GRID if bound > reject and as_good(bound)), default=1.0)
    calibration = tuple(round(value, 5) for value in calibrate.fit(features, right))
    over = confidence >= accept
    figures = {
        "stopped": float((confidence < reject).float().mean()),
        "lost_of_right": lost(reject),
        "answered": float(over.float().mean()),
        "of_shown": float((shown & over).sum() / shown.sum().clamp(min=1)),
        "answered_right": float(right[over].sum() / over.sum().clamp(min=1)),
        "right_in_the_end": float(final[over].sum() / over.sum().clamp(min=1)),
    }
    return EarlyExit(ranking=weights, calibration=calibration, reject=reject, accept=accept), figures


def fit_folder(folder: Path, heldout: HeldOut, most: float, judge: Judge | None) -> dict[str, object]:
    """Observe, fit and write `midspan.json`. Returns the figures."""
    infiller = load_infiller(str(folder), "cpu")
    assert isinstance(infiller, Infiller), "a checkpoint of canvases"
    infiller.judge = judge
    seen = observe(infiller, heldout, judge)
    rule, figures = fit(seen, most)
    write_settings(folder, show={"early_exit": asdict(rule)})
    return {"holes": len(seen), "early_exit": asdict(rule), **figures}
