"""Fit how much a cache language model has a say beside the network, on held-out packages; see engine/recall.py.

The gaps' true tokens, and their ends, are made as likely as can be by the mixture. `recall` of `midspan.json` is what
comes out; ranking and confidence are fitted with it, so after it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from midspan.engine.api import Hole
from midspan.engine.beams import FillInTheMiddle
from midspan.engine.engine import load_infiller
from midspan.engine.infill import Infiller
from midspan.engine.recall import LEAST, meant
from midspan.engine.settings import SIGNS, Recall, write_settings
from midspan.engine.training.holes import heldout_holes

RIDGE = 1e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """One token of a gap, or its end: the network's probability of it and greatest one, what was recalled of it.

    `said` are the opinions' shares for it, `signs` what speaks for each opinion.
    """

    own: float
    said: tuple[float, ...]
    signs: tuple[tuple[float, ...], ...]


def observe(infiller: Infiller, heldout: Path, count: int, seed: int) -> list[Token]:
    """The tokens of held-out gaps; gaps that token healing does not allow are left out."""
    fim, out = FillInTheMiddle(infiller.model, infiller.prompt), list[Token]()
    longest = max(infiller.settings.block_slots)
    for number, (hole, truth) in enumerate(heldout_holes(heldout, count, seed), 1):
        layout = infiller.prompt.lay_out(hole)
        gap = tuple(infiller.prompt.encode(layout.heal + truth.rstrip()))
        allowed = infiller.prompt.allowed_first(layout.heal)
        if gap and len(gap) <= longest and (allowed is None or bool(allowed[gap[0]])):
            fim.encode(layout)
            out += tokens_of(fim, hole, gap)
        if number % 100 == 0:
            sys.stderr.write(f"{number}/{count} holes\n")
    return out


@torch.inference_mode()
def tokens_of(fim: FillInTheMiddle, hole: Hole, gap: tuple[int, ...]) -> list[Token]:
    """Of one gap, whose prompt is encoded."""
    layout = fim.prompt.lay_out(hole)
    rules, searched = fim.rules(layout, hole.kind), fim.searched(layout, hole.elsewhere)
    values = fim.distributions(gap, rules)
    ends = values[:, rules.stops].logsumexp(dim=-1).exp()
    sure = torch.maximum(values.masked_fill(rules.stops, -torch.inf).amax(dim=-1).exp(), ends).tolist()
    own = [*values[torch.arange(len(gap)), list(gap)].exp().tolist(), float(ends[-1])]
    out = []
    for at, row in enumerate(values):
        meaning = meant(row > -torch.inf, rules.stops)
        opinions = searched.after(gap[:at], meaning)
        right = meaning[gap[at] if at < len(gap) else int(rules.stops.int().argmax())]
        said = tuple(float(one.shares[one.ids == right].sum()) for one in opinions)
        out.append(Token(own=own[at], said=said, signs=tuple(one.signs(sure[at]) for one in opinions)))
    return out


class Mixture:
    """Tokens as tensors: the probability of each under some weights."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        shape = len(tokens), len(("longest", "last"))
        self._own = torch.tensor([token.own for token in tokens])
        self._said, self._signs = torch.zeros(shape), torch.zeros(*shape, SIGNS)
        self._there = torch.zeros(shape, dtype=torch.bool)
        for row, token in enumerate(tokens):
            for column, (said, signs) in enumerate(zip(token.said, token.signs, strict=True)):
                self._said[row, column], self._there[row, column] = said, True
                self._signs[row, column] = torch.tensor(signs)

    def nats(self, weights: torch.Tensor) -> torch.Tensor:
        """Mean nats a token under the weights [2, SIGNS]."""
        standings = (self._signs * weights).sum(dim=-1).masked_fill(~self._there, -torch.inf)
        shares = torch.cat((torch.zeros(len(standings), 1), standings), dim=1).softmax(dim=1)
        probabilities = shares[:, 0] * self._own + (shares[:, 1:] * self._said).sum(dim=1)
        return -probabilities.clamp(min=LEAST).log().mean()

    @property
    def alone(self) -> float:
        """Mean nats a token of the network by itself."""
        return -float(self._own.clamp(min=LEAST).log().mean())


def fit(mixture: Mixture) -> torch.Tensor:
    """The weights [2, SIGNS] under which the tokens are likeliest; a light ridge keeps what is never seen at zero."""
    weights = torch.zeros(2, SIGNS, requires_grad=True)
    optimiser = torch.optim.LBFGS([weights], max_iter=300, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = mixture.nats(weights) + RIDGE * weights.square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    return weights.detach()


def fit_folder(folder: Path, heldout: Path, holes: int, seed: int) -> dict[str, object]:
    """Observe, fit, write `midspan.json`; the figures of it, on each half by what the other half says."""
    infiller = load_infiller(str(folder), "cpu")
    assert isinstance(infiller, Infiller), "a checkpoint of canvases"
    tokens = observe(infiller, heldout, holes, seed)
    half = len(tokens) // 2
    halves = Mixture(tokens[:half]), Mixture(tokens[half:])
    crossed = (float(halves[0].nats(fit(halves[1]))) + float(halves[1].nats(fit(halves[0])))) / 2
    longest, last = ([round(number, 4) for number in row] for row in fit(Mixture(tokens)).tolist())
    recall = Recall(longest=tuple(longest), last=tuple(last))
    write_settings(folder, recall=asdict(recall))
    alone = (halves[0].alone + halves[1].alone) / 2
    return {"holes": holes, "tokens": len(tokens), "recall": asdict(recall), "nats_alone": alone, "nats": crossed}
