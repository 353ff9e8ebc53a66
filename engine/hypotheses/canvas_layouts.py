"""Lay out canvases: which slots are free, and the frozen tokens behind them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch

from midspan.engine.canvas import Canvas
from midspan.engine.hypotheses.task import Task
from midspan.engine.prompts.prompt import Layout, Prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class CanvasLayout:
    """Lays out canvases of one hole, `width` positions wide at most, on `device`; the hole's suffix ends each."""

    prompt: Prompt
    layout: Layout
    width: int
    device: torch.device

    @classmethod
    def of(cls, task: Task, layout: Layout, width: int) -> Self:
        """For a block of a task; no canvas is wider than the network was trained on."""
        backend = task.backend
        return cls(prompt=task.prompt, layout=layout, width=min(backend.canvas_length, width), device=backend.device)

    def lay_canvases(self, slots: tuple[int, ...], each: int) -> Canvas:
        """`each` canvases for every slot size: free slots, then frozen suffix up to the width [B, width]."""
        rows, width = [size for size in slots for _ in range(each)], self.width
        ids = torch.zeros(len(rows), width, dtype=torch.long)
        free = torch.zeros(len(rows), width, dtype=torch.bool)
        valid = torch.zeros_like(free)
        for row, size in enumerate(rows):
            tail = self.layout.suffix[: width - size]
            free[row, :size] = True
            ids[row, size : size + len(tail)] = torch.tensor(tail, dtype=torch.long)
            valid[row, : size + len(tail)] = True
        return Canvas(
            ids=ids.to(self.device),
            free=free.to(self.device),
            valid=None if bool(valid.all()) else valid.to(self.device),
            allowed_first=self.allowed_first(),
            banned=self.prompt.banned,
        )

    def allowed_first(self) -> torch.Tensor | None:
        """Boolean [V]: what the first slot may hold, by token healing; None if no text was healed."""
        allowed = self.prompt.allowed_first(self.layout.heal)
        return None if allowed is None else allowed.to(self.device)
