"""The words that the server and the engine share: plain, frozen data, standard library only.

Text here always has LF line ends; the server turns a document's own line ends into LF and back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

GapKind = Literal["rest_of_line", "line", "block", "span", "string", "comment"]
CellState = Literal["settled", "free", "filler", "frozen"]
Stopped = Literal["settled", "steps", "deadline", "cancelled", "empty"]


class CheckpointError(Exception):
    """A checkpoint that cannot be used; the message is one line that names the file and the mend."""


class DeviceError(Exception):
    """A device that was asked for and is not there; the message is one line that names the mend."""


class Line(NamedTuple):
    """A line of another file, and the lines around it that are not blank; all without indents."""

    text: str
    above: str
    below: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Hole:
    """A gap: the text before and after it, and what sort of gap it is.

    `draft` is the text that stands in the gap now. With a `strength` the gap is not filled afresh: that share of the
    draft's tokens (0 < strength <= 1) is renoised, the others stay, and as many come out as went in.
    `context` is text from elsewhere, a whole snippet each, the most useful last: it stands nearest to the prefix, and
    what a checkpoint has no room for (`About.context_tokens`) is left out from the front.
    `elsewhere` are lines of other files that may be what the gap's line is to become: hypotheses, not part of a prompt.
    """

    prefix: str
    suffix: str
    kind: GapKind = "rest_of_line"
    language: str = "python"
    context: tuple[str, ...] = ()
    elsewhere: tuple[Line, ...] = ()
    draft: str = ""
    strength: float | None = None

    def __post_init__(self) -> None:
        if self.strength is not None and not 0 < self.strength <= 1:
            raise ValueError(f"strength {self.strength}: give a share above 0, at most 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What a fill may cost: denoise steps, candidates returned, seconds from the call, and the seed.

    `steps` lowers the checkpoint's own number of steps; None leaves it as it is. A fill less sure than `least` (a
    confidence) is of no use: one that promises nothing may end as empty before it is done.
    """

    steps: int | None = None
    candidates: int = 1
    deadline_s: float | None = None
    seed: int = 0
    least: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One canvas position as a person would see it."""

    text: str
    state: CellState


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """The canvas after one denoise step; `text` is the gap's draft, trimmed of filler."""

    step: int
    steps: int
    text: str
    cells: tuple[Cell, ...]
    settled: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One fill and the share of fills like it that are right (0 to 1)."""

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
    """The best candidate first; `text` is empty when there is nothing to insert."""

    text: str
    confidence: float
    candidates: tuple[Candidate, ...]
    steps: int
    stopped: Stopped
    latency: Latency


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What is loaded and which paths were chosen at load.

    `actions` are the code actions that it does well; `context_tokens` says how much of `Hole.context` it reads, and
    `elsewhere` whether it looks at `Hole.elsewhere`. `old_keys` are those of its `midspan.json` that the next release
    does not read, each with the key of today.
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
    elsewhere: bool = False
    old_keys: tuple[str, ...] = ()


OnFrame = Callable[[Frame], None]

OnProgress = Callable[[int, int], None]
"""(bytes of a checkpoint that were read, bytes in all)."""

Judge = Callable[[Hole, str], tuple[tuple[int, int], ...]]
"""(hole, fill) -> which characters [begin, end) of the fill stand in a syntax error that the fill brought about."""
