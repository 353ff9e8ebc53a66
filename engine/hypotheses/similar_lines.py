"""Drafts from the neighbourhood: what stands, in lines near by, where the gap stands in its own.

Code repeats itself. A line that shares its beginning with the gap's, or stands between lines that look like those
around the gap, is a hypothesis of what is missing; it competes with what the canvas came to under the same score. Lines
of other files count as those near by do, but for their nearness. The idea is prompt lookup
(github.com/apoorvumang/prompt-lookup-decoding) with the text after the gap read as well.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field

from midspan.engine.api import Hole

WORD = re.compile(r"\w+|\s+|[^\w\s]")
WHOLE_BEGINNING, AROUND, NEAR, AGAIN = 6.0, 0.3, 2.0, 1.0
LEAD, LEAST_EVIDENCE, ALONE = 0.45, 2.1, 10.0
# For what both a line near by and one of another file say: as the logit of 6,000 held-out gaps has it.
BOTH = 1.4


@dataclass(frozen=True, slots=True, kw_only=True)
class SimilarLine:
    """A text that may stand in the gap, and how much speaks for it: 0 for next to nothing, 3 for a line's twin."""

    text: str
    evidence: float


@dataclass(slots=True)
class _Lines:
    """The lines around a gap without indents and blank lines; `lines[at]` is the first after the gap."""

    stem: str
    tail: str
    lines: list[str]
    at: int
    ends: list[str] = field(init=False)

    def __post_init__(self) -> None:
        """`ends`: the ends of the stem, a word longer each."""
        words = WORD.findall(self.stem)
        ends = ["".join(words[first:]) for first in reversed(range(len(words)))]
        self.ends = [end for end in ends if end.strip()]

    @classmethod
    def of(cls, hole: Hole) -> _Lines:
        *above, stem = hole.prefix.split("\n")
        tail, *below = hole.suffix.split("\n")
        before = [line.strip() for line in above if line.strip()]
        after = [line.strip() for line in below if line.strip()]
        return cls(stem.lstrip(), tail.rstrip(), before + after, len(before))

    def said_by(self, line: str) -> tuple[str, float] | None:
        """What a line puts in the gap's place, up to where the gap's own line goes on, and how much they share."""
        if (found := self._rest(line)) is None or not (text := found[0].rstrip()).endswith(self.tail):
            return None
        text = text[: len(text) - len(self.tail)].rstrip()
        return (text, found[1]) if text.strip() else None

    def _rest(self, line: str) -> tuple[str, float] | None:
        """What stands in a line behind the longest end of the gap's own beginning, and how much they share."""
        if not self.stem:
            return line, 0.0
        best = None
        for end in self.ends:
            at = line.find(end)
            if at < 0:
                break
            if at == 0 or not (_is_word(end[0]) and _is_word(line[at - 1])):
                whole = WHOLE_BEGINNING if at == 0 and end == self.stem else 0.0
                best = line[at + len(end) :], len(end) + whole
        return best

    @property
    def above(self) -> str:
        """The line above the gap; empty at the text's beginning."""
        return self.lines[self.at - 1] if self.at else ""

    def likeness(self, number: int) -> float:
        """How much the lines around a line are like those around the gap, and how near it is."""
        lines, at = self.lines, self.at
        above = lines[number - 1] if number not in (0, at) else ""
        below = lines[number + 1] if number + 1 < len(lines) and number != at - 1 else ""
        return self.around(above, below) + NEAR / (1 + abs(number - at))

    def around(self, above: str, below: str) -> float:
        """How much two lines are like those around the gap."""
        own_below = self.lines[self.at] if self.at < len(self.lines) else ""
        return (_common(above, self.above) + _common(below, own_below)) * (AROUND if self.stem else 1.0)


def similar_lines(hole: Hole, count: int) -> list[SimilarLine]:
    """At most `count` distinct texts that may stand in a gap within one line, the likeliest first.

    Each ends where the gap's line goes on. Looks at the hole's own text, a few thousand characters, and at the lines of
    other files that came with it. The evidence is the logarithm of what a line shares with the gap's, for the best of
    its lead over the second, and more where lines near by and elsewhere say the same.
    """
    lines = _Lines.of(hole)
    near, far = dict[str, float](), dict[str, float]()
    for number, line in enumerate(lines.lines):
        if (said := lines.said_by(line)) is not None:
            _count(near, said, lines.likeness(number))
    for one in hole.elsewhere:
        if (said := lines.said_by(one.text)) is not None:
            _count(far, said, lines.around(one.above, one.below))
    both = {text: max(near[text], far[text]) + AGAIN for text in near.keys() & far.keys()}
    best = sorted((near | far | both).items(), key=lambda item: item[1], reverse=True)
    lead = best[0][1] - best[1][1] if len(best) > 1 else ALONE
    out = []
    for place, (text, score) in enumerate(best[:count]):
        evidence = math.log1p(score) + (LEAD * math.log1p(lead) if place == 0 else 0.0) - LEAST_EVIDENCE
        evidence += BOTH * (text in both)
        out.append(SimilarLine(text=text, evidence=max(0.0, evidence)))
    return out


def _count(found: dict[str, float], said: tuple[str, float], more: float) -> None:
    """One more line says a text, so well."""
    text, score = said
    found[text] = max(found.get(text, 0.0), score + more) + AGAIN


def _common(one: str, other: str) -> int:
    """How many characters two texts begin alike."""
    shorter = min(len(one), len(other))
    return next((at for at in range(shorter) if one[at] != other[at]), shorter)


def _is_word(letter: str) -> bool:
    return letter.isalnum() or letter == "_"
