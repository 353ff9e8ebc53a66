"""`midspan.json` beside a checkpoint's config: how this checkpoint wants its gaps laid out, and its calibration."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from midspan.engine.api import CheckpointError
from midspan.engine.features import FEATURES
from midspan.engine.released import CHAT_LAYOUTS, complaint, defaults

# Left-over slots of a canvas hold filler; or filler parts suffix and prefix, and the gap is written behind both; or the
# gap is asked for as in a chat, and the canvas holds the answer, or the gap and the suffix (chat.py).
LAYOUTS = ("filler", "fim", *CHAT_LAYOUTS)
# What may be offered for a selection; `midspan.json` names what the checkpoint does well, or its layout decides.
ACTIONS = ("refill", "lightly", "half", "fully", "finish", "placeholder", "docstring", "quickfix")
ACTIONS_BY_LAYOUT = {
    # The embedded model, which does not say what code is for and takes no message into account.
    "filler": ("refill", "lightly", "half", "fully", "finish", "placeholder"),
    # No part of a draft can be renoised.
    "fim": ("refill", "finish", "placeholder"),
}
Quantize = Literal["none", "fp8", "int4"]
QUANTIZE: tuple[Quantize, ...] = ("none", "fp8", "int4")
OPTIONAL = {
    *("actions", "around_beams", "beams", "context_tokens", "early_exit", "length_bias", "neighbours", "promising"),
    *("quantize", "ranking", "suffix_tokens", "thought"),
}


@dataclass(frozen=True, slots=True)
class Ranking:
    """What hypotheses are ordered by: weights of log-probabilities in nats, of evidence, and a syntax error's cost.

    `gap` and `suffix` weigh the causal reading, `middle` and `end` what fill-in-the-middle says of the gap and its end,
    `root` the square root of the probability of both, `evidence` what lines near by say, `agreed` that both a canvas
    and a beam came to it.
    """

    gap: float = 1.0
    suffix: float = 1.0
    evidence: float = 0.0
    middle: float = 0.0
    end: float = 0.0
    agreed: float = 0.0
    root: float = 0.0
    # More nats than any hypothesis makes good.
    syntax: float = 1000.0

    def standing(self, known: Mapping[str, float]) -> float:
        """Of one hypothesis by its FEATURES and the suffix's sum, in nats; what does not parse is put back later."""
        return (
            self.gap * known["gap_sum"]
            + self.suffix * known["suffix_sum"]
            + self.evidence * known["nearby"]
            + self.middle * known["middle_sum"]
            + self.end * known["end"]
            + self.agreed * known["drawn"] * known["beam"]
            + self.root * known["middle_root"]
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlyExit:
    """When an answer is known before a canvas is denoised, by what beams and lines near by say.

    `ranking` orders them, `calibration` gives the best one's confidence: below `silent` nothing is filled, from `sure`
    on that one is the fill, and between the two canvases are asked.
    """

    ranking: Ranking
    calibration: tuple[float, ...]
    silent: float
    sure: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointSettings:
    """One checkpoint's own settings; token counts, temperatures and logistic weights.

    `neighbours` is how many texts from lines near by compete with what the canvases come to, `beams` how many that are
    written from left to right (0 for a checkpoint that was not taught to); `ranking` orders them all.
    `around_beams` is how many tokens the gap lengths that are tried may be off what the beams came to; None for any.
    `context_tokens` is how much of a hole's context the encoder sees before the prefix: 0 for a checkpoint without.
    `suffix_tokens` is how much of the text behind the gap a chat's question shows, `thought` whether an empty thought
    stands before its answer. `length_bias` is what each length of `slots`, then each of `block_slots`, gains in nats by
    its size alone (lengths.py); none is zeros.
    `promising` says when a gap may come to something that is shown: where the likeliest beam has so many nats or more,
    or a line near by so much evidence; None where that is not known.
    `early_exit` is an EarlyExit for fills that are wanted only if they are sure; None asks canvases every time.
    `calibration` holds the bias and the weights of FEATURES; confidence is their logistic.
    """

    layout: str
    filler_id: int
    slots: tuple[int, ...]
    block_slots: tuple[int, ...]
    draws: int
    keep: int
    prefix_tokens: int
    reuse_suffix: bool
    steps: int
    t_min: float
    t_max: float
    entropy_bound: float
    confidence_threshold: float
    languages: tuple[str, ...]
    show_threshold: float
    calibration: tuple[float, ...]
    actions: tuple[str, ...] | None = None
    context_tokens: int = 0
    neighbours: int = 0
    beams: int = 0
    around_beams: int | None = None
    ranking: Ranking = Ranking()
    quantize: Quantize = "none"
    suffix_tokens: int = 0
    thought: bool = True
    length_bias: tuple[float, ...] = ()
    promising: tuple[float, float] | None = None
    early_exit: EarlyExit | None = None

    @property
    def offered(self) -> tuple[str, ...]:
        """The code actions that the checkpoint does well: as it says, else as its layout lets it."""
        return ACTIONS_BY_LAYOUT.get(self.layout, ACTIONS) if self.actions is None else self.actions


def read_settings(folder: Path) -> CheckpointSettings:
    """Read `midspan.json`; a checkpoint without one is taken for the released one.

    Raises CheckpointError naming the file and what is wrong with it.
    """
    file = folder / "midspan.json"
    if not file.is_file():
        return CheckpointSettings(**defaults())
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{file}: not valid JSON ({error}); restore it from the checkpoint's source") from error
    names = {field.name for field in fields(CheckpointSettings)}
    if isinstance(values, dict):
        values = {**defaults(str(values.get("layout"))), **values}
    if not isinstance(values, dict) or not names - OPTIONAL <= values.keys() <= names:
        wrong = sorted((names ^ set(values)) - OPTIONAL) if isinstance(values, dict) else "not an object"
        raise CheckpointError(f"{file}: missing or unknown keys {wrong}; it must have exactly {sorted(names)}")
    if (problem := _problem(values)) is not None:
        raise CheckpointError(f"{file}: {problem}")
    values["ranking"] = Ranking(**values.get("ranking", {}))
    if (early := values.get("early_exit")) is not None:
        weights = {"ranking": Ranking(**early["ranking"]), "calibration": tuple(early["calibration"])}
        values["early_exit"] = EarlyExit(**(early | weights))
    kept: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    return CheckpointSettings(**kept)


def write_settings(folder: Path, **values: object) -> None:
    """Put values into the folder's `midspan.json`; its other keys stay as they are."""
    file = folder / "midspan.json"
    known = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({**known, **values}, indent=2) + "\n", encoding="utf-8")


