"""Texts that grow side by side behind one cached prefix, as a beam search grows them."""

from __future__ import annotations

import torch

from midspan.engine.backends.backend import Backend, BranchMask
from midspan.engine.cache import Cache


class Branches:
    """Texts that grow behind one cached prefix. Each token's keys and values are kept once; a mask says whose they are.

    The cache's own length counts the branches too, until `drop`.
    """

    def __init__(self, backend: Backend, memory: Cache) -> None:
        self._backend, self._memory, self._prefix = backend, memory, memory.length
        self._sees = torch.ones(1, memory.length, dtype=torch.bool, device=backend.device)
        self._places = torch.arange(memory.length, device=backend.device)
        self._depth = 0

    def grow(self, parents: list[int], ids: list[int]) -> torch.Tensor:
        """Put one id behind each parent (a row of the last call; 0 at first). Returns hidden rows [len(ids), d]."""
        backend, rows = self._backend, len(ids)
        own = torch.eye(rows, dtype=torch.bool, device=backend.device)
        self._sees = torch.cat((self._sees[parents], own), dim=1)
        place = self._prefix + self._depth
        self._places = torch.cat((self._places, torch.full((rows,), place, device=backend.device)))
        mask = BranchMask(place=place, sees=self._sees, places=self._places)
        hidden = backend.branch(torch.tensor([ids], device=backend.device), mask, self._memory)
        self._depth += 1
        return hidden[0]

    def drop(self) -> None:
        """Leave the prefix alone in the cache."""
        self._memory.truncate(self._prefix)
