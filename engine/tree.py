"""Texts as a tree: what begins alike is there once, so that a network reads it once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch


class Tree(NamedTuple):
    """M nodes, each behind its parent: `ids` and `depths` [M], and `sees` [M, M], each itself and those it is behind.

    `rows` [R] are the nodes of each text's ids, text after text.
    """

    ids: torch.Tensor
    depths: torch.Tensor
    sees: torch.Tensor
    rows: torch.Tensor

    @classmethod
    def of(cls, texts: Sequence[Sequence[int]]) -> Tree:
        """The tree of these texts' ids; empty ones have no node."""
        nodes: dict[tuple[int, int], int] = {}
        rows: list[int] = []
        for text in texts:
            node = -1
            for token in text:
                node = nodes.setdefault((node, token), len(nodes))
                rows.append(node)
        sees = torch.eye(len(nodes), dtype=torch.bool)
        for (parent, _), node in nodes.items():
            if parent >= 0:
                sees[node] |= sees[parent]
        ids = torch.tensor([token for _, token in nodes], dtype=torch.long)
        return cls(ids=ids, depths=sees.sum(dim=1) - 1, sees=sees, rows=torch.tensor(rows, dtype=torch.long))
