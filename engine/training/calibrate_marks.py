"""Fit a confidence for a model that writes gaps between its tokenizer's marks, on held-out files of several languages.

The confidence is a logistic regression, see `Logistic` in marks_settings.py, from the network's probability of a fill,
its number of tokens, being a whole line and an error of syntax to "the fill is exactly the text that stood there".
Holes are ends of lines and whole lines. The threshold is the lowest confidence above which at least a given share of
the fills were right.
"""

from __future__ import annotations

import json
import math
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from midspan.engine.api import Budget, GapKind, Hole
from midspan.engine.hypotheses.task import PATIENT
from midspan.engine.left_to_right import LeftToRight
from midspan.engine.training.calibrate import by_the_other_half, cost, fit, threshold
from midspan.engine.training.holes import PREFIX_CHARS, SUFFIX_CHARS

LEAST_CHARACTERS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One hole's fill: nats in all, tokens with the end, whether its syntax is wrong, whether it is right."""

    language: str
    kind: str
    log_probability: float
    length: int
    error: bool
    right: bool

    @property
    def features(self) -> tuple[float, ...]:
        """What the weights of a `Logistic` stand before, in their order."""
        return math.exp(self.log_probability), float(self.length), float(self.kind == "line"), float(self.error)


def holes(file: Path, count: int, seed: int) -> Iterator[tuple[Hole, str]]:
    """`count` holes of each language of a multilingual heldout.jsonl, in turns, with the text that stood there."""
    chance, texts = random.Random(seed), defaultdict[str, list[str]](list)
    for row in file.read_text(encoding="utf-8").splitlines():
        found = json.loads(row)
        texts[found["language"]].append(found["text"])
    for number in range(count):
        for language in sorted(texts):
            yield _hole(chance, language, texts[language], whole=number % 2 == 0)


def _hole(chance: random.Random, language: str, texts: Sequence[str], *, whole: bool) -> tuple[Hole, str]:
    """A whole line, or the end of one, of a file of this language."""
    while True:
        lines = chance.choice(texts).split("\n")
        row = chance.randrange(len(lines))
        indent = len(lines[row]) - len(lines[row].lstrip())
        if len(lines[row].strip()) < LEAST_CHARACTERS:
            continue
        column = indent if whole else chance.randrange(indent + 1, len(lines[row]))
        prefix = "\n".join([*lines[:row], lines[row][:column]])[-PREFIX_CHARS:]
        suffix = "\n".join(["", *lines[row + 1 :]])[:SUFFIX_CHARS]
        kind: GapKind = "line" if whole else "rest_of_line"
        return Hole(prefix=prefix, suffix=suffix, kind=kind, language=language), lines[row][column:]


def observe(path: LeftToRight, hole: Hole, truth: str) -> Seen | None:
    """The likeliest fill of a hole; None where there is none."""
    out = path.infill(hole, Budget(), PATIENT)
    if not out.ranked:
        return None
    best = out.ranked[0]
    text = path.prompt.text(list(best.ids), out.layout)
    return Seen(
        language=hole.language,
        kind=hole.kind,
        log_probability=best.log_probability,
        length=len(best.ids) + 1,
        error=not best.parses,
        right=text.rstrip() == truth.rstrip(),
    )


def fitted(seen: Sequence[Seen], precision: float) -> dict[str, Any]:
    """The entry of fim_calibrations.json, and what it comes to by halves of the holes that it was not fitted on."""
    features = torch.tensor([one.features for one in seen])
    right = torch.tensor([float(one.right) for one in seen])
    confidence = by_the_other_half(features, right)
    names = ("bias", "probability", "length", "line", "error")
    calibration = dict(zip(names, (round(value, 4) for value in fit(features, right)), strict=True))
    least = threshold(confidence, right, precision)
    shown = confidence >= least

    def by(words: Sequence[str]) -> dict[str, dict[str, float | None]]:
        groups = {word: torch.tensor([one == word for one in words]) for word in sorted(set(words))}
        return {word: _share(shown[of], right[of]) for word, of in groups.items()}

    return {
        "calibration": calibration,
        "show_threshold": least,
        "holes": len(seen),
        "nats": round(cost(confidence, right), 4),
        "languages": by([one.language for one in seen]) | {"all": _share(shown, right)},
        "kinds": by([one.kind for one in seen]),
    }


def _share(shown: torch.Tensor, right: torch.Tensor) -> dict[str, float | None]:
    """Of some holes: the share that is right, that is shown, and that is right of what is shown."""
    of_them = round(float(right[shown].mean()), 4) if bool(shown.any()) else None
    return {
        "exact": round(float(right.mean()), 4),
        "shown": round(float(shown.float().mean()), 4),
        "right_when_shown": of_them,
    }
