"""Gap lengths, batched hypotheses, and the causal reading that ranks them and says how likely each is right."""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import zip_longest

import torch

from midspan.engine.cache import Cache
from midspan.engine.canvas import Canvas
from midspan.engine.hypotheses.beam_search import LEAST, Beam
from midspan.engine.model import DiffusionGemma
from midspan.engine.prompts.prompt import Layout, Prompt
from midspan.engine.settings import FEATURES, Ranking, SearchFloor

SUFFIX_HEAD = 6
FARTHEST = 10.0
# Fill-in-the-middle was never taught that nothing is missing.
NOTHING_MISSING = Beam(end=LEAST)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """One finished hypothesis: its gap ids, the joint log-probability of gap and suffix head, the FEATURES (nats).

    `early` is the confidence that it was given before a canvas was denoised, None where canvases were.
    `standing` is what it is ranked by (nats): the joint log-probability, weighed with what else speaks for it. Of the
    features, `margin` is how far it stands before the next, FARTHEST at most; `parses` is 1 where no judge objects, or
    none was asked.
    """

    ids: tuple[int, ...]
    log_probability: float
    standing: float
    features: tuple[float, ...]
    ended: bool
    parses: bool = True
    early: float | None = None

    def confidence(self, calibration: tuple[float, ...]) -> float:
        """The share of fills with these features that are right, by logistic regression (bias first)."""
        if self.early is not None:
            return self.early
        bias, *weights = calibration
        logit = bias + sum(w * f for w, f in zip(weights, self.features, strict=True))
        return 1.0 / (1.0 + math.exp(-max(-50.0, min(50.0, logit))))


Gap = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rivals:
    """Hypotheses that no canvas came to: of lines near by, with their evidence, and of a beam search.

    `read` gives fill-in-the-middle's reading of other gaps; None where the checkpoint has no beams. `known` are those
    that it has given.
    """

    nearby: Mapping[Gap, float] = field(default_factory=dict)
    beams: Mapping[Gap, Beam] = field(default_factory=dict)
    read: Callable[[list[Gap]], list[Beam]] | None = None
    known: Mapping[Gap, Beam] = field(default_factory=dict)

    def promise(self, least: SearchFloor | None) -> bool:
        """Whether a beam has so many nats at `least`, or a line near by so much evidence; True for None."""
        if least is None:
            return True
        likely = any(beam.log_probability >= least.log_prob for beam in self.beams.values())
        return likely or any(evidence >= least.evidence for evidence in self.nearby.values())

    @property
    def lengths(self) -> set[int]:
        """How many tokens the beams have; where there is none, the lines near by."""
        return {len(gap) for gap in self.beams or self.nearby}

    def middles(self, gaps: list[Gap]) -> dict[Gap, Beam]:
        """Every gap's reading by fill-in-the-middle; none at all without beams."""
        if self.read is None:
            return {}
        there = {(): NOTHING_MISSING, **self.known, **self.beams}
        return there | {beam.ids: beam for beam in self.read([gap for gap in gaps if gap not in there])}


def lay_canvases(
    layout: Layout, prompt: Prompt, slots: tuple[int, ...], draws: int, width: int, device: torch.device
) -> Canvas:
    """One canvas for each slot size and draw: free slots, then frozen suffix up to `width` [B, width]."""
    rows = [size for size in slots for _ in range(draws)]
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    free = torch.zeros(len(rows), width, dtype=torch.bool)
    valid = torch.zeros_like(free)
    for row, size in enumerate(rows):
        tail = layout.suffix[: width - size]
        free[row, :size] = True
        ids[row, size : size + len(tail)] = torch.tensor(tail, dtype=torch.long)
        valid[row, : size + len(tail)] = True
    allowed = prompt.allowed_first(layout.heal)
    return Canvas(
        ids=ids.to(device),
        free=free.to(device),
        valid=None if bool(valid.all()) else valid.to(device),
        allowed_first=None if allowed is None else allowed.to(device),
        banned=prompt.banned,
    )


@torch.inference_mode()
def rank(
    model: DiffusionGemma,
    cache: Cache,
    last_hidden: torch.Tensor,
    drafts: torch.Tensor,
    canvas: Canvas,
    layout: Layout,
    prompt: Prompt,
    rivals: Rivals,
    weights: Ranking,
) -> list[Scored]:
    """Distinct hypotheses, of finished drafts [B, C] and of their rivals, the best first.

    Each is read causally as gap + the first SUFFIX_HEAD suffix ids, so that gaps of unequal length compete on the
    joint probability of the same text after them.
    """
    head = layout.suffix[:SUFFIX_HEAD]
    gaps: dict[Gap, bool] = {}
    for row, size in enumerate(canvas.gap_sizes):
        slots = drafts[row, :size].tolist()
        gap = tuple(prompt.gap_ids(slots))
        gaps[gap] = gaps.get(gap, False) or len(gap) < len(slots)
    found = set(gaps)
    gaps |= dict.fromkeys([*rivals.nearby, *rivals.beams], True)
    if not head:
        gaps.pop((), None)
    if not gaps:
        return []
    texts = [[*gap, *head] for gap in gaps]
    read = _token_log_probabilities(model, cache, last_hidden, texts, canvas.allowed_first)
    middles = rivals.middles(list(gaps))
    scored = [
        _scored(gap, values, ended, gap in found, rivals, middles.get(gap, Beam()), weights)
        for values, (gap, ended) in zip(read, gaps.items(), strict=True)
    ]
    return sorted(scored, key=lambda one: one.standing, reverse=True)


