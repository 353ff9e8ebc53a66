"""Keys and values of the clean text before the gap; after a keystroke only the changed tail is encoded."""

from __future__ import annotations

from collections.abc import Callable

import torch

from midspan.engine.backends.backend import Backend, Interrupted
from midspan.engine.cache import Cache

CHUNK_TOKENS = 1024


class PrefixCache:
    """The encoder's cache of one prefix; `encoded_tokens` counts all tokens that went through the network.

    It is sized for `expected` tokens and grows for a longer prefix. `chunk` tokens are read at a time.
    """

    def __init__(self, backend: Backend, expected: int = 512, chunk: int = CHUNK_TOKENS) -> None:
        self.backend, self._chunk = backend, chunk
        self._ids: list[int] = []
        self.memory: Cache = backend.new_cache(expected)
        self.last_hidden = torch.empty(0)  # [d], of the last prefix token
        self.encoded_tokens = 0

    @torch.inference_mode()
    def encode(self, ids: list[int], interrupted: Callable[[], bool] = lambda: False) -> int:
        """Make the cache hold exactly `ids` (at least one), reusing the longest common prefix.

        Returns the number of tokens encoded: at least one, because the last token's hidden row is needed, or none for
        the same ids again, so that their fill is the same to the last digit. Where it is interrupted, between two
        chunks or in one, the cache holds what was read by then, and there is no such row.
        """
        assert ids, "a prefix begins with <bos>"
        if ids == self._ids and self.memory.length == len(ids):
            return 0
        kept = min(_common_length(self._ids, ids), len(ids) - 1, self.memory.length)
        self.memory.truncate(kept)
        self._ids = ids[:kept]
        for begin in range(kept, len(ids), self._chunk):
            if begin > kept and interrupted():
                break
            chunk = ids[begin : begin + self._chunk]
            try:
                hidden = self.backend.prefill(torch.tensor([chunk], device=self.backend.device), self.memory, last=1)
            except Interrupted:
                break
            self._ids.extend(chunk)
            self.last_hidden = hidden[0, -1]
        encoded = len(self._ids) - kept
        self.encoded_tokens += encoded
        return encoded


def _common_length(old: list[int], new: list[int]) -> int:
    """The length of the common prefix."""
    for index, (left, right) in enumerate(zip(old, new, strict=False)):
        if left != right:
            return index
    return min(len(old), len(new))
