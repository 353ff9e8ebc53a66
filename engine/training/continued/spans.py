"""Where gaps are cut in a text for fill-in-the-middle: as people leave them, at any character."""

from __future__ import annotations

import random
from dataclasses import dataclass

# Shares of what people leave open: the rest of a line, a whole line, several, something inside one; the rest is random.
REST, WHOLE, SEVERAL, INSIDE = 0.35, 0.25, 0.13, 0.15
MOST_LINES, MOST_RANDOM = 6, 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Character offsets of a gap in a text, and the kind it was cut as."""

    begin: int
    end: int
    kind: str


def cut(text: str, place: int, chance: random.Random) -> Gap | None:
    """A gap of a random kind in the line at `place`; None where that line or the gap would be blank."""
    start = text.rfind("\n", 0, place) + 1
    end = _line_end(text, start)
    line = text[start:end]
    if not line.strip():
        return None
    indent = len(line) - len(line.lstrip())
    draw = chance.random()
    if draw < REST:
        gap = Gap(begin=start + chance.randrange(indent, len(line)), end=end, kind="rest")
    elif draw < REST + WHOLE:
        # An editor has indented the line already, as often as not.
        gap = Gap(begin=start + (indent if chance.random() < 0.6 else 0), end=end, kind="whole")
    elif draw < REST + WHOLE + SEVERAL:
        gap = _several(text, start + (indent if chance.random() < 0.6 else 0), end, chance)
    elif draw < REST + WHOLE + SEVERAL + INSIDE:
        gap = _inside(line, start, indent, chance)
    else:
        begin = start + chance.randrange(indent, len(line))
        gap = Gap(begin=begin, end=min(len(text), begin + chance.randint(1, MOST_RANDOM)), kind="random")
    return gap if text[gap.begin : gap.end].strip() else None


def _line_end(text: str, place: int) -> int:
    end = text.find("\n", place)
    return len(text) if end < 0 else end


def _several(text: str, begin: int, end: int, chance: random.Random) -> Gap:
    """Two lines or more, the first one from `begin` on."""
    for _ in range(chance.randint(1, MOST_LINES - 1)):
        if end >= len(text):
            break
        end = _line_end(text, end + 1)
    return Gap(begin=begin, end=end, kind="several")


def _inside(line: str, start: int, indent: int, chance: random.Random) -> Gap:
    """Part of a line; it ends before a bracket, comma or quote more often than not, as editors close pairs."""
    begin = chance.randrange(indent, len(line))
    closers = [place for place in range(begin + 1, len(line)) if line[place] in ")]}\"',:;"]
    end = chance.choice(closers) if closers and chance.random() < 0.75 else chance.randint(begin + 1, len(line))
    return Gap(begin=start + begin, end=start + end, kind="inside")
