"""Texts as a trie: a common beginning is one path, so that a network reads it once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch


class Trie(NamedTuple):
    """M nodes: `ids` and `depths` [M], and `sees` [M, M], in which a node sees itself and its ancestors.

    `rows` [R] are the nodes of each text's ids, text after text.
    """

    ids: torch.Tensor
    depths: torch.Tensor
    sees: torch.Tensor
    rows: torch.Tensor

    @classmethod
    def of(cls, texts: Sequence[Sequence[int]]) -> Trie:
        """The trie of these texts' ids; empty ones have no node."""
        nodes: dict[tuple[int, int], int] = {}
        rows: list[int] = []
        for text in texts:
            node = -1
            for token in text:
                node = nodes.setdefault((node, token), len(nodes))
                rows.append(node)
        seen, depths = list[bytearray](), list[int]()
        for node, (parent, _) in enumerate(nodes):
            seen.append(bytearray(seen[parent]) if parent >= 0 else bytearray(len(nodes)))
            seen[node][node] = True
            depths.append(depths[parent] + 1 if parent >= 0 else 0)
        # An empty buffer is refused.
        sees = torch.frombuffer(bytearray().join(seen) or bytearray(1), dtype=torch.bool)[: len(nodes) ** 2]
        ids = [token for _, token in nodes]
        return cls(
            ids=torch.tensor(ids, dtype=torch.long),
            depths=torch.tensor(depths, dtype=torch.long),
            sees=sees.view(len(nodes), len(nodes)),
            rows=torch.tensor(rows, dtype=torch.long),
        )
