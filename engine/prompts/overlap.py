"""Cut a chat model's answer down to the gap: remove repeated surrounding text and code fences."""

from __future__ import annotations

import re

from midspan.engine.api import Hole

# The most lines before the gap that an answer is checked for repeating.
MAX_LINES = 12


def up_to_the_fence(text: str, fence: str = "```") -> str:
    """The text before the closing fence, and behind the opening line of a fence of the answer's own."""
    opened = re.match(rf"\s*{fence}\w*[ \t]*\n", text)
    if opened is not None:
        text = text[opened.end() :]
    closed = re.search(rf"(?:\A|\n)[ \t]*{fence}[^\n]*", text)
    return text if closed is None else text[: closed.start()]


def without_prefix(hole: Hole, text: str) -> str:
    """The text without the last lines of the prefix, if the answer begins by repeating them."""
    lines = hole.prefix.split("\n")
    for count in range(min(MAX_LINES, len(lines)), 0, -1):
        again = "\n".join(lines[-count:])
        for begin in (again, again.lstrip()):
            if telling(begin) and text.startswith(begin):
                return text[len(begin) :]
    return text


def without_suffix(hole: Hole, text: str, *, same_line: bool) -> str:
    """The text without the longest end that repeats the beginning of the suffix.

    With `same_line` the model was asked for the whole line, so that a repeated rest of the line is removed however
    short it is; otherwise only a telling repetition is.
    """
    rest = hole.suffix.split("\n", 1)[0].rstrip()
    for size in range(min(len(text), len(hole.suffix)), 0, -1):
        again = hole.suffix[:size]
        short = same_line and again == rest and bool(rest)
        if text.endswith(again) and (short or telling(again)):
            return text[: len(text) - size]
    return text


def telling(text: str) -> bool:
    """Whether a text that occurs twice is likely a repetition: it has at least two letters or digits."""
    return len(re.findall(r"\w", text)) >= 2
