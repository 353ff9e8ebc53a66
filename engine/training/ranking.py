"""Fit what hypotheses are ordered by, on held-out packages, and store it in `midspan.json`.

Of every hole where one hypothesis is exactly the missing text, a conditional logit (McFadden 1974) makes that one the
likeliest: the weights of Ranking are its coefficients, so a standing is a logit too.
"""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from midspan.engine.api import Budget, Judge
from midspan.engine.engine import load_infiller
from midspan.engine.features import FEATURES
from midspan.engine.hypotheses.hypothesis import Hypothesis
from midspan.engine.hypotheses.syntax import SyntaxChecker
from midspan.engine.hypotheses.task import PATIENT
from midspan.engine.infill import Infiller
from midspan.engine.settings import Ranking, write_settings
from midspan.engine.training.holes import heldout_holes

RIDGE = 0.1
# The last, of an error in the syntax, is not part of a standing.
WEIGHTS = tuple(field.name for field in fields(Ranking))


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One hole's hypotheses: what Ranking weighs, in its order [N, W], and which one is right, if any is."""

    signs: torch.Tensor
    right: int | None


def signs_of(one: Hypothesis) -> list[float]:
    """What Ranking weighs of a hypothesis, in the order of its fields."""
    known = dict(zip(FEATURES, one.features, strict=True))
    known["suffix_sum"] = one.log_probability - known["gap_sum"]
    alone = [Ranking(**{name: float(name == one_name) for name in WEIGHTS}) for one_name in WEIGHTS[:-1]]
    return [*(weight.standing(known) for weight in alone), -float(not one.parses)]


def observe(infiller: Infiller, heldout: Path, count: int, seed: int) -> list[Choice]:
    """Every hole's hypotheses, as the engine finds them."""
    out = []
    for number, (hole, truth) in enumerate(heldout_holes(heldout, count, seed), 1):
        found = infiller.infill(hole, Budget(seed=number), PATIENT)
        texts = [infiller.prompt.text(list(one.ids), found.layout).rstrip() for one in found.ranked]
        if texts:
            right = texts.index(truth.rstrip()) if truth.rstrip() in texts else None
            # The engine asks the judge of the likeliest only.
            checked = SyntaxChecker(infiller.judge, hole, infiller.prompt, found.layout)
            signs = [signs_of(replace(one, parses=checked.parses(one))) for one in found.ranked]
            out.append(Choice(signs=torch.tensor(signs), right=right))
        if number % 50 == 0:
            sys.stderr.write(f"{number}/{count} holes\n")
    return out


def fit(choices: list[Choice]) -> Ranking:
    """The coefficients, none below zero; a light ridge keeps what is never seen at zero."""
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
        standing = (signs @ weights).masked_fill(absent, -torch.inf)
        loss = F.cross_entropy(standing, right) + RIDGE / len(decided) * weights.square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    return Ranking(*(round(float(weight), 4) for weight in roots.detach().square() / spread))


def accuracy(choices: list[Choice], ranking: Ranking) -> float:
    """The share of holes whose best hypothesis is right."""
    weights = torch.tensor([float(getattr(ranking, name)) for name in WEIGHTS])
    return sum(int((choice.signs @ weights).argmax()) == choice.right for choice in choices) / len(choices)


def fit_folder(folder: Path, heldout: Path, holes: int, seed: int, judge: Judge | None) -> dict[str, object]:
    """Observe, fit, write `midspan.json`; the figures of it, on each half by what the other half says."""
    infiller = load_infiller(str(folder), "cpu")
    assert isinstance(infiller, Infiller), "a checkpoint of canvases"
    infiller.judge = judge
    choices = observe(infiller, heldout, holes, seed)
    ranking, half = fit(choices), len(choices) // 2
    crossed = (accuracy(choices[:half], fit(choices[half:])) + accuracy(choices[half:], fit(choices[:half]))) / 2
    write_settings(folder, ranking=asdict(ranking))
    among = sum(choice.right is not None for choice in choices) / len(choices)
    before = accuracy(choices, infiller.settings.ranking)
    return {"holes": len(choices), "ranking": asdict(ranking), "any": among, "exact": crossed, "exact_before": before}
