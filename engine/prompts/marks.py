"""Hole <-> token ids between a tokenizer's own marks of fill-in-the-middle; fim_templates.json has those of many.

    [start] [text of other files] PREFIX prefix SUFFIX suffix MIDDLE beginning-of-the-line  GAP  end

or with the suffix first. The beginning of the gap's line stands behind the middle mark, so that typing changes the end
of the prompt alone. Where the suffix comes between, some whole lines above stand there too: a line that is ended then
does not move the suffix, but each STEP_LINES-th. Token healing works on it as in other layouts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

from tokenizers import AddedToken, Tokenizer

from midspan.engine.api import CheckpointError, GapKind, Hole
from midspan.engine.marks_settings import MarksLayout
from midspan.engine.prompts.other_files import OtherFiles
from midspan.engine.prompts.prompt import Layout
from midspan.engine.prompts.surroundings import CHARS_A_TOKEN, completed, is_whole_line, near
from midspan.engine.prompts.templates import chosen_marks
from midspan.engine.prompts.tokenizer_json import open_tokenizer
from midspan.engine.prompts.tokens import Tokens, last

# Prefixes that the suffix follows end at multiples of so many lines, if they have at least twice as many.
STEP_LINES = 8


class MarksPrompt(Tokens):
    """A checkpoint's tokenizer and its layout of holes between marks."""

    # As of the embedded model: a block gets its first line only.
    many_lines: tuple[GapKind, ...] = ("span",)

    def __init__(
        self, tokenizer: Tokenizer, layout: MarksLayout, vocab_size: int, *, file: Path, settings: Path
    ) -> None:
        """A tokenizer that puts no blank before a text, of `file`; its settings are in `settings`.

        Raises CheckpointError where it has not the marks, or more tokens than the network.
        """
        self.marks = chosen_marks(file, settings, layout, tokenizer.get_vocab(with_added_tokens=True))
        named = (*self.marks.needed, *self.marks.ends)
        self._ids = {mark: token for mark in named if (token := tokenizer.token_to_id(mark)) is not None}
        # Some tokenizers do not call them special, and a file's text could spell them.
        tokenizer.add_special_tokens([AddedToken(mark, special=True, normalized=False) for mark in self._ids])
        super().__init__(tokenizer, self._ids.values())
        if vocab_size < self.vocab_size:
            have = f"{file}: the tokenizer has {self.vocab_size} tokens, the network {vocab_size}"
            raise CheckpointError(f"{have}; copy both from one checkpoint")
        self.widen(vocab_size)
        self._layout = layout
        self.others = OtherFiles(self.marks, self._ids, self.encode)
        self._read: dict[str, tuple[str, list[int]]] = {}

    @classmethod
    def open(cls, folder: Path, layout: MarksLayout, vocab_size: int) -> Self:
        """That of a checkpoint folder. Raises CheckpointError."""
        file = folder / "tokenizer.json"
        tokenizer = open_tokenizer(file, mid_text=True)
        return cls(tokenizer, layout, vocab_size, file=file, settings=folder / "midspan.json")

    @property
    def end_ids(self) -> tuple[int, ...]:
        """Any special token ends a gap: a model that writes another one has nothing more to say."""
        return self.special_ids

    def vocabulary(self) -> dict[str, int]:
        """The tokenizer's tokens and their ids."""
        return self._tokenizer.get_vocab(with_added_tokens=True)

    def lay_out(self, hole: Hole, context_tokens: int | None = None) -> Layout:
        """The hole's ids; `prefix` is the whole prompt, with at most so many tokens of text from elsewhere.

        As many as the checkpoint's settings say where none are given.
        """
        layout, marks = self._layout, self.marks
        suffix, append = completed(hole)
        line = self._behind(hole.prefix) if layout.line_behind else len(hole.prefix)
        begun = hole.prefix[line:][-CHARS_A_TOKEN * layout.prefix_tokens :]
        above = near(hole.prefix[:line], layout.prefix_tokens)
        if layout.line_behind:
            prefix, (behind, heal) = self._kept("prefix", above), self.heal_indent(begun)
        else:
            (prefix, heal), behind = self.heal_indent(above), []
        after = self._kept("suffix", suffix[: CHARS_A_TOKEN * layout.suffix_tokens])[: layout.suffix_tokens]
        before = [self._ids[marks.prefix], *last(prefix, layout.prefix_tokens)]
        outside = [self._ids[marks.suffix], *after]
        parts = (outside, before) if marks.suffix_first else (before, outside)
        start = [] if marks.start is None else [self._ids[marks.start]]
        most = layout.context_tokens if context_tokens is None else context_tokens
        ids = [*start, *self.others.ids(hole.context, most), *parts[0], *parts[1], self._ids[marks.middle], *behind]
        return Layout(
            prefix=ids,
            suffix=after,
            heal=heal,
            append=append,
            one_line=hole.kind not in self.many_lines,
            whole_line=is_whole_line(hole.prefix),
        )

    def _behind(self, prefix: str) -> int:
        """Where the text that stands behind the middle mark begins: at the gap's line, or up to seven lines above."""
        line, above = prefix.rfind("\n") + 1, prefix.count("\n")
        if self.marks.suffix_first or above < 2 * STEP_LINES:
            return line
        for _ in range(above % STEP_LINES):
            line = prefix.rfind("\n", 0, line - 1) + 1
        return line

    def fim_ids(self, layout: Layout) -> list[int]:
        """The prompt."""
        return layout.prefix

    def text(self, gap: list[int], layout: Layout) -> str:
        """The text to insert at the cursor for these gap ids; empty if they do not repeat the healed text."""
        text = self.decode(gap)
        if not text.startswith(layout.heal):
            return ""
        text = text[len(layout.heal) :]
        return (text.partition("\n")[0] if layout.one_line else text) + layout.append

    def _kept(self, name: str, text: str) -> list[int]:
        """A text's ids, which are usually the same from key to key."""
        if name not in self._read or self._read[name][0] != text:
            self._read[name] = (text, self.encode(text))
        return self._read[name][1]
