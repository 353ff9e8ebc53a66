"""One gap on its way to a server: what is sent of its text, and how long the answer may be."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from midspan.engine.api import Budget, Hole
from midspan.engine.prompts.shelf import that_fit
from midspan.engine.prompts.surroundings import CHARS_A_TOKEN, SOME_LINES, completed, is_whole_line, near
from midspan.engine.remote.writing import PRIOR, Piece, Written

# As the layout `marks` reads and writes in this process (marks_settings.py), and a chat's layouts of other text.
PREFIX_TOKENS, SUFFIX_TOKENS, CONTEXT_TOKENS = 512, 160, 1024
LINE_TOKENS, SPAN_TOKENS = 48, 192
# Of ordinary code; a server cuts what is more.
CHARS_OF_CONTEXT = 4 * CONTEXT_TOKENS


@dataclass(slots=True, kw_only=True)
class Ask:
    """A hole with its budget, asked `began` seconds of time.perf_counter ago; `show` is told of every piece written."""

    hole: Hole
    budget: Budget
    began: float = field(default_factory=time.perf_counter)
    show: Callable[[Written], None] = lambda _: None

    @property
    def one_line(self) -> bool:
        """Whether the gap ends with its line."""
        return self.hole.kind not in SOME_LINES

    @property
    def most_tokens(self) -> int:
        """How many tokens the gap may have."""
        return LINE_TOKENS if self.one_line else SPAN_TOKENS

    @property
    def prefix(self) -> str:
        """The text before the gap that is sent: its end, which begins where it does at the last key."""
        return near(self.hole.prefix, PREFIX_TOKENS)

    @property
    def above(self) -> str:
        """What is sent of the lines above the gap's."""
        return self.prefix[: len(self.prefix) - len(self.line)]

    @property
    def line(self) -> str:
        """The beginning of the gap's line."""
        return self.prefix[self.prefix.rfind("\n") + 1 :]

    @property
    def suffix(self) -> str:
        """The text behind the gap that is sent."""
        return completed(self.hole)[0][: CHARS_A_TOKEN * SUFFIX_TOKENS]

    @property
    def context(self) -> list[str]:
        """The snippets of other text that are sent: the last ones that fit."""
        return that_fit(self.hole.context, CHARS_OF_CONTEXT, len)

    @property
    def left_s(self) -> float | None:
        """Seconds until the deadline, at least 0; None without one."""
        limit = self.budget.deadline_s
        return None if limit is None else max(0.0, limit - (time.perf_counter() - self.began))


async def write(ask: Ask, pieces: AsyncIterator[Piece], written: Written) -> bool:
    """Take pieces until the gap ends, is too long, or cannot become as sure as it is wanted.

    Says whether the server has no more to send of it.
    """
    async for piece in pieces:
        written.steps += 1
        written.pieces.append(piece.text)
        written.values += piece.values
        line_ends = ask.one_line and "\n" in piece.text
        written.ended = piece.ended or line_ends
        ask.show(written)
        if piece.last:
            return True
        written.hopeless = bool(written.values) and _reach(ask, written) < ask.budget.min_confidence
        if line_ends or written.hopeless or written.steps >= ask.most_tokens:
            return False
    return True


def _reach(ask: Ask, written: Written) -> float:
    """The most that the confidence can come to."""
    count = len(written.values)
    line = is_whole_line(ask.hole.prefix)
    return PRIOR.reach(sum(written.values), count, max(count, ask.most_tokens + 1), line=line)