def _problem(values: dict[str, Any]) -> str | None:
    """What is wrong with the value of a key, and the mend."""
    known = ", ".join(field.name for field in fields(Ranking))
    ranking, numbers = values.get("ranking", {}), len(values["calibration"])
    if not set(values.get("actions") or ()) <= set(ACTIONS):
        return f"unknown actions {values['actions']}; this version knows {', '.join(ACTIONS)}"
    if values["layout"] not in LAYOUTS:
        return f"layout {values['layout']!r} is not supported; this version knows {' and '.join(map(repr, LAYOUTS))}"
    if values["layout"] == "fim" and values.get("context_tokens"):
        return "layout 'fim' takes no context; set context_tokens to 0"
    if values.get("quantize", "none") not in QUANTIZE:
        return f"quantize {values['quantize']!r} is none of {', '.join(QUANTIZE)}; take one"
    if not isinstance(ranking, dict) or not ranking.keys() <= set(known.split(", ")):
        return f"ranking {ranking!r} is no object of weights; it may have {known}"
    if len(values.get("promising") or (0, 0)) != 2:
        return f"promising {values['promising']!r} is not two numbers; fit it again or leave it out"
    if (early := values.get("early_exit")) is not None and not _is_early_exit(early):
        return "early_exit is not what this version fits; fit it again or leave it out"
    if numbers != len(FEATURES) + 1:
        return f"calibration has {numbers} numbers for a bias and {len(FEATURES)} features; calibrate it again"
    return complaint(values)


def _is_early_exit(value: object) -> bool:
    """Whether an EarlyExit can be made of it."""
    if not isinstance(value, dict) or value.keys() != {field.name for field in fields(EarlyExit)}:
        return False
    weights, known = value["ranking"], {field.name for field in fields(Ranking)}
    return isinstance(weights, dict) and weights.keys() <= known and len(value["calibration"]) == len(FEATURES) + 1
