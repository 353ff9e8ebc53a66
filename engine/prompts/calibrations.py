"""Confidences that were fitted for well-known fill-in-the-middle models, and how a model is recognised.

fim_calibrations.json has them by name; benchmarks/calibrate_marks.py fits them. A model is the one of an entry if its
tokenizer's vocabulary has the same digest and its network the same number and width of layers: a base model and one
trained to follow instructions, and files of any number of bits, share an entry.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Annotated

from midspan.engine.marks_settings import Logistic, MarksSettings
from midspan.engine.settings import Share
from midspan.engine.weights.typed_json import Spelled, Within, decode, read_object

CALIBRATIONS = Path(__file__).with_name("fim_calibrations.json")
# GGUF files fill a vocabulary up with such tokens, which the tokenizer's own file does not have.
FILLED_UP = re.compile(r"\[PAD\d+\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """The calibration of one model, how it is recognised, and the file whose fills it was fitted to."""

    vocabulary: Annotated[str, Spelled(r"[0-9a-f]{64}", "a sha256")]
    layers: Annotated[int, Within(1, 512)]
    width: Annotated[int, Within(1, 1 << 17)]
    fitted_to: str
    calibration: Logistic
    show_threshold: Share


@cache
def calibrations() -> dict[str, Fitted]:
    """The entries by the name of their model."""
    return {name: decode(Fitted, one, name) for name, one in read_object(CALIBRATIONS).items()}


def vocabulary_digest(vocabulary: Mapping[str, int]) -> str:
    """The sha256 of a vocabulary: each token with its id, in the order of ids."""
    named = sorted((place, token) for token, place in vocabulary.items() if not FILLED_UP.fullmatch(token))
    text = "".join(f"{place} {token}\n" for place, token in named)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def fitted_for(vocabulary: Callable[[], Mapping[str, int]], layers: int, width: int) -> Fitted | None:
    """The entry of a model by its network's sizes and its vocabulary, in this order; None for one that is not known."""
    alike = [one for one in calibrations().values() if (one.layers, one.width) == (layers, width)]
    digest = vocabulary_digest(vocabulary()) if alike else ""
    return next((one for one in alike if one.vocabulary == digest), None)


def with_fitted(settings: MarksSettings, fitted: Fitted | None) -> MarksSettings:
    """Settings whose confidence is the fitted one, unless the checkpoint's own file gives another."""
    if fitted is None or settings.show.calibration is not None:
        return settings
    least = settings.show.show_threshold
    least = fitted.show_threshold if least is None else least
    return replace(settings, show=replace(settings.show, calibration=fitted.calibration, show_threshold=least))
