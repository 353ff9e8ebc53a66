"""Hole <-> token ids; only this folder knows tokenizers.

Token healing: the text before the gap often ends in the middle of a token. So its last word is removed from the prefix,
and the gap's first slot may only hold tokens that begin with that word.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from pathlib import Path

import torch

from midspan.engine.api import CheckpointError, GapKind, Hole
from midspan.engine.prompts.tokenizer_json import open_tokenizer

EOS_ID, BOS_ID = 1, 2
ANCHOR_SHARE = 4
# Text beyond so many characters per token is dropped before it is encoded, in steps that keep the prefix cache valid.
CHARS_A_TOKEN, ANCHOR_CHARS = 8, 1024
# Encoded ids are reused up to a line's end; at most so many characters are encoded again at every key.
LINE_END, REST_CHARS = re.compile(r"(?<=\S)\n"), 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A hole in tokens: prefix ids (<bos>, context, text), suffix ids, healed text, and the line end that we append."""

    prefix: list[int]
    suffix: list[int]
    heal: str
    append: str


class Prompt:
    """A checkpoint's tokenizer and its layout of holes; gaps of a kind in `many_lines` may have several lines."""

    # A block gets its first line only: the small network is rarely right beyond it.
    many_lines: tuple[GapKind, ...] = ("span",)

    def __init__(self, tokenizer_file: Path, *, prefix_tokens: int, filler_id: int, context_tokens: int = 0) -> None:
        self._tokenizer, self._file = open_tokenizer(tokenizer_file), tokenizer_file
        self._prefix_tokens, self._context_tokens = prefix_tokens, context_tokens
        self._context: tuple[tuple[str, ...], list[int]] = ((), [])
        self._suffix: tuple[str, list[int]] = ("", [])
        self._before: tuple[str, list[int]] = ("", [])
        self.filler_id = filler_id
        known = set(self._tokenizer.get_vocab().values())
        self.vocab_size = max(known) + 1
        # Gemma's added tokens include ordinary text: line ends and runs of blanks.
        added = self._tokenizer.get_added_tokens_decoder()
        self.special_ids = tuple(sorted(i for i, token in added.items() if token.special))
        special = set(self.special_ids)
        for name, token in (("<eos>", EOS_ID), ("<bos>", BOS_ID)):
            if token not in special:
                fix = "copy it from the checkpoint's source"
                raise CheckpointError(f"{tokenizer_file}: id {token} is no special token, {name}; {fix}")
        # Ids without a token are banned like special tokens.
        self.banned = tuple(i for i in range(self.vocab_size) if (i in special or i not in known) and i != filler_id)
        self._texts = ["" if i in special else self.decode([i]) for i in range(self.vocab_size)]
        # Sorted by text, so that tokens with the same beginning are neighbours.
        self._order = sorted(range(self.vocab_size), key=self._texts.__getitem__)
        self._longest = max(map(len, self._texts))
        self._allowed: dict[str, torch.Tensor] = {}

    def widen(self, vocab_size: int) -> None:
        """Ban the ids that only the network has. Raises CheckpointError if it has fewer than the tokenizer."""
        if vocab_size < self.vocab_size:
            have = f"{self._file.parent}: tokenizer.json has {self.vocab_size} tokens, config.json {vocab_size}"
            raise CheckpointError(f"{have}; copy both from one checkpoint")
        more = range(self.vocab_size, vocab_size)
        self.banned += tuple(more)
        self._texts += [""] * len(more)
        self._order[:0] = more
        self.vocab_size = vocab_size

    def lay_out(self, hole: Hole) -> Layout:
        """The hole's ids. For a gap of whole lines we append the last line end, so that the suffix begins with it."""
        suffix, append = hole.suffix, ""
        at_line_start = not hole.prefix or hole.prefix.endswith("\n")
        # A draft without a line end is part of a line.
        at_line_start &= not hole.draft or hole.draft.endswith("\n")
        if not suffix:
            suffix, append = "\n", "\n" if at_line_start else ""
        elif at_line_start and not suffix.startswith("\n"):
            suffix, append = "\n" + suffix, "\n"
        # Usually the same from key to key.
        if suffix != self._suffix[0]:
            self._suffix = (suffix, self.encode(suffix))
        suffix_ids = list(self._suffix[1])
        if not hole.suffix:
            suffix_ids.append(EOS_ID)
        prefix_ids, heal = self.heal(self._near(hole.prefix))
        prefix_ids = [BOS_ID, *self._context_ids(hole.context), *self._cut(prefix_ids)]
        return Layout(prefix=prefix_ids, suffix=suffix_ids, heal=heal, append=append)

    def allowed_first(self, heal: str) -> torch.Tensor | None:
        """Boolean [V]: tokens whose text begins with `heal`; None if no text was healed."""
        if not heal:
            return None
        if heal not in self._allowed:
            if len(self._allowed) > 256:
                self._allowed.clear()
            self._allowed[heal] = torch.zeros(self.vocab_size, dtype=torch.bool)
            self._allowed[heal][self._beginning_with(heal)] = True
        return self._allowed[heal]

    def _beginning_with(self, text: str) -> list[int]:
        """The tokens whose text begins with `text`."""
        begin = bisect_left(self._order, text, key=self._texts.__getitem__)
        end = bisect_right(self._order, text, lo=begin, key=lambda token: self._texts[token][: len(text)])
        return self._order[begin:end]

    def gap_ids(self, slots: list[int]) -> list[int]:
        """The slots up to the first filler."""
        return slots[: slots.index(self.filler_id)] if self.filler_id in slots else slots

    def text(self, gap: list[int], layout: Layout) -> str:
        """The text to insert at the cursor for these gap ids; empty if they do not repeat the healed text."""
        text = self.decode(gap)
        if not text.startswith(layout.heal):
            return ""
        return text[len(layout.heal) :] + layout.append

    def decode(self, ids: list[int]) -> str:
        """Ids to text; special ids have no text."""
        out: str = self._tokenizer.decode(ids, skip_special_tokens=True)
        return out

    def cell_text(self, token: int) -> str:
        """The text of one token, for display."""
        return self._texts[token]

    def encode(self, text: str) -> list[int]:
        """Text to ids, without special ids."""
        # Encoding a batch releases the interpreter lock, encoding a single text does not.
        ids: list[int] = self._tokenizer.encode_batch_fast([text], add_special_tokens=False)[0].ids
        return ids

    def special_id(self, token: str) -> int:
        """A special token's id. Raises CheckpointError where the tokenizer has no such token."""
        found: int | None = self._tokenizer.token_to_id(token)
        if found is None:
            raise CheckpointError(f"{self._file}: no token `{token}`; copy it from the checkpoint's source")
        return found

    def _near(self, prefix: str) -> str:
        """The end of a text, from a line's start on, long enough for `prefix_tokens`; typing keeps the start."""
        beyond = len(prefix) - CHARS_A_TOKEN * self._prefix_tokens
        if beyond <= 0:
            return prefix
        return prefix[prefix.rfind("\n", 0, beyond - beyond % ANCHOR_CHARS) + 1 :]

    def heal(self, prefix: str) -> tuple[list[int], str]:
        """Prefix ids without the last word's tokens, and the text of these tokens, with which some token must begin.

        If no token begins with the whole word, only its last tokens are removed, or none.
        """
        if not prefix:
            return [], ""
        before, prefix = self._begun(prefix)
        [encoding] = self._tokenizer.encode_batch([prefix], add_special_tokens=False)
        words, offsets = encoding.word_ids, encoding.offsets
        starts = [i for i, word in enumerate(words) if word == words[-1]]
        for first in starts:
            # This token begins in the middle of a character that is split over several tokens.
            if first and offsets[first - 1][1] > offsets[first][0]:
                continue
            if len(prefix) - offsets[first][0] > self._longest:
                continue
            heal = prefix[offsets[first][0] :]
            if self._beginning_with(heal):
                return [*before, *encoding.ids[:first]], heal
        return [*before, *encoding.ids], ""

    def _begun(self, prefix: str) -> tuple[list[int], str]:
        """The ids up to a line's end, cached from key to key, and the text behind it.

        The cut is behind a line of text, if encoding both sides apart gives the same tokens as encoding them together.
        """
        text, ids = self._before
        if prefix.startswith(text + "\n") and len(prefix) - len(text) < REST_CHARS:
            return ids, prefix[len(text) :]
        self._before = ("", [])
        if (cut := max((end.start() for end in LINE_END.finditer(prefix)), default=0)) == 0:
            return [], prefix
        [encoding] = self._tokenizer.encode_batch([prefix], add_special_tokens=False)
        begins = [begin for begin, _ in encoding.offsets]
        place = bisect_left(begins, cut)
        if encoding.ids[place:] != self.encode(prefix[cut:]):
            return [], prefix
        self._before = (prefix[:cut], encoding.ids[:place])
        return self._before[1], prefix[cut:]

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

    def _cut(self, ids: list[int]) -> list[int]:
        """At most the last `prefix_tokens` ids, cut at multiples of a quarter, so that the cache survives typing."""
        limit = self._prefix_tokens
        if len(ids) <= limit:
            return ids
        anchor = max(1, limit // ANCHOR_SHARE)
        return ids[-(-(len(ids) - limit) // anchor) * anchor :]
