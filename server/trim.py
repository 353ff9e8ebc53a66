"""(Hole, fill) -> the text to insert, or nothing: small pure filters. Line ends stay LF; the caller sets its own."""

from __future__ import annotations

import re
from collections.abc import Callable

from midspan.engine.api import Hole

PAIRS = {")": "(", "]": "[", "}": "{"}
QUOTES = "\"'`"
LITERAL = re.compile(r""""(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'""")


def trim(hole: Hole, text: str) -> str | None:
    """The fill without what stands there already; None where nothing worth inserting is left."""
    for filter_ in FILTERS:
        text = filter_(hole, text)
    return text if text.strip() else None


def first_line(hole: Hole, text: str) -> str:
    """Only blocks and spans may hold more than one line; a line put before another keeps its line end."""
    if hole.kind in ("block", "span") or "\n" not in text:
        return text
    return text[: text.index("\n") + before_a_line(hole)]


def before_a_line(hole: Hole) -> bool:
    """Whether the gap is at a line's start with a line that is not blank right behind it."""
    return hole.prefix[-1:] in ("", "\n") and hole.suffix[:1] not in ("", "\n")


def repeated_lines(hole: Hole, text: str) -> str:
    """Cut from the first line on that repeats the suffix's next line that is not blank."""
    following = next((line for line in hole.suffix.split("\n")[1:] if line.strip()), "").rstrip()
    lines = text.split("\n")
    if len(following.strip()) < 2:
        return text
    for number, line in enumerate(lines[1:], 1):
        if line.rstrip() == following:
            return "\n".join(lines[:number])
    return text


def overlap(hole: Hole, text: str) -> str:
    """Drop the longest tail of the fill (two characters or more) that the rest of the line begins with."""
    rest = rest_of_line(hole)
    for size in range(min(len(rest), len(text)), 1, -1):
        if text.endswith(rest[:size]) and not parts_a_pair(text, len(text) - size):
            return text[:-size]
    return text


def closers(hole: Hole, text: str) -> str:
    """Drop closing brackets and a quote at the fill's end that it did not open and that stand there already."""
    rest = rest_of_line(hole).lstrip()
    if text and text[-1] in QUOTES:
        return text[:-1] if rest.startswith(text[-1]) and text.count(text[-1]) % 2 else text
    standing = rest[: len(rest) - len(rest.lstrip("".join(PAIRS)))]
    for size in range(len(standing), 0, -1):
        if text.endswith(standing[:size]) and not parts_a_pair(text, len(text) - size):
            return text[:-size]
    return text


def parts_a_pair(text: str, cut: int) -> bool:
    """Whether a bracket before the cut is closed behind it; brackets of whole string literals do not count."""
    text = LITERAL.sub(lambda literal: " " * len(literal[0]), text)
    opened: list[int] = []
    for at, letter in enumerate(text):
        if letter in PAIRS.values():
            opened.append(at)
        elif letter in PAIRS and opened and text[opened[-1]] == PAIRS[letter] and opened.pop() < cut <= at:
            return True
    return False


def rest_of_line(hole: Hole) -> str:
    """What stands behind the gap on its line."""
    return hole.suffix.split("\n", 1)[0]


def trailing_space(hole: Hole, text: str) -> str:
    """No blanks at the fill's end, but before more code; a line put before another keeps its one line end."""
    stripped, following = text.rstrip(), rest_of_line(hole)[:1]
    if before_a_line(hole):
        return stripped + "\n" if stripped and text.endswith("\n") else stripped
    return stripped if following.strip() in ("", *PAIRS, ",", ":", ";") else text


def already_there(hole: Hole, text: str) -> str:
    """Nothing, where the rest of the line begins with the fill, or where the next lines are the filled lines."""
    fill, head, rest = text.strip(), hole.prefix.rsplit("\n", 1)[-1], rest_of_line(hole).strip()
    in_a_word = re.search(r"\w\Z", fill) and re.match(r"\w", rest[len(fill) :])
    if rest.startswith(fill) and not in_a_word:
        return ""
    if head.strip() or rest:
        return text
    filled = [line.rstrip() for line in (head + text).rstrip().split("\n")]
    below = [line.rstrip() for line in hole.suffix.lstrip("\n").split("\n")]
    return "" if below[: len(filled)] == filled else text


FILTERS: tuple[Callable[[Hole, str], str], ...] = (
    first_line,
    repeated_lines,
    overlap,
    closers,
    trailing_space,
    already_there,
)
