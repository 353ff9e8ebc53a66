"""A checkpoint's own settings, as `midspan.json` beside its config has them, and the bounds of every value.

Token counts, temperatures, log-probabilities in nats, logistic weights. weights/midspan_json.py reads and writes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, get_args

from midspan.engine.weights.typed_json import Count, Spelled, Within

# What a confidence is made of; a `calibration` has a bias, then a weight for each, in this order. Log-probabilities in
# nats of the tokens of the gap and of the suffix's head, read causally; whether a canvas came to the gap (1 or 0); the
# evidence of similar lines; log-probabilities of the gap's tokens and of its end by fill-in-the-middle; the square root
# of the probability of both, in which being right is nearly linear; that root times the evidence (either is enough to
# be sure); whether the beam search came to it (zeros without `beams`); the lead over the next, in nats; whether it
# parses.
FEATURES = (
    *("gap_mean", "gap_min", "gap_sum", "suffix_mean", "suffix_min", "drawn", "similar"),
    *("fim_sum", "fim_min", "end", "fim_root", "similar_root", "beam", "margin", "parses"),
)
Kind = Literal["filler", "fim", "prompted", "clamped"]
# A chat's turns (prompts/chat.py). They have no filler: lengths are tried, or an answer ends with its turn.
CHAT_LAYOUTS: tuple[Kind, ...] = ("prompted", "clamped")
NO_FILLER = -1
Action = Literal["refill", "lightly", "half", "fully", "finish", "placeholder", "docstring", "quickfix"]
# What may be offered for a selection; `show.actions` names what the checkpoint does well, or its layout decides.
ACTIONS: tuple[Action, ...] = get_args(Action)
ACTIONS_BY_LAYOUT: dict[Kind, tuple[Action, ...]] = {
    # The embedded model, which does not say what code is for and takes no message into account.
    "filler": ("refill", "lightly", "half", "fully", "finish", "placeholder"),
    # No part of a draft can be renoised.
    "fim": ("refill", "finish", "placeholder"),
}
Quantize = Literal["none", "fp8", "int4"]
# No tokenizer that is in use has more ids, and no network as long a canvas.
MOST_IDS, MOST_SLOTS = 1 << 20, 4096
Tokens = Annotated[int, Within(0, 1 << 17)]
Slots = Annotated[tuple[Annotated[int, Within(1, MOST_SLOTS)], ...], Count(1, 64)]
Few = Annotated[int, Within(0, 64)]
Some = Annotated[int, Within(1, 64)]
Nats = Annotated[float, Within(0.0, 1000.0)]
Share = Annotated[float, Within(0.0, 1.0)]
Temperature = Annotated[float, Within(0.01, 10.0)]
Weight = Annotated[float, Within(0.0, 10_000.0)]
Calibration = Annotated[
    tuple[Annotated[float, Within(-10_000.0, 10_000.0)], ...], Count(len(FEATURES) + 1, len(FEATURES) + 1)
]
Language = Annotated[str, Spelled(r"[A-Za-z0-9_.+#-]{1,40}", "a language id of at most 40 letters, digits and _.+#-")]


@dataclass(frozen=True, slots=True)
class Ranking:
    """What hypotheses are ordered by: weights of log-probabilities in nats, of evidence, and a syntax error's cost.

    `gap` and `suffix` weigh the causal reading, `fim` and `end` what fill-in-the-middle says of the gap and its end,
    `root` the square root of the probability of both, `evidence` what similar lines say, `agreed` that both a canvas
    and a beam came to it.
    """

    gap: Weight = 1.0
    suffix: Weight = 1.0
    evidence: Weight = 0.0
    fim: Weight = 0.0
    end: Weight = 0.0
    agreed: Weight = 0.0
    root: Weight = 0.0
    # More nats than any hypothesis makes good.
    syntax: Weight = 1000.0

    def score(self, known: Mapping[str, float]) -> float:
        """The score of one hypothesis in nats, by its FEATURES and `suffix_sum`; a syntax error's cost comes later."""
        return (
            self.gap * known["gap_sum"]
            + self.suffix * known["suffix_sum"]
            + self.evidence * known["similar"]
            + self.fim * known["fim_sum"]
            + self.end * known["end"]
            + self.agreed * known["drawn"] * known["beam"]
            + self.root * known["fim_root"]
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LayoutSettings:
    """How a gap is laid out in tokens.

    `kind`: `filler`, left-over slots of a canvas hold the token `filler_id`; `fim`, that token parts suffix and prefix,
    and the gap is written behind both from left to right; `prompted` and `clamped`, a chat's turns (prompts/chat.py).
    `slots` are the gap lengths that are tried within a line, `block_slots` those for a span of lines. The encoder sees
    at most `context_tokens` of text from elsewhere and `prefix_tokens` before the gap; a chat's question shows at most
    `suffix_tokens` behind it. `empty_thinking`: whether an empty thought stands before a chat's answer.
    """

    kind: Kind
    slots: Slots
    block_slots: Slots
    prefix_tokens: Annotated[int, Within(1, 1 << 17)]
    filler_id: Annotated[int, Within(NO_FILLER, MOST_IDS - 1)] = NO_FILLER
    suffix_tokens: Tokens = 0
    context_tokens: Tokens = 0
    empty_thinking: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class DenoiseSettings:
    """How canvases are denoised.

    `draws` canvases for each gap length; of all, the `survivors` of least entropy go on after the first step. At most
    `steps` steps at temperatures from `t_max` to `t_min`; a step accepts `entropy_bound` nats, and a canvas has settled
    below `confidence_threshold` nats a slot. `reuse_suffix` keeps the suffix' keys and values of the first step.
    """

    draws: Some
    survivors: Some
    steps: Annotated[int, Within(1, 256)]
    t_min: Temperature
    t_max: Temperature
    entropy_bound: Nats
    confidence_threshold: Nats
    reuse_suffix: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class HypothesisSettings:
    """What competes with canvases, and what orders all hypotheses.

    `beams` are written from left to right, by a checkpoint that was taught to; `similar_lines` come from lines near by
    and of other files; `ranking` orders them all. Only gap lengths within `length_slack` tokens of a beam's are tried,
    all for None. `length_bias` is what each length of `slots`, then of `block_slots`, gains in nats by its size alone
    (hypotheses/lengths.py); none is zeros.
    """

    beams: Few = 0
    similar_lines: Few = 0
    length_slack: Annotated[int, Within(0, MOST_SLOTS)] | None = None
    length_bias: Annotated[tuple[Annotated[float, Within(-1000.0, 1000.0)], ...], Count(0, 128)] = ()
    ranking: Ranking = field(default_factory=Ranking)


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchFloor:
    """The least log-probability of a beam, in nats, and the least evidence of a similar line; either is enough."""

    log_prob: Annotated[float, Within(-1000.0, 0.0)]
    evidence: Nats


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlyExit:
    """The confidences that decide before a canvas is denoised: nothing below `reject`, a fill from `accept` on.

    `ranking` orders beams and similar lines by themselves, `calibration` gives the best one's confidence.
    """

    reject: Share
    accept: Share
    ranking: Ranking
    calibration: Calibration


@dataclass(frozen=True, slots=True, kw_only=True)
class ShowSettings:
    """What is offered: for which languages, which code actions, and the gate that an unasked fill must pass.

    The gate has three stages, each dearer than the one before. It is for requests that want a sure fill or none, those
    whose least confidence is `show_threshold` or more; any other request passes the first two.

    1. `search_floor`, once similar lines are found and while beams grow: nothing, where no similar line has `evidence`
       and no beam has `log_prob`, nor can have any more.
    2. `early_exit`, before a canvas is denoised: by its own ranking and calibration of beams and similar lines,
       nothing below `reject`, the best of them from `accept` (and from what the request asks) on; canvases in between.
    3. `show_threshold`, at the end: the fill, if its confidence is so high. The confidence is the logistic of FEATURES
       by `calibration`, or that of stage 2 where it was the answer.

    A stage that is None lets everything pass. The fits in training/ choose 1 and 2 so that next to nothing is lost that
    3 would show.
    """

    languages: Annotated[tuple[Language, ...], Count(1, 200)]
    show_threshold: Share
    calibration: Calibration
    search_floor: SearchFloor | None = None
    early_exit: EarlyExit | None = None
    actions: Annotated[tuple[Action, ...], Count(0, len(ACTIONS))] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointSettings:
    """The groups of `midspan.json`. `quantize` says what weights become at load: nothing, FP8, or experts in 4 bits."""

    layout: LayoutSettings
    denoise: DenoiseSettings
    hypotheses: HypothesisSettings = field(default_factory=HypothesisSettings)
    show: ShowSettings
    quantize: Quantize = "none"

    @property
    def offered(self) -> tuple[Action, ...]:
        """The code actions that the checkpoint does well: as it says, else as its layout lets it."""
        chosen = self.show.actions
        return ACTIONS_BY_LAYOUT.get(self.layout.kind, ACTIONS) if chosen is None else chosen

    @property
    def show_threshold(self) -> float:
        """The least confidence of what is shown unasked."""
        return self.show.show_threshold


# The released checkpoint has no `midspan.json`, or one that names only what shall differ. The sampler's settings are
# those of its generation_config.json but for the steps; nothing is calibrated, so all is shown.
RELEASED: dict[str, dict[str, Any]] = {
    "layout": {"filler_id": NO_FILLER, "prefix_tokens": 2048, "suffix_tokens": 512, "context_tokens": 1024},
    "denoise": {
        "steps": 16,
        "t_min": 0.4,
        "t_max": 0.8,
        "entropy_bound": 0.1,
        "confidence_threshold": 0.005,
        "reuse_suffix": False,
    },
    "show": {
        "languages": [
            *("python", "javascript", "typescript", "tsx", "go", "rust", "java", "c", "cpp", "csharp", "ruby", "php"),
            *("bash", "json", "yaml", "toml", "html", "css", "markdown", "sql", "lua"),
        ],
        "show_threshold": 0.0,
        # The mean log-probability of a gap's tokens decides, until somebody fits the weights.
        "calibration": [0.0, *(float(name == "gap_mean") for name in FEATURES)],
    },
}
RELEASED_BY_LAYOUT: dict[str, dict[str, dict[str, Any]]] = {
    # One length only: what is left of the canvas lies behind the end of the turn.
    "prompted": {"layout": {"slots": [64], "block_slots": [256]}, "denoise": {"draws": 1, "survivors": 1}},
    "clamped": {
        "layout": {
            "slots": [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48],
            "block_slots": [4, 8, 16, 24, 32, 48, 64, 96, 128],
        },
        "denoise": {"draws": 2, "survivors": 3},
    },
}
