"""A checkpoint's tokens: text to ids and back, which ids a gap may hold, and token healing.

Token healing: the text before the gap often ends in the middle of a token. So its last word is removed from the prefix,
and the gap's first token may only be one that begins with that word.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable

import torch
from tokenizers import Tokenizer

ANCHOR_SHARE = 4
# Encoded ids are reused up to a line's end; at most so many characters are encoded again at every key.
LINE_END, REST_CHARS = re.compile(r"(?<=\S)\n"), 512


class Tokens:
    """A tokenizer, with the text of every id."""

    def __init__(self, tokenizer: Tokenizer, marks: Iterable[int] = ()) -> None:
        """`marks` are ids without text beside those that the tokenizer calls special."""
        self._tokenizer = tokenizer
        self._before: tuple[str, list[int]] = ("", [])
        known = set(tokenizer.get_vocab().values())
        self.vocab_size = max(known) + 1
        # Gemma's added tokens include ordinary text: line ends and runs of blanks.
        added = tokenizer.get_added_tokens_decoder()
        self.special_ids = tuple(sorted({i for i, token in added.items() if token.special} | set(marks)))
        special = set(self.special_ids)
        # Ids without a token are banned like special tokens.
        self.unwritten = tuple(i for i in range(self.vocab_size) if i in special or i not in known)
        self._texts = ["" if i in special else self.decode([i]) for i in range(self.vocab_size)]
        # Sorted by text, so that tokens with the same beginning are neighbours.
        self._order = sorted(range(self.vocab_size), key=self._texts.__getitem__)
        self._longest = max(map(len, self._texts))
        self._allowed: dict[str, torch.Tensor] = {}

    def widen(self, vocab_size: int) -> None:
        """Ban the ids that only the network has; it has at least as many as the tokenizer."""
        more = range(self.vocab_size, vocab_size)
        self.unwritten += tuple(more)
        self._texts += [""] * len(more)
        self._order[:0] = more
        self.vocab_size = vocab_size

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

    def heal_indent(self, prefix: str) -> tuple[list[int], str]:
        """As `heal`, but of several blanks only the last one is taken back: a text's tokens have it before a word."""
        if not re.search(r"\s[ \t]\Z", prefix):
            return self.heal(prefix)
        before, rest = self._begun(prefix[:-1])
        return [*before, *self.encode(rest)], prefix[-1]

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


def last(ids: list[int], limit: int) -> list[int]:
    """At most the last `limit` ids, cut at multiples of a quarter, so that the cache survives typing."""
    if len(ids) <= limit:
        return ids
    anchor = max(1, limit // ANCHOR_SHARE)
    return ids[-(-(len(ids) - limit) // anchor) * anchor :]
