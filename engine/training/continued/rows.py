"""Fill-in-the-middle rows for the continued base, built as inference meets them.

A row is `[blocks] SUFFIX suffix PREFIX prefix MIDDLE line gap END`, or with prefix and suffix in the other order. The
beginning of the cursor's line stands behind the middle mark in a share of rows: prefix and suffix then stay in a cache
while a line is typed. The last word's tokens before the cursor are taken back and the gap repeats their text (token
healing), as `Tokens.heal_indent` does at inference. Marks are special tokens that the base has and never used.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from midspan.engine.prompts.prompt import Prompt
from midspan.engine.training.continued.blocks import Blocks
from midspan.engine.training.continued.recipes import RowRecipe
from midspan.engine.training.continued.spans import Gap, cut
from midspan.engine.training.continued.texts import Corpus, Text

END, FILE, PREFIX, SUFFIX, MIDDLE = "<|endoftext|>", "<file_sep>", "<filename>", "<gh_stars>", "<issue_start>"
CHARS_A_TOKEN = 8
FEWEST_PREFIX = 24
# What is left of a row is given to another gap where it has room for it.
FEWEST_ROOM = 80
# Of the rows: suffix before prefix; the line's beginning behind the middle mark.
SUFFIX_FIRST, LINE_BEHIND = 0.5, 0.6
# People write at a file's end, and above text that is not there yet.
NO_SUFFIX, SHORT_SUFFIX = 0.1, 0.15


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Token ids of one gap and its surroundings: healed text, gap and end mark from `gap` on; the places in `text` hold
    the prefix, which may be learnt too."""

    ids: list[int]
    text: range
    gap: int
    heal: str
    middle: str
    language: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """In which order a row is laid out, what stands in front of it, and how many tokens it may take."""

    suffix_first: bool
    line_behind: bool
    blocks: Sequence[int] = ()
    room: int = 272


class RowBuilder:
    """Lays rows out with one tokenizer; all randomness comes from the caller."""

    def __init__(self, prompt: Prompt, recipe: RowRecipe) -> None:
        self.prompt, self.recipe = prompt, recipe
        self.end, self.prefix, self.suffix, self.middle = map(prompt.special_id, (END, PREFIX, SUFFIX, MIDDLE))
        self._blocks = Blocks(prompt, recipe, prompt.special_id(FILE))

    def full(self, corpus: Corpus, chance: random.Random) -> list[Row]:
        """Rows that fill `recipe.tokens` together: nearly always one, more where texts are short."""
        rows, room = [], self.recipe.tokens
        while room >= FEWEST_ROOM:
            rows.append(self.draw(corpus, chance, room))
            room -= len(rows[-1].ids)
        return rows

    def draw(self, corpus: Corpus, chance: random.Random, room: int, language: str | None = None) -> Row:
        """A row of at most `room` tokens from a random text, laid out in a random way."""
        while True:
            text = corpus.draw(chance, language)
            gap = cut(text.text, chance.randrange(len(text.text)), chance)
            if gap is None:
                continue
            others = corpus.siblings(text)
            layout = Layout(
                suffix_first=chance.random() < SUFFIX_FIRST,
                line_behind=chance.random() < LINE_BEHIND,
                blocks=self._blocks.draw(others, text, gap, chance) if room >= self.recipe.tokens else (),
                room=room,
            )
            row = self.build(text, gap, layout, self._cut_suffix(text.text[gap.end :], chance))
            if row is not None:
                return row

    def build(self, text: Text, gap: Gap, layout: Layout, suffix: str) -> Row | None:
        """The row of one gap, or None where gap and surroundings do not fit."""
        prompt, middle = self.prompt, text.text[gap.begin : gap.end]
        line = text.text.rfind("\n", 0, gap.begin) + 1 if layout.line_behind else gap.begin
        before = text.text[max(0, line - CHARS_A_TOKEN * layout.room) : line]
        if layout.line_behind:
            prefix, (behind, heal) = prompt.encode(before), prompt.heal_indent(text.text[line : gap.begin])
        else:
            (prefix, heal), behind = prompt.heal_indent(before), []
        gap_ids = self.healed(heal, middle)
        after = prompt.encode(suffix)[: min(self.recipe.suffix_tokens, layout.room // 3)]
        left = layout.room - len(layout.blocks) - len(after) - len(behind) - len(gap_ids) - 4
        if not gap_ids or len(gap_ids) > self.recipe.longest_gap or left < min(FEWEST_PREFIX, len(prefix)):
            return None
        prefix = prefix[max(0, len(prefix) - left) :]
        outside, head = [self.suffix, *after], [self.prefix, *prefix]
        front = [*layout.blocks, *(outside if layout.suffix_first else head)]
        ids = [*front, *(head if layout.suffix_first else outside), self.middle, *behind]
        begin = len(layout.blocks) + 1 + (len(outside) if layout.suffix_first else 0)
        return Row(
            ids=[*ids, *gap_ids, self.end],
            text=range(begin, begin + len(prefix)),
            gap=len(ids),
            heal=heal,
            middle=middle,
            language=text.language,
        )

    def healed(self, heal: str, middle: str) -> list[int]:
        """Ids of the gap with the healed text before it; its first token begins with that text, as inference wants it.

        Where the text's own first token is shorter than what was taken back, that is repeated as a token of its own; a
        gap for which there is none cannot be met at inference, and has no ids.
        """
        ids = self.prompt.encode(heal + middle)
        if not heal or (ids and self.prompt.cell_text(ids[0]).startswith(heal)):
            return ids
        again = self.prompt.encode(heal)
        return [*again, *self.prompt.encode(middle)] if len(again) == 1 else []

    def _cut_suffix(self, suffix: str, chance: random.Random) -> str:
        """All of it, the rest of its line, or at most three lines more."""
        draw, whole = chance.random(), suffix[: CHARS_A_TOKEN * self.recipe.suffix_tokens]
        if draw < NO_SUFFIX:
            return whole.split("\n", 1)[0]
        if draw < NO_SUFFIX + SHORT_SUFFIX:
            return "\n".join(whole.split("\n")[: chance.randint(2, 4)])
        return whole
