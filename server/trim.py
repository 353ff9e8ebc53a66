"""(Hole, fill) -> the text to insert, or nothing: small pure filters. Line ends stay LF; the caller sets its own."""

from __future__ import annotations

from collections.abc import Callable

from midspan.engine.api import Hole

PAIRS = {")": "(", "]": "[", "}": "{"}
QUOTES = "\"'`"


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
    rest = hole.suffix.split("\n", 1)[0]
    for size in range(min(len(rest), len(text)), 1, -1):
        tail = rest[:size]
        # Brackets alone are counted, not compared: some of them may be the fill's own.
        if text.endswith(tail) and not all(letter in PAIRS for letter in tail):
            return text[:-size]
    return text


def closers(hole: Hole, text: str) -> str:
    """Drop closing brackets and quotes at the fill's end that it did not open and that stand there already."""
    rest = hole.suffix.split("\n", 1)[0].lstrip()
    while text and rest.startswith(text[-1]) and _unopened(text):
        text = text[:-1]
    return text


def _unopened(text: str) -> bool:
    """Whether the last character closes something that the text itself did not open."""
    last = text[-1]
    if last in QUOTES:
        return text.count(last) % 2 == 1
    if last not in PAIRS:
        return False
    return text.count(last) > text.count(PAIRS[last])


def trailing_space(hole: Hole, text: str) -> str:
    """No blanks at the fill's end; a line put before another keeps its one line end."""
    stripped = text.rstrip()
    return stripped + "\n" if stripped and text.endswith("\n") and before_a_line(hole) else stripped


def already_there(hole: Hole, text: str) -> str:
    """Nothing, where the text that follows begins with the fill."""
    return "" if text.strip() and hole.suffix.lstrip().startswith(text.strip()) else text


FILTERS: tuple[Callable[[Hole, str], str], ...] = (
    first_line,
    repeated_lines,
    overlap,
    closers,
    trailing_space,
    already_there,
)
