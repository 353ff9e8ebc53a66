"""Hole <-> token ids for a checkpoint that follows instructions, with its turns written by their own tokens.

    <bos><|turn>user\\n REQUEST <turn|>\\n<|turn>model\\n<|channel>thought\\n<channel|> ```language\\n BEGINNING  CANVAS

The thought is empty, because thinking is off; with `thought` false there is none. We write the beginning of the answer:
a code fence that is longer than any in the file, then the text right before the gap. So the canvas continues that text,
and token healing works as in other layouts. `prompted`: the request shows the file with its gap marked, the beginning
is the gap's line so far, and the canvas holds the rest of the answer and the turn's end. `clamped`: the request shows
how the file ends, the beginning is the file up to the gap, and the canvas holds a gap of one of the tried lengths and
the frozen suffix.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from midspan.engine.api import CheckpointError, Hole
from midspan.engine.prompts.overlap import up_to_the_fence, without_prefix, without_suffix
from midspan.engine.prompts.prompt import BOS_ID, Layout, Prompt
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
from midspan.engine.prompts.surroundings import SOME_LINES
from midspan.engine.prompts.tokens import last
from midspan.engine.settings import LayoutSettings

# Tokens without a meaning yet, or without text.
PLACEHOLDER = re.compile(r"<unused\d+>|\[multimodal\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatLayout(Layout):
    """A Layout with the hole that the answer is cut to, and the fence that closes its code block."""

    hole: Hole
    fence: str


class ChatPrompt(Prompt):
    """The tokenizer and the turns of an instruction-tuned checkpoint."""

    def __init__(self, tokenizer_file: Path, layout: LayoutSettings) -> None:
        super().__init__(
            tokenizer_file,
            prefix_tokens=layout.prefix_tokens,
            filler_id=layout.filler_id,
            context_tokens=layout.context_tokens,
        )
        self._prompted, self._suffix_tokens = layout.kind == "prompted", layout.suffix_tokens
        self._empty_thinking = layout.empty_thinking
        needed = (TURN, TURN_END, CHANNEL, CHANNEL_END, *ENDS)
        found = {name: self._tokenizer.token_to_id(name) for name in needed}
        absent = [name for name, token in found.items() if token not in self.special_ids]
        if absent:
            advice = "give its midspan.json another layout (see ARCHITECTURE.md)"
            raise CheckpointError(f"{tokenizer_file}: {absent[0]} is no special token, as chats need; {advice}")
        self.many_lines = SOME_LINES
        self._turns = {name: token for name, token in found.items() if token is not None}
        self._ends = frozenset(self._turns[name] for name in ENDS) if self._prompted else frozenset[int]()
        # Gemma's vocabulary lists them as ordinary text.
        placeholders = (i for i in range(self.vocab_size) if PLACEHOLDER.fullmatch(self.cell_text(i)))
        self.banned = (*(i for i in self.special_ids if i not in self._ends), *placeholders)

    def lay_out(self, hole: Hole) -> ChatLayout:
        """The hole's ids; see the module. The suffix is all that follows the gap, up to the turn's end."""
        plain, fence = super().lay_out(hole), fence_of(hole)
        line_end = "" if hole.suffix.endswith("\n") and not self._prompted else "\n"
        closing = [*self.encode(line_end + fence), self._turns[TURN_END]]
        begun, heal = self._beginning(hole, plain)
        prefix = [*self.question(self._request(hole, fence)), *self.encode(f"{fence}{hole.language}\n"), *begun]
        if not self._prompted:
            suffix = [*(plain.suffix if hole.suffix else ()), *closing]
        else:
            # An answer closes its code block itself; a renoised draft does not.
            suffix = closing if hole.keeps_draft else closing[-1:]
        return ChatLayout(prefix=prefix, suffix=suffix, heal=heal, append=plain.append, hole=hole, fence=fence)

    def question(self, request: Iterable[int]) -> list[int]:
        """The user's turn with a request (ids), and the model's turn up to the answer."""
        turn, end = self._turns[TURN], self._turns[TURN_END]
        empty = [self._turns[CHANNEL], *self.encode("thought\n"), self._turns[CHANNEL_END]]
        thought = empty if self._empty_thinking else []
        asked = [turn, *self.encode("user\n"), *request, end, *self.encode("\n")]
        return [BOS_ID, *asked, turn, *self.encode("model\n"), *thought]

    def gap_ids(self, slots: list[int]) -> list[int]:
        """The slots before the end of the turn; in `clamped`, all slots."""
        ends = (place for place, token in enumerate(slots) if token in self._ends)
        return slots[: next(ends, len(slots))]

    def text(self, gap: list[int], layout: Layout) -> str:
        """The text to insert at the cursor: the answer without code fence and without the text around the gap."""
        assert isinstance(layout, ChatLayout)
        text, hole = self.decode(gap), layout.hole
        if not text.startswith(layout.heal):
            return ""
        text = text[len(layout.heal) :]
        if self._prompted:
            text = without_prefix(hole, up_to_the_fence(text, layout.fence))
        if hole.kind not in SOME_LINES:
            text = text.split("\n", 1)[0]
        text = without_suffix(hole, text, same_line=self._prompted)
        return text + layout.append if text.strip() and not text.endswith("\n") else text

    def _beginning(self, hole: Hole, plain: Layout) -> tuple[list[int], str]:
        """The answer's first ids, which we write, and the healed text that the canvas must repeat."""
        if not self._prompted:
            kept = plain.prefix[1 + len(self._context_ids(hole.context)) :]
            return kept, plain.heal
        head = hole.prefix[hole.prefix.rfind("\n") + 1 :]
        return self.heal(head)

    def _request(self, hole: Hole, fence: str) -> list[int]:
        """The request in ids."""
        ids = list[int]()
        if context := self._context_ids(hole.context):
            ids += [*self.encode(f"{OTHER_CODE}\n\n{fence}\n"), *context, *self.encode(f"{fence}\n\n")]
        after = self.encode(hole.suffix)[: self._suffix_tokens]
        if self._prompted:
            mark = marker(hole)
            before = last(self.encode(hole.prefix), self._prefix_tokens)
            said, asked = gap_question(hole, fence, mark)
            return [*ids, *self.encode(said), *before, *self.encode(mark), *after, *self.encode(asked)]
        if not after:
            return [*ids, *self.encode(beginning_question(hole))]
        said, asked = ending_question(hole, fence)
        return [*ids, *self.encode(said), *after, *self.encode(asked)]
