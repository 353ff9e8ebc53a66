"""Similar lines: a line that begins like the gap's, or stands between lines like those around it, proposes a fill.

Code repeats itself. Such a proposal is ranked beside canvases by the same score. Lines of other files count like lines
of the hole's own text, without the bonus for distance. The idea is prompt lookup
(github.com/apoorvumang/prompt-lookup-decoding); here the text after the gap is compared, too.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field

from midspan.engine.api import Hole
from midspan.engine.hypotheses.hypothesis import Gap
from midspan.engine.prompts.tokens import Tokens

WORD = re.compile(r"\w+|\s+|[^\w\s]")
# Points for: the whole beginning shared, a character shared with a line around, no distance, another such line.
WHOLE_BEGINNING, AROUND, NEAR, AGAIN = 6.0, 0.3, 2.0, 1.0
LEAD, OFFSET, ALONE = 0.45, 2.1, 10.0
# Evidence added where the hole's own text and another file agree: a logistic fit over 6,000 held-out gaps.
BOTH = 1.4


@dataclass(frozen=True, slots=True, kw_only=True)
class SimilarLine:
    """A text proposed for the gap, and its evidence: 0 for hardly any, 3 for an identical line."""

    text: str
    evidence: float


@dataclass(slots=True)
class _Lines:
    """The non-blank lines around a gap, without indents; `lines[at]` is the first after the gap."""

    stem: str
    tail: str
    lines: list[str]
    at: int
    ends: list[str] = field(init=False)

    def __post_init__(self) -> None:
        """Set `ends`: the ends of the stem, each one word longer."""
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
        """The text that a line has in the gap's place, up to the gap line's own tail, and how much both lines share."""
        if (found := self._rest(line)) is None or not (text := found[0].rstrip()).endswith(self.tail):
            return None
        text = text[: len(text) - len(self.tail)].rstrip()
        return (text, found[1]) if text.strip() else None

    def _rest(self, line: str) -> tuple[str, float] | None:
        """What follows in a line behind the longest end of the stem that it contains, and how much both share."""
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
        """The line above the gap; empty at the beginning of the text."""
        return self.lines[self.at - 1] if self.at else ""

    def likeness(self, number: int) -> float:
        """How similar the lines around line `number` and around the gap are, with a bonus for a short distance."""
        lines, at = self.lines, self.at
        above = lines[number - 1] if number not in (0, at) else ""
        below = lines[number + 1] if number + 1 < len(lines) and number != at - 1 else ""
        return self.around(above, below) + NEAR / (1 + abs(number - at))

    def around(self, above: str, below: str) -> float:
        """How similar these two lines are to those around the gap."""
        own_below = self.lines[self.at] if self.at < len(self.lines) else ""
        return (_common(above, self.above) + _common(below, own_below)) * (AROUND if self.stem else 1.0)


def similar_gaps(hole: Hole, count: int, prompt: Tokens, heal: str, longest: int) -> dict[Gap, float]:
    """Gap ids and evidence of at most `count` similar lines that token healing allows, of at most `longest` tokens."""
    if not count:
        return {}
    allowed, out = prompt.allowed_first(heal), dict[Gap, float]()
    for line in similar_lines(hole, count):
        gap = tuple(prompt.encode(heal + line.text))
        if len(gap) <= longest and (allowed is None or bool(allowed[gap[0]])):
            out[gap] = line.evidence
    return out


def similar_lines(hole: Hole, count: int) -> list[SimilarLine]:
    """At most `count` distinct texts for a gap within one line, the likeliest first.

    Each ends where the gap's line goes on. Searched are the hole's own text, a few thousand characters, and the lines
    of other files that came with it. The evidence is the logarithm of what a line shares with the gap's. The best text
    gains by its lead over the second, and any text by occurring both here and in other files.
    """
    lines = _Lines.of(hole)
    near, far = dict[str, float](), dict[str, float]()
    for number, line in enumerate(lines.lines):
        if (said := lines.said_by(line)) is not None:
            _count(near, said, lines.likeness(number))
    for one in hole.other_lines:
        if (said := lines.said_by(one.text)) is not None:
            _count(far, said, lines.around(one.above, one.below))
    both = {text: max(near[text], far[text]) + AGAIN for text in near.keys() & far.keys()}
    best = sorted((near | far | both).items(), key=lambda item: item[1], reverse=True)
    lead = best[0][1] - best[1][1] if len(best) > 1 else ALONE
    out = []
    for place, (text, score) in enumerate(best[:count]):
        evidence = math.log1p(score) + (LEAD * math.log1p(lead) if place == 0 else 0.0) - OFFSET
        evidence += BOTH * (text in both)
        out.append(SimilarLine(text=text, evidence=max(0.0, evidence)))
    return out


def _count(found: dict[str, float], said: tuple[str, float], more: float) -> None:
    """Count one more line that proposes a text."""
    text, score = said
    found[text] = max(found.get(text, 0.0), score + more) + AGAIN


def _common(one: str, other: str) -> int:
    """The length of the common beginning, in characters."""
    shorter = min(len(one), len(other))
    return next((at for at in range(shorter) if one[at] != other[at]), shorter)


def _is_word(letter: str) -> bool:
    return letter.isalnum() or letter == "_"
