"""Hole <-> token ids; only this folder knows tokenizers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from midspan.engine.api import CheckpointError, GapKind, Hole
from midspan.engine.prompts.surroundings import completed, near
from midspan.engine.prompts.tokenizer_json import open_tokenizer
from midspan.engine.prompts.tokens import Tokens, last

EOS_ID, BOS_ID = 1, 2
# Of the suffix, in a prompt of fill-in-the-middle.
SUFFIX_TOKENS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A hole in tokens: prefix ids (<bos>, context, text), suffix ids, healed text, and the line end that we append.

    A gap that is `one_line` is cut where its line ends.
    """

    prefix: list[int]
    suffix: list[int]
    heal: str
    append: str
    one_line: bool = False


class Lettered(Protocol):
    """Whatever turns gap ids into the text to insert."""

    def text(self, gap: list[int], layout: Layout) -> str:
        """The text to insert at the cursor for these gap ids; empty if they do not repeat the healed text."""


class Prompt(Tokens):
    """A checkpoint's tokenizer and its layout of holes; gaps of a kind in `many_lines` may have several lines."""

    # A block gets its first line only: the small network is rarely right beyond it.
    many_lines: tuple[GapKind, ...] = ("span",)
    # What ends a gap that is written from left to right.
    end_ids: tuple[int, ...] = (EOS_ID,)

    def __init__(self, tokenizer_file: Path, *, prefix_tokens: int, filler_id: int, context_tokens: int = 0) -> None:
        super().__init__(open_tokenizer(tokenizer_file))
        self._file = tokenizer_file
        self._prefix_tokens, self._context_tokens = prefix_tokens, context_tokens
        self._context: tuple[tuple[str, ...], list[int]] = ((), [])
        self._suffix: tuple[str, list[int]] = ("", [])
        self.filler_id = filler_id
        for name, token in (("<eos>", EOS_ID), ("<bos>", BOS_ID)):
            if token not in self.special_ids:
                fix = "copy it from the checkpoint's source"
                raise CheckpointError(f"{tokenizer_file}: id {token} is no special token, {name}; {fix}")
        self.banned = tuple(token for token in self.unwritten if token != filler_id)

    def widen(self, vocab_size: int) -> None:
        """Ban the ids that only the network has. Raises CheckpointError if it has fewer than the tokenizer."""
        if vocab_size < self.vocab_size:
            have = f"{self._file.parent}: tokenizer.json has {self.vocab_size} tokens, config.json {vocab_size}"
            raise CheckpointError(f"{have}; copy both from one checkpoint")
        self.banned += tuple(range(self.vocab_size, vocab_size))
        super().widen(vocab_size)

    def lay_out(self, hole: Hole) -> Layout:
        """The hole's ids."""
        suffix, append = completed(hole)
        # Usually the same from key to key.
        if suffix != self._suffix[0]:
            self._suffix = (suffix, self.encode(suffix))
        suffix_ids = list(self._suffix[1])
        if not hole.suffix:
            suffix_ids.append(EOS_ID)
        prefix_ids, heal = self.heal(near(hole.prefix, self._prefix_tokens))
        prefix_ids = [BOS_ID, *self._context_ids(hole.context), *last(prefix_ids, self._prefix_tokens)]
        return Layout(prefix=prefix_ids, suffix=suffix_ids, heal=heal, append=append)

    def fim_ids(self, layout: Layout) -> list[int]:
        """The prompt of fill-in-the-middle: `<bos> suffix <filler> prefix`."""
        bos, *prefix = layout.prefix
        return [bos, *layout.suffix[:SUFFIX_TOKENS], self.filler_id, *prefix]

    def gap_ids(self, slots: list[int]) -> list[int]:
        """The slots up to the first filler."""
        return slots[: slots.index(self.filler_id)] if self.filler_id in slots else slots

    def text(self, gap: list[int], layout: Layout) -> str:
        """The text to insert at the cursor for these gap ids; empty if they do not repeat the healed text."""
        text = self.decode(gap)
        if not text.startswith(layout.heal):
            return ""
        return text[len(layout.heal) :] + layout.append

    def special_id(self, token: str) -> int:
        """A special token's id. Raises CheckpointError where the tokenizer has no such token."""
        found: int | None = self._tokenizer.token_to_id(token)
        if found is None:
            raise CheckpointError(f"{self._file}: no token `{token}`; copy it from the checkpoint's source")
        return found

    def _context_ids(self, context: tuple[str, ...]) -> list[int]:
        """Ids of the last snippets that fit into `context_tokens` together, each whole and with a line end."""
        if not self._context_tokens:
            return []
        # Usually the same from key to key.
        if context != self._context[0]:
            ids: list[int] = []
            for snippet in reversed(context):
                more = self.encode(snippet.rstrip("\n") + "\n")
                if len(more) + len(ids) > self._context_tokens:
                    break
                ids = more + ids
            self._context = (context, ids)
        return self._context[1]
