"""The text around a gap: how much of it is read, and the line end that we append.

Neither torch nor a tokenizer is needed here.
"""

from __future__ import annotations

from midspan.engine.api import GapKind, Hole

# Text beyond so many characters per token is dropped before it is encoded, in steps that keep the prefix cache valid.
CHARS_A_TOKEN, ANCHOR_CHARS = 8, 1024
# A block of text begins with a file's name, which text from elsewhere does not say.
ELSEWHERE = "elsewhere"
# Gaps for which a network that was taught to may write several lines.
SOME_LINES: tuple[GapKind, ...] = ("span", "block")


def near(prefix: str, tokens: int) -> str:
    """The end of a text, from a line's start on, long enough for so many tokens; typing keeps the start."""
    beyond = len(prefix) - CHARS_A_TOKEN * tokens
    if beyond <= 0:
        return prefix
    return prefix[prefix.rfind("\n", 0, beyond - beyond % ANCHOR_CHARS) + 1 :]


def is_whole_line(prefix: str) -> bool:
    """Whether nothing but blanks stands before a gap in its line."""
    return not prefix[prefix.rfind("\n") + 1 :].strip()


def completed(hole: Hole) -> tuple[str, str]:
    """The text behind a gap, and the line end that we append to a fill.

    For a gap of whole lines we append the last line end, so that the suffix begins with it.
    """
    at_line_start = not hole.prefix or hole.prefix.endswith("\n")
    # A draft without a line end is part of a line.
    at_line_start &= not hole.draft or hole.draft.endswith("\n")
    if not hole.suffix:
        return "\n", "\n" if at_line_start else ""
    if at_line_start and not hole.suffix.startswith("\n"):
        return "\n" + hole.suffix, "\n"
    return hole.suffix, ""
