"""Drafts: tokens that may come next in a greedy search are read in the same pass as the token before them.

A pass over a network reads every weight, whatever the number of its rows, so that rows beside the one that is wanted
cost little. A draft is kept as far as the search writes the same, so the fill is the one without drafts, only sooner.
Drafts are whole fills that may be right (what the last fill left to type, similar lines), then what follows the last
tokens elsewhere in the prompt (prompt lookup, github.com/apoorvumang/prompt-lookup-decoding).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import torch

from midspan.engine.api import Hole
from midspan.engine.backends.backend import Backend
from midspan.engine.cache import Cache
from midspan.engine.hypotheses.hypothesis import Gap
from midspan.engine.next_token import NextToken

# Rows of a draft: on two cores of AVX2 a pass of eight rows takes 1.6 times as long as one of a single row.
MOST_TOKENS = 7
# So many last tokens are looked for in the prompt, the most first.
LOOKED_FOR = (4, 3, 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class LastFill:
    """What a search wrote for a hole, whether it came to its end or not."""

    hole: Hole
    text: str

    def rest(self, hole: Hole) -> str:
        """What is left of the text for the same hole, of which more is typed; empty for any other."""
        typed = hole.prefix.removeprefix(self.hole.prefix)
        same = hole.suffix == self.hole.suffix and self.hole.prefix + typed == hole.prefix
        return self.text[len(typed) :] if same and self.text.startswith(typed) else ""


class Drafts:
    """What may follow the tokens of a gap that are written."""

    def __init__(self, prompt: Sequence[int], fills: Iterable[Gap], ends: torch.Tensor) -> None:
        """The prompt's ids, fills that may be right, the likeliest first, and boolean [V], the ids that end a gap."""
        self._prompt, self._fills, self._ends = tuple(prompt), tuple(fills), ends
        self._places: dict[Gap, int] = {}
        for size in LOOKED_FOR:
            # The last place counts, and of nothing behind it nothing is known.
            places = range(size, len(self._prompt))
            self._places.update((self._prompt[end - size : end], end) for end in places)

    def after(self, written: Gap) -> Gap:
        """At most MOST_TOKENS ids, none of which ends the gap; none if nothing is known."""
        draft = self._follows(written)
        ends = self._ends[list(draft)].nonzero()
        return draft[: int(ends[0])] if len(ends) else draft

    def _follows(self, written: Gap) -> Gap:
        for fill in self._fills:
            if len(fill) > len(written) and fill[: len(written)] == written:
                return fill[len(written) :][:MOST_TOKENS]
        recent = (self._prompt + written)[-max(LOOKED_FOR) :]
        for size in LOOKED_FOR:
            if (end := self._places.get(recent[-size:])) is not None:
                return self._prompt[end : end + MOST_TOKENS]
        return ()


@dataclass(slots=True)
class DraftCounts:
    """Of all searches with drafts: passes over the network, tokens written, tokens drafted, and those of them kept."""

    passes: int = 0
    written: int = 0
    drafted: int = 0
    kept: int = 0


class DraftedCache:
    """The keys and values of a greedy search's one beam, behind one cached prefix, with what drafts add to it.

    The cache's length includes the beam and a draft; the context manager removes both at its end. See BeamCache.
    """

    def __init__(self, backend: Backend, memory: Cache, drafts: Drafts, counts: DraftCounts) -> None:
        self._backend, self._memory, self._prefix = backend, memory, memory.length
        self._drafts, self._counts = drafts, counts
        self.written: Gap = ()
        self._known: dict[Gap, NextToken] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._memory.truncate(self._prefix)

    def next_token(self, parents: list[int], ids: list[int], ask: Callable[[torch.Tensor], NextToken]) -> NextToken:
        """Append the one id; see BeamCache.next_token."""
        assert len(ids) == 1, "drafts are for greedy searches"
        self.written = (*self.written, *ids)
        self._counts.written += 1
        if self.written in self._known:
            self._counts.kept += 1
        else:
            self._read(ask)
        return self._known[self.written]

    def _read(self, ask: Callable[[torch.Tensor], NextToken]) -> None:
        """Read the last id, and what may follow it."""
        written, draft = self.written, self._drafts.after(self.written)
        self._memory.truncate(self._prefix + len(written) - 1)
        ids = torch.tensor([[written[-1], *draft]], device=self._backend.device)
        read = ask(self._backend.prefill(ids, self._memory)[0])
        self._known = {
            (*written, *draft[:row]): NextToken(*(part[row : row + 1] for part in read))
            for row in range(1 + len(draft))
        }
        self._counts.passes += 1
        self._counts.drafted += len(draft)
