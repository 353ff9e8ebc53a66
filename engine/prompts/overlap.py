"""Cuts an answer down to the gap: what a chat model writes again of the text around it, and code blocks' marks."""

from __future__ import annotations

import re

from midspan.engine.api import Hole

# A model that begins its file again goes back so many lines at most.
MOST_LINES = 12


def up_to_the_fence(text: str, fence: str = "```") -> str:
    """Up to the mark that closes the code block; an answer that opens one of its own begins behind its opening line."""
    opened = re.match(rf"\s*{fence}\w*[ \t]*\n", text)
    if opened is not None:
        text = text[opened.end() :]
    closed = re.search(rf"(?:\A|\n)[ \t]*{fence}[^\n]*", text)
    return text if closed is None else text[: closed.start()]


def without_prefix(hole: Hole, text: str) -> str:
    """Without the gap's line so far, or the last lines of the prefix, where the answer begins with them once more."""
    lines = hole.prefix.split("\n")
    for count in range(min(MOST_LINES, len(lines)), 0, -1):
        again = "\n".join(lines[-count:])
        for begin in (again, again.lstrip()):
            if telling(begin) and text.startswith(begin):
                return text[len(begin) :]
    return text


def without_suffix(hole: Hole, text: str, *, same_line: bool) -> str:
    """Without the longest end of the answer that the suffix begins with.

    With `same_line` the answer was asked to go to its line's end, so that what stands there already counts however
    short it is; elsewhere only what says something does.
    """
    rest = hole.suffix.split("\n", 1)[0].rstrip()
    for size in range(min(len(text), len(hole.suffix)), 0, -1):
        again = hole.suffix[:size]
        short = same_line and again == rest and bool(rest)
        if text.endswith(again) and (short or telling(again)):
            return text[: len(text) - size]
    return text


def telling(text: str) -> bool:
    """Whether a text that stands there twice is likely a repetition: it holds two letters or digits at least."""
    return len(re.findall(r"\w", text)) >= 2
