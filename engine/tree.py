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
        lines: list[list[int]] = []  # of each node, from its text's first to itself
        rows: list[int] = []
        for text in texts:
            line: list[int] = []
            for token in text:
                node = nodes.setdefault((line[-1] if line else -1, token), len(nodes))
                line = [*line, node]
                if node == len(lines):
                    lines.append(line)
            rows += line
        sees = torch.zeros(len(nodes), len(nodes), dtype=torch.bool)
        sees[[node for node, line in enumerate(lines) for _ in line], [seen for line in lines for seen in line]] = True
        ids = torch.tensor([token for _, token in nodes], dtype=torch.long)
        return cls(ids=ids, depths=sees.sum(dim=1) - 1, sees=sees, rows=torch.tensor(rows, dtype=torch.long))
