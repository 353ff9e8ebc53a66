"""The types that server and engine share: plain, frozen data; standard library only.

All text here has LF line ends; the server converts a document's own line ends to LF and back.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

GapKind = Literal["rest_of_line", "line", "block", "span", "string", "comment"]
CellState = Literal["settled", "free", "filler", "frozen"]
Stopped = Literal["settled", "steps", "deadline", "cancelled", "empty"]
# Fewer tokens of text from elsewhere are not worth a prompt of their own.
LEAST_CONTEXT = 64


class CheckpointError(Exception):
    """A checkpoint that cannot be used; the message is one line that names the file and the fix."""


class DeviceError(Exception):
    """A requested device that is not there; the message is one line that names the fix."""


class RemoteError(Exception):
    """A remote server that refused, was not reached or made no sense; the message is one line that names the fix.

    `status` is the HTTP status, 0 without an answer; `retry_after_s` is how long the server asks to be left alone.
    """

    def __init__(self, message: str, *, status: int = 0, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.status, self.retry_after_s = status, retry_after_s


class Line(NamedTuple):
    """A line of another file with its nearest non-blank lines above and below; all without indents."""

    text: str
    above: str
    below: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Hole:
    """A gap, its kind, and the text before and after it.

    `draft` is the text that stands in the gap now. With a `strength` the gap is not filled afresh: that share of the
    draft's tokens (0 < strength <= 1) is renoised, the others stay, and the token count does not change.
    With `wrong`, character spans [begin, end) of the draft, only the tokens that write those are renoised.
    `context` holds whole snippets of other text, the most useful last, nearest to the prefix. Snippets that exceed
    `About.context_tokens` are left out from the front.
    `other_lines` are lines of other files that the gap's line may become: proposals, not part of the prompt.
    """

    prefix: str
    suffix: str
    kind: GapKind = "rest_of_line"
    language: str = "python"
    context: tuple[str, ...] = ()
    other_lines: tuple[Line, ...] = ()
    draft: str = ""
    strength: float | None = None
    wrong: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        if self.strength is not None and not 0 < self.strength <= 1:
            raise ValueError(f"strength {self.strength}: give a share above 0, at most 1")
        if self.wrong and self.strength is not None:
            raise ValueError("a draft is renoised by a share or by spans that are wrong; leave one of them out")

    @property
    def keeps_draft(self) -> bool:
        """Whether a part of the draft stays, and only the rest of it is denoised."""
        return self.strength is not None or bool(self.wrong)


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Limits of a fill: denoise steps, candidates returned, seconds from the call; and its seed.

    `steps` lowers the checkpoint's own number of steps; None keeps it. A fill below `min_confidence` is not wanted: a
    hopeless one may end as empty before it is done.
    """

    steps: int | None = None
    candidates: int = 1
    deadline_s: float | None = None
    seed: int = 0
    min_confidence: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One canvas position, as a person sees it."""

    text: str
    state: CellState


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """The canvas after one denoise step; `text` is the gap's draft without filler."""

    step: int
    steps: int
    text: str
    cells: tuple[Cell, ...]
    settled: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One fill, and its confidence: the share of such fills that are right (0 to 1)."""

    text: str
    confidence: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Milliseconds; `total` runs from the call of `fill` to its result."""

    total: float
    encode: float
    denoise: float
    rank: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Fill:
    """The best candidate first; `text` is empty when there is nothing to insert.

    `engine` is the name of the one that answered where a router had the choice.
    """

    text: str
    confidence: float
    candidates: tuple[Candidate, ...]
    steps: int
    stopped: Stopped
    latency: Latency
    engine: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextBudget:
    """How much of `Hole.context` goes into a prompt: all `tokens`, or what there is time for.

    Here prompts are read at `per_s` tokens a second. One of which nothing is cached yet, with its `beside` other
    tokens, is to take no more than `share` of a deadline.
    """

    tokens: int
    beside: int
    per_s: float
    share: float = 0.5

    def within(self, deadline_s: float | None) -> int:
        """How many tokens: all, or a power of two, so that a few milliseconds do not make another prompt; or 0."""
        if deadline_s is None:
            return self.tokens
        room = int(self.share * deadline_s * self.per_s) - self.beside
        if room >= self.tokens:
            return self.tokens
        return 0 if room < LEAST_CONTEXT else 1 << (room.bit_length() - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """The loaded checkpoint and the backend that was chosen for it.

    `actions` are the code actions that it does well. `context_tokens` is how much of `Hole.context` it reads,
    `context_budget` how much of that there is time for, where that was measured, and `reads_other_lines` says whether
    it uses `Hole.other_lines`. `old_keys` are those keys of its `midspan.json` that the next release does not read,
    each with the key of today. One that is not `calibrated` takes its confidences from a prior.
    """

    checkpoint: str
    device: str
    dtype: str
    threads: int
    parameters: int
    layout: str
    languages: tuple[str, ...]
    show_threshold: float
    kernels: tuple[tuple[str, str], ...]
    load_ms: float
    actions: tuple[str, ...] = ()
    context_tokens: int = 0
    context_budget: ContextBudget | None = None
    reads_other_lines: bool = False
    old_keys: tuple[str, ...] = ()
    calibrated: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Glance:
    """What the headers of a GGUF file or a checkpoint folder say; None or 0 where they do not.

    Of all `parameters` some are `in_layers`, and `in_head` are those that a vocabulary's logits take. `layout` is how
    it would be asked for a gap. `problem` is why it does not run here, in a line without its path.
    """

    family: str | None = None
    name: str | None = None
    licence: str | None = None
    parameters: int = 0
    in_layers: int = 0
    in_head: int = 0
    bytes: int = 0
    layout: str | None = None
    languages: tuple[str, ...] = ()
    problem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """What computes here, and how fast.

    `token` and `row` are the seconds that a parameter of a network of the `llama` family takes on a CPU: in a step that
    writes one token, and for each of many rows that are read at once; None where a GPU computes, whose steps are as
    long as their launches. `embedded_ms` is the embedded model's fill, measured. All are None where nothing was.
    """

    embedded_ms: float | None = None
    token: float | None = None
    row: float | None = None
    gpu: str | None = None
    gpu_bytes: int = 0


OnFrame = Callable[[Frame], None]

OnProgress = Callable[[int, int], None]
"""(bytes of a checkpoint read so far, bytes in all)."""

Judge = Callable[[Hole, str], tuple[tuple[int, int], ...]]
"""(hole, fill) -> character ranges [begin, end) of the fill that stand in a syntax error which the fill caused."""


class Engine(Protocol):
    """What fills holes: the engine in this process, or any other that stands in for it."""

    @property
    def about(self) -> About:
        """What is loaded."""

    def fill(
        self, hole: Hole, budget: Budget, *, stop: threading.Event | None = None, on_frame: OnFrame | None = None
    ) -> Future[Fill]:
        """Begin a fill; `on_frame` is called on the engine's thread."""

    def close(self) -> None:
        """End the engine's thread."""
