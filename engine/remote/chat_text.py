"""A chat's layouts as text: a question with the file around the gap, and for a canvas the beginning of the answer.

The layouts, and why they are so, stand in prompts/chat.py; there the parts are tokens, here a server makes them.
"""

from __future__ import annotations

import re

from midspan.engine.prompts.overlap import up_to_the_fence, without_prefix
from midspan.engine.prompts.questions import (
    CHANNEL,
    CHANNEL_END,
    ENDS,
    OTHER_CODE,
    TURN,
    TURN_END,
    beginning_question,
    ending_question,
    fence_of,
    gap_question,
    marker,
)
from midspan.engine.prompts.surroundings import completed
from midspan.engine.remote.ask import Ask

TURNS = (TURN, TURN_END, CHANNEL, CHANNEL_END, "<bos>", *ENDS)


def plain(text: str) -> str:
    """A text without what a tokenizer would take for the marks of a turn, which it must not hold."""
    for mark in TURNS:
        text = text.replace(mark, "")
    return text


def clamped(ask: Ask, context: list[str]) -> tuple[str, str, str]:
    """The whole prompt, the text that a gap must begin with, and what the canvas holds behind it to the turn's end.

    A blank before the gap is left to it: it is the beginning of a word's token, and no word follows one that stands
    alone. More of token healing (prompts/tokens.py) takes a tokenizer.
    """
    hole, fence = ask.hole, fence_of(ask.hole)
    behind = plain(completed(hole)[0])[: len(ask.suffix)] if hole.suffix else ""
    if behind:
        said, asked = ending_question(hole, fence)
        request = f"{_others(context, fence)}{said}{plain(ask.hole.suffix)[: len(ask.suffix)]}{asked}"
    else:
        request = f"{_others(context, fence)}{beginning_question(hole)}"
    thought = f"{CHANNEL}thought\n{CHANNEL_END}"
    heal = " " if re.search(r"\S $", ask.line) else ""
    begun = f"{fence}{hole.language}\n{plain(ask.prefix).removesuffix(heal)}"
    prompt = f"<bos>{TURN}user\n{request}{TURN_END}\n{TURN}model\n{thought}{begun}"
    line_end = "" if hole.suffix.endswith("\n") else "\n"
    # A suffix that was cut short does not end the file.
    whole = len(ask.suffix) >= len(completed(hole)[0])
    return prompt, heal, behind + (f"{line_end}{fence}{TURN_END}" if whole else "")


def prompted(ask: Ask, context: list[str]) -> str:
    """The question that shows the file with its gap marked."""
    hole, fence, mark = ask.hole, fence_of(ask.hole), marker(ask.hole)
    said, asked = gap_question(hole, fence, mark)
    return f"{_others(context, fence)}{said}{plain(ask.prefix)}{mark}{plain(hole.suffix[: len(ask.suffix)])}{asked}"


def answered(ask: Ask, answer: str) -> str:
    """What an answer to that question says of the gap: its code, without the beginning of the gap's line."""
    hole, fence = ask.hole, fence_of(ask.hole)
    fences = [found.start() for found in re.finditer(rf"^[ \t]*{fence}", answer, re.M)]
    # What stands before a whole block of code is talk.
    code = answer[fences[0] :] if len(fences) > 1 else answer
    text = without_prefix(hole, up_to_the_fence(code, fence))
    line = ask.line
    if text.startswith(line):
        return text[len(line) :]
    begun = line.strip()
    # The answer may have lost the line's indent.
    return text.lstrip()[len(begun) :].lstrip() if begun and text.lstrip().startswith(begun) else text


def _others(context: list[str], fence: str) -> str:
    """Other text of the same project."""
    if not context:
        return ""
    shown = "".join(plain(one).rstrip("\n") + "\n" for one in context)
    return f"{OTHER_CODE}\n\n{fence}\n{shown}{fence}\n\n"
