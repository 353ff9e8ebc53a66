"""The settings of a checkpoint that writes gaps from left to right between its tokenizer's own marks.

Its `midspan.json` may leave out every key, and may itself be missing: then a template of prompts/fim_templates.json is
taken whose marks the tokenizer has, and a prior in place of a calibration.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, get_args

from midspan.engine.api import CheckpointError
from midspan.engine.settings import ACTIONS, RELEASED, Action, Few, Language, Nats, Share, Some, Tokens
from midspan.engine.weights.typed_json import Count, KeyProblem, Spelled, Within, decode, read_object

# The kinds of network that have such settings, as config.json and GGUF files call them.
Family = Literal["llama", "qwen2", "qwen3"]
FAMILIES: tuple[Family, ...] = get_args(Family)
Mark = Annotated[str, Spelled(r"\S{1,40}", "a token of at most 40 characters without blanks")]
LogisticWeight = Annotated[float, Within(-1000.0, 1000.0)]
Positive = Annotated[int, Within(1, 1 << 15)]
# No part of a draft can be renoised, and nobody taught it to follow a message.
OFFERED: tuple[Action, ...] = ("refill", "finish", "placeholder")
# The threshold where nobody fitted one.
UNFITTED = 0.5
LANGUAGES: tuple[str, ...] = tuple(RELEASED["show"]["languages"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """The tokens between the parts of a prompt: `start`, then text of other files, then prefix and suffix.

    The gap follows `middle` and goes up to one of `ends`; `suffix_first` says which part comes first. Each other file
    stands behind `file`, or without one under a comment; one of a model that was not taught so `reads_others` not. With
    `repo` they stand as in a repository, which that mark begins (prompts/other_files.py). One that is `by_name` is
    taken only where `layout.template` names it, as its tokens mean something else elsewhere.
    """

    prefix: Mark
    suffix: Mark
    middle: Mark
    ends: Annotated[tuple[Mark, ...], Count(1, 16)]
    start: Mark | None = None
    file: Mark | None = None
    repo: Mark | None = None
    reads_others: bool = True
    suffix_first: bool = False
    by_name: bool = False

    @property
    def needed(self) -> tuple[str, ...]:
        """The tokens that a tokenizer must have."""
        named = (self.prefix, self.suffix, self.middle, self.ends[0], self.start, self.file, self.repo)
        return tuple(mark for mark in named if mark is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class MarksLayout:
    """How a gap is laid out in tokens: between `marks`, or those of a `template`, or of the first that fits.

    The beginning of the gap's line stands behind the middle mark where `line_behind` is true, so that prefix and suffix
    stay in the cache while a line is typed. At most so many tokens are read of the text before and behind the gap and
    of text from elsewhere, and written of a gap within a line and of a span.
    """

    kind: Literal["marks"] = "marks"
    template: Annotated[str, Spelled(r"[a-z0-9.-]{1,40}", "a template's name")] | None = None
    marks: Marks | None = None
    line_behind: bool = True
    prefix_tokens: Positive = 512
    suffix_tokens: Positive = 160
    context_tokens: Tokens = 0
    line_tokens: Positive = 48
    span_tokens: Positive = 192

    @property
    def most_tokens(self) -> int:
        """How long a prompt and its gap may come to be."""
        written = max(self.line_tokens, self.span_tokens)
        return self.context_tokens + self.prefix_tokens + self.suffix_tokens + written


@dataclass(frozen=True, slots=True, kw_only=True)
class Writing:
    """What competes: `beams` where several fills are wanted, `beams_alone` where one is; similar lines.

    A similar line gains `evidence` nats for each point of its evidence, and a syntax error costs `syntax` nats.
    """

    beams: Some = 4
    beams_alone: Some = 1
    similar_lines: Few = 0
    evidence: Nats = 0.0
    syntax: Nats = 1000.0


@dataclass(frozen=True, slots=True)
class Logistic:
    """A confidence: the logistic of the network's own probability of a fill and its end (0 to 1), of the number of its
    tokens, of being a whole line, and of an error of syntax, each with its weight.

    The default is a prior, for models that nobody fitted one for: about that of Qwen2.5-Coder-0.5B.
    """

    bias: LogisticWeight = -1.8
    probability: Annotated[float, Within(0.0, 1000.0)] = 4.4
    length: LogisticWeight = -0.06
    line: LogisticWeight = -0.6
    error: LogisticWeight = -0.5

    def share(self, log_probability: float, length: int, *, line: bool = False, error: bool = False) -> float:
        """The share that is right, 0 to 1; nats in all, and the number of tokens with the end."""
        likely = self.probability * math.exp(min(0.0, log_probability))
        logit = self.bias + likely + self.length * length + self.line * line + self.error * error
        return 1.0 / (1.0 + math.exp(-max(-50.0, min(50.0, logit))))

    def reach(self, log_probability: float, least: int, most: int, *, line: bool = False) -> float:
        """The most that a text can come to which has so many nats now, and ends with `least` to `most` tokens."""
        return max(self.share(log_probability, length, line=line) for length in (least, most))


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What is offered: for which languages, which code actions, and how sure a fill must be to be shown unasked.

    A request that wants a sure fill or none ends where no beam can come to that any more. A model of
    fim_calibrations.json takes from there what is left out, see prompts/calibrations.py.
    """

    languages: Annotated[tuple[Language, ...], Count(1, 200)] = LANGUAGES
    show_threshold: Share | None = None
    calibration: Logistic | None = None
    actions: Annotated[tuple[Action, ...], Count(0, len(ACTIONS))] = OFFERED


@dataclass(frozen=True, slots=True, kw_only=True)
class MarksSettings:
    """The groups of such a `midspan.json`."""

    layout: MarksLayout = field(default_factory=MarksLayout)
    hypotheses: Writing = field(default_factory=Writing)
    show: Shown = field(default_factory=Shown)

    @property
    def offered(self) -> tuple[Action, ...]:
        """The code actions that the checkpoint does well."""
        return self.show.actions

    @property
    def calibration(self) -> Logistic:
        """What was fitted, or the prior."""
        return self.show.calibration or Logistic()

    @property
    def show_threshold(self) -> float:
        """The least confidence of what is shown unasked."""
        return UNFITTED if self.show.show_threshold is None else self.show.show_threshold


def read_marks_settings(file: Path) -> MarksSettings:
    """Read a `midspan.json`, which may be missing. Raises CheckpointError that names the file, the key and the fix."""
    try:
        return decode(MarksSettings, read_object(file) if os.path.lexists(file) else {})
    except KeyProblem as problem:
        raise CheckpointError(f"{file}: {problem}") from problem
