"""What a server writes of a gap, cut down to the text to insert, and how sure that is."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple

from midspan.engine.api import Candidate, Hole
from midspan.engine.marks_settings import UNFITTED, Logistic, Marks
from midspan.engine.prompts.overlap import without_suffix
from midspan.engine.prompts.surroundings import SOME_LINES, completed, is_whole_line
from midspan.engine.prompts.templates import templates

# A network's own probabilities as a confidence behind a line's whole indent, after which few lines come out right.
PRIOR = Logistic(bias=-2.0, probability=5.0, length=-0.07, line=-2.2, error=-1.0)
# Of a fill whose server gives no probabilities: it is shown, and never preferred to one that is known to be surer.
UNKNOWN = UNFITTED
# Tokens of HTML too.
TAGS = ("<s>", "</s>")


class Piece(NamedTuple):
    """A piece of a gap as a server sends it: text, log-probabilities of its tokens in nats, and whether it is the last.

    `ended` says that the gap ends there by itself, not because a limit was reached.
    """

    text: str
    values: tuple[float, ...] = ()
    last: bool = False
    ended: bool = False


@dataclass(slots=True, kw_only=True)
class Written:
    """A gap as far as it is written: its pieces, the log-probabilities of its tokens and its end where they are known.

    `prompt_ms` and `written_ms` are what the server took for the prompt and for the gap, 0 where it does not say.
    """

    pieces: list[str] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    ended: bool = False
    steps: int = 0
    hopeless: bool = False
    prompt_ms: float = 0.0
    written_ms: float = 0.0

    @property
    def text(self) -> str:
        """All pieces."""
        return "".join(self.pieces)

    def confidence(self, hole: Hole) -> float:
        """The share of such fills of such a gap that are right, 0 to 1."""
        line = is_whole_line(hole.prefix)
        return PRIOR.share(sum(self.values), len(self.values), line=line) if self.values else UNKNOWN


def candidate(hole: Hole, written: Written, marks: Collection[str]) -> Candidate | None:
    """The text to insert, or nothing: of a gap that has no end yet, only whole lines of several."""
    text = clean(hole, written.text, marks)
    if written.hopeless:
        return None
    if not written.ended:
        if hole.kind not in SOME_LINES or "\n" not in text:
            return None
        text = text[: text.rindex("\n")]
    text = finished(hole, text)
    return Candidate(text=text, confidence=written.confidence(hole)) if text.strip() else None


def clean(hole: Hole, text: str, marks: Collection[str]) -> str:
    """The text up to the first of a tokenizer's marks or of characters that no code has, with plain line ends.

    A mark that the file itself has is no leak.
    """
    text = text.replace("\r\n", "\n")
    ends = [text.find(mark) for mark in marks if mark not in hole.prefix and mark not in hole.suffix]
    ends += [place for place, char in enumerate(text) if not char.isprintable() and _is_control(char)]
    return text[: min((end for end in ends if end >= 0), default=len(text))]


def finished(hole: Hole, text: str, *, same_line: bool = False) -> str:
    """The text within the gap: one line where one is wanted, without a repeated suffix, with the line end we append."""
    if hole.kind not in SOME_LINES:
        text = text.partition("\n")[0]
    text = without_suffix(hole, text, same_line=same_line)
    return text + completed(hole)[1] if text.strip() and not text.endswith("\n") else text


def _is_control(char: str) -> bool:
    """Whether a character is a control character, but for tab and line end, or half of one."""
    return char not in "\t\n" and (ord(char) < 32 or 127 <= ord(char) < 160 or 0xD800 <= ord(char) < 0xE000)


def marks_of(marks: Marks) -> frozenset[str]:
    """The tokens of one template that may leak into its answers."""
    return frozenset((*marks.needed, *marks.ends)) - frozenset(TAGS)


@cache
def known_marks() -> frozenset[str]:
    """The tokens of all templates but those that mean what their spelling says, for a model that nobody named."""
    return frozenset[str]().union(*(marks_of(one) for one in templates().values() if not one.by_name))
