"""Fit `hypotheses.ranking` of `midspan.json` on held-out packages: the weights that order hypotheses.

A conditional logit (McFadden 1974) over the holes where one hypothesis is exactly the missing text makes that one the
likeliest. Its coefficients are the weights of Ranking, so a score is a logit.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from midspan.engine.api import Budget, Judge
from midspan.engine.engine import load_infiller
from midspan.engine.hypotheses.hypothesis import Hypothesis
from midspan.engine.hypotheses.syntax import SyntaxChecker
from midspan.engine.hypotheses.task import PATIENT
from midspan.engine.infill import Infiller
from midspan.engine.settings import FEATURES, Ranking
from midspan.engine.training.holes import HeldOut
from midspan.engine.weights.midspan_json import write_settings

RIDGE = 0.1
# The last, a syntax error's cost, is not part of a score.
WEIGHTS = tuple(field.name for field in fields(Ranking))


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One hole's hypotheses: the terms that Ranking weighs, in its order [N, W], and the row that is right, if any."""

    signs: torch.Tensor
    right: int | None


def signs_of(one: Hypothesis) -> list[float]:
    """The terms of one hypothesis that Ranking weighs, in the order of its fields."""
    known = dict(zip(FEATURES, one.features, strict=True))
    known["suffix_sum"] = one.log_probability - known["gap_sum"]
    alone = [Ranking(**{name: float(name == one_name) for name in WEIGHTS}) for one_name in WEIGHTS[:-1]]
    return [*(weight.score(known) for weight in alone), -float(not one.parses)]


def observe(infiller: Infiller, heldout: HeldOut) -> list[Choice]:
    """The hypotheses of the holes, as the engine finds them."""
    out = []
    for number, (hole, truth) in enumerate(heldout.holes(), 1):
        found = infiller.infill(hole, Budget(seed=number), PATIENT)
        texts = [infiller.prompt.text(list(one.ids), found.layout).rstrip() for one in found.ranked]
        if texts:
            right = texts.index(truth.rstrip()) if truth.rstrip() in texts else None
            # The engine asks the judge about the likeliest only.
            checker = SyntaxChecker(infiller.judge, hole, infiller.prompt, found.layout)
            signs = [signs_of(replace(one, parses=checker.parses(one))) for one in found.ranked]
            out.append(Choice(signs=torch.tensor(signs), right=right))
    return out


def fit(choices: list[Choice]) -> Ranking:
    """The coefficients, none below zero. A light ridge keeps the weight of a term that is never seen at zero."""
    decided = [choice for choice in choices if choice.right is not None]
    spread = torch.cat([choice.signs for choice in decided]).std(dim=0).clamp(min=1e-3)
    signs = nn.utils.rnn.pad_sequence([choice.signs / spread for choice in decided], batch_first=True)
    counts = torch.tensor([len(choice.signs) for choice in decided])
    absent = torch.arange(signs.shape[1]) >= counts[:, None]
    right = torch.tensor([choice.right for choice in decided])
    roots = torch.full((len(spread),), 0.5, requires_grad=True)
    optimiser = torch.optim.LBFGS([roots], max_iter=300, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        weights = roots.square()
        score = (signs @ weights).masked_fill(absent, -torch.inf)
        loss = F.cross_entropy(score, right) + RIDGE / len(decided) * weights.square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    return Ranking(*(round(float(weight), 4) for weight in roots.detach().square() / spread))


def accuracy(choices: list[Choice], ranking: Ranking) -> float:
    """The share of holes whose best hypothesis is right."""
    weights = torch.tensor([float(getattr(ranking, name)) for name in WEIGHTS])
    return sum(int((choice.signs @ weights).argmax()) == choice.right for choice in choices) / len(choices)


def fit_folder(folder: Path, heldout: HeldOut, judge: Judge | None) -> dict[str, object]:
    """Observe, fit and write `midspan.json`. Returns the figures, of each half by the fit of the other half."""
    infiller = load_infiller(str(folder), "cpu")
    assert isinstance(infiller, Infiller), "a checkpoint of canvases"
    infiller.judge = judge
    choices = observe(infiller, heldout)
    ranking, half = fit(choices), len(choices) // 2
    crossed = (accuracy(choices[:half], fit(choices[half:])) + accuracy(choices[half:], fit(choices[:half]))) / 2
    write_settings(folder, hypotheses={"ranking": asdict(ranking)})
    among = sum(choice.right is not None for choice in choices) / len(choices)
    before = accuracy(choices, infiller.settings.hypotheses.ranking)
    return {"holes": len(choices), "ranking": asdict(ranking), "any": among, "exact": crossed, "exact_before": before}
