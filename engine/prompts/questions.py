"""What a checkpoint that follows instructions is asked in words, and the marks of its turns; see chat.py.

Neither torch nor a tokenizer is needed here.
"""

from __future__ import annotations

import re

from midspan.engine.api import Hole
from midspan.engine.prompts.surroundings import SOME_LINES

TURN, TURN_END, CHANNEL, CHANNEL_END = "<|turn>", "<turn|>", "<|channel>", "<channel|>"
# Tokens that may stand in a canvas behind an answer.
ENDS = (TURN_END, "<eos>", "<pad>")
FENCE = re.compile("`{3,}")
OTHER_CODE = "Code of the same project:"
ONE_BLOCK = "Answer with one code block and nothing else."
EXTENT = {
    True: "Write that part of the file again from the start of the gap's line to the end of the gap, the gap filled.",
    False: "Write the gap's line again, the gap filled.",
}


def gap_question(hole: Hole, fence: str, mark: str) -> tuple[str, str]:
    """What is said before and after the file with its gap marked: write the gap's lines again."""
    said = f"{mark} marks a gap in this file.\n\n{fence}{hole.language}\n"
    return said, f"\n{fence}\n\n{EXTENT[hole.kind in SOME_LINES]} {ONE_BLOCK}"


def ending_question(hole: Hole, fence: str) -> tuple[str, str]:
    """What is said before and after a file's end: write the file up to it."""
    said = f"This is how a file in {hole.language} ends:\n\n{fence}{hole.language}\n"
    return said, f"\n{fence}\n\nWrite the whole file, up to this end and with it. {ONE_BLOCK}"


def beginning_question(hole: Hole) -> str:
    """What is said where nothing follows the gap."""
    return f"Write a file in {hole.language}. {ONE_BLOCK}"


def marker(hole: Hole) -> str:
    """The mark of the gap in a request; the file does not contain it."""
    number, mark = 0, "<gap>"
    while mark in hole.prefix or mark in hole.suffix:
        number += 1
        mark = f"<gap{number}>"
    return mark


def fence_of(hole: Hole) -> str:
    """A code fence for the hole's text: longer than any fence in it."""
    found = FENCE.findall("\n".join((hole.prefix, hole.draft, hole.suffix, *hole.context)))
    return "`" * max(3, 1 + max(map(len, found), default=0))
