"""Proposals, which are made before a canvas is denoised, and finished hypotheses with their features."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from midspan.engine.hypotheses.beam_search import LOWEST, Beam
from midspan.engine.settings import SearchFloor

Gap = tuple[int, ...]
# Fill-in-the-middle was not trained on empty gaps.
NOTHING_MISSING = Beam(end=LOWEST)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hypothesis:
    """One finished hypothesis: its gap ids, the joint log-probability of gap and suffix head, the FEATURES (nats).

    `score` is what it is ranked by (nats): a weighted sum of log-probabilities and evidence. `ended`
    says that the gap ends behind it. `early_confidence` is its confidence where no canvas was denoised, None elsewhere.
    Of the features, `margin` is its lead over the next hypothesis, FARTHEST at most; `parses` is 1 where no judge
    objects or none was asked.
    """

    ids: Gap
    log_probability: float
    score: float
    features: tuple[float, ...]
    ended: bool
    parses: bool = True
    early_confidence: float | None = None

    def confidence(self, calibration: tuple[float, ...]) -> float:
        """The share of fills with these features that are right, by logistic regression (bias first)."""
        if self.early_confidence is not None:
            return self.early_confidence
        bias, *weights = calibration
        logit = bias + sum(w * f for w, f in zip(weights, self.features, strict=True))
        return 1.0 / (1.0 + math.exp(-max(-50.0, min(50.0, logit))))

    def combined(self, other: Hypothesis) -> Hypothesis:
        """`other`, read after this one as part of the same fill: as likely as both, as sure as the less sure."""
        return replace(
            other,
            log_probability=self.log_probability + other.log_probability,
            score=self.score + other.score,
            features=tuple(map(min, self.features, other.features)),
        )

    def followed_by(self, block: Hypothesis) -> Hypothesis:
        """This one with the next block's hypothesis behind it."""
        return replace(self.combined(block), ids=self.ids + block.ids)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposals:
    """Fills that no canvas produced: those of similar lines, with their evidence, and the beams of a search.

    `read` reads any gaps by fill-in-the-middle; None for a checkpoint without beams. `readings` are earlier results.
    """

    similar_lines: Mapping[Gap, float] = field(default_factory=dict)
    beams: Mapping[Gap, Beam] = field(default_factory=dict)
    read: Callable[[list[Gap]], list[Beam]] | None = None
    readings: Mapping[Gap, Beam] = field(default_factory=dict)

    def reach(self, floor: SearchFloor | None) -> bool:
        """Whether a beam has the floor's log-probability, or a similar line its evidence; True for None."""
        if floor is None:
            return True
        likely = any(beam.log_probability >= floor.log_prob for beam in self.beams.values())
        return likely or any(evidence >= floor.evidence for evidence in self.similar_lines.values())

    @property
    def lengths(self) -> set[int]:
        """The lengths in tokens of the beams or, without beams, of the similar lines."""
        return {len(gap) for gap in self.beams or self.similar_lines}

    def read_all(self, gaps: list[Gap]) -> dict[Gap, Beam]:
        """Every gap's reading by fill-in-the-middle; empty without beams."""
        if self.read is None:
            return {}
        there = {(): NOTHING_MISSING, **self.readings, **self.beams}
        return there | {beam.ids: beam for beam in self.read([gap for gap in gaps if gap not in there])}
