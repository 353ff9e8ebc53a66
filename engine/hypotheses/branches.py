"""Texts that grow side by side behind one cached prefix, as a beam search grows them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from midspan.engine.cache import Cache

if TYPE_CHECKING:
    from midspan.engine.model import DiffusionGemma


class Branches:
    """Texts that grow behind one cached prefix. Each token's keys and values are kept once; a mask says whose they are.

    The cache's own length counts the branches too, until `drop`.
    """

    def __init__(self, model: DiffusionGemma, memory: Cache) -> None:
        self._model, self._memory, self._prefix = model, memory, memory.length
        self._sees = torch.ones(1, memory.length, dtype=torch.bool, device=model.device)
        self._places = torch.arange(memory.length, device=model.device)
        self._depth = 0

    def grow(self, parents: list[int], ids: list[int]) -> torch.Tensor:
        """Put one id behind each parent (a row of the last call; 0 at first). Returns hidden rows [len(ids), d]."""
        model, rows = self._model, len(ids)
        own = torch.eye(rows, dtype=torch.bool, device=model.device)
        self._sees = torch.cat((self._sees[parents], own), dim=1)
        place = self._prefix + self._depth
        self._places = torch.cat((self._places, torch.full((rows,), place, device=model.device)))
        windows = {layer.window for layer in model.config.layers}
        masks = {w: self._sees if w is None else self._sees & (place - self._places < w) for w in windows}
        hidden = model.branch(torch.tensor([ids], device=model.device), place, self._memory, masks)
        self._depth += 1
        return hidden[0]

    def drop(self) -> None:
        """Leave the prefix alone in the cache."""
        self._memory.truncate(self._prefix)