@torch.inference_mode()
def rank_rivals(rivals: Rivals, weights: Ranking) -> tuple[list[Scored], Rivals]:
    """What is there before a canvas is denoised, read by fill-in-the-middle alone, the best first; and what was read.

    Of the FEATURES those of the causal reading are zero, and none was drawn.
    """
    gaps = [*dict.fromkeys((*rivals.beams, *rivals.nearby))]
    middles = rivals.middles(gaps)
    scored = [_scored(gap, [], True, False, rivals, middles.get(gap, Beam()), weights) for gap in gaps]
    return sorted(scored, key=lambda one: one.standing, reverse=True), replace(rivals, known=middles)


def _scored(
    gap: Gap, values: list[float], ended: bool, drawn: bool, rivals: Rivals, middle: Beam, weights: Ranking
) -> Scored:
    """A hypothesis that nothing stands before or behind yet, by its two readings and who came to it."""
    own, suffix = values[: len(gap)], values[len(gap) :]
    root = 0.0 if middle.end is None else math.exp(middle.log_probability / 2)
    evidence = rivals.nearby.get(gap, 0.0)
    by_middle = (sum(middle.values), min(middle.values, default=0.0), middle.end or 0.0, root, evidence * root)
    who = (float(drawn), evidence)
    features = (*_summary(own), *_summary(suffix)[:2], *who, *by_middle, float(gap in rivals.beams), 0.0, 1.0)
    known = dict(zip(FEATURES, features, strict=True)) | {"suffix_sum": sum(suffix)}
    standing = weights.score(known)
    return Scored(ids=gap, log_probability=sum(values), standing=standing, features=features, ended=ended)


def judged(
    ranked: list[Scored],
    parses: Callable[[Scored], bool],
    penalty: float = Ranking().syntax,
    enough: Callable[[list[Scored]], bool] = lambda order: False,
) -> list[Scored]:
    """Hypotheses in their final order, what does not parse `penalty` nats worse; with their `margin` and `parses`.

    They are judged from the likeliest on, until `enough` is known of the order: a parse may cost as much as a denoise
    step. What is left stands behind, unjudged.
    """

    def standing(one: Scored) -> float:
        return one.standing - (0.0 if one.parses else penalty)

    left = sorted(ranked, key=lambda one: one.standing, reverse=True)
    wrong, order = list[Scored](), list[Scored]()
    while (left or wrong) and not enough(order):
        if wrong and (not left or standing(wrong[0]) > left[0].standing):
            order.append(wrong.pop(0))
        elif parses(one := left.pop(0)):
            order.append(replace(one, parses=True))
        else:
            insort(wrong, replace(one, parses=False), key=lambda one: -standing(one))
    order += sorted((*wrong, *left), key=standing, reverse=True)
    out = []
    for one, after in zip_longest(order, order[1:]):
        margin = FARTHEST if after is None else min(FARTHEST, standing(one) - standing(after))
        out.append(replace(one, features=(*one.features[:-2], margin, float(one.parses))))
    return out


def after(head: Scored, tail: Scored) -> Scored:
    """The next block's hypothesis behind the best of the blocks before it."""
    return replace(together(head, tail), ids=head.ids + tail.ids)


def together(head: Scored, tail: Scored) -> Scored:
    """A hypothesis that was read in two parts: as likely as both, as sure as the less sure."""
    return replace(
        tail,
        log_probability=head.log_probability + tail.log_probability,
        standing=head.standing + tail.standing,
        features=tuple(map(min, head.features, tail.features)),
    )


def _summary(values: list[float]) -> tuple[float, float, float]:
    """Mean, minimum and sum; zeros for nothing."""
    return (sum(values) / len(values), min(values), sum(values)) if values else (0.0, 0.0, 0.0)


def _token_log_probabilities(
    model: DiffusionGemma,
    cache: Cache,
    last_hidden: torch.Tensor,
    texts: list[list[int]],
    allowed_first: torch.Tensor | None,
) -> list[list[float]]:
    """Log-probability of every id of each text given the cache and the ids before it, in nats.

    The first id's is renormalised over the tokens that token healing allows. The vocabulary is read for ids that are
    there only, not for what fills the batch up.
    """
    first = model.logits(last_hidden)
    if allowed_first is not None:
        first = first.masked_fill(~allowed_first, -torch.inf)
    # An empty gap has a first suffix id that healing may not allow: a very unlikely fill, not an impossible one.
    begins = first.log_softmax(dim=-1)[[text[0] for text in texts]].clamp(min=-30.0).tolist()
    wanted = [token for text in texts for token in text[1:]]
    if not wanted:
        return [[value] for value in begins]
    hidden, rows = model.score([text[:-1] for text in texts], cache)
    values = model.log_probabilities(hidden, rows, torch.tensor(wanted, device=model.device)).clamp(min=-30.0)
    rest = values.split([len(text) - 1 for text in texts])
    return [[begin, *values.tolist()] for begin, values in zip(begins, rest, strict=True)]
