"""Where gaps are cut for training: as people leave them, at whole tokens, in random numbers of slots."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from midspan.engine.training.objective import CanvasBatch

Ids = npt.NDArray[np.uint16]


@dataclass(frozen=True, slots=True, kw_only=True)
class GapRecipe:
    """Sizes of a canvas batch; every canvas is `slots` free positions and then suffix up to `width`."""

    text_tokens: int
    canvases: int
    width: int
    slot_sizes: tuple[int, ...]
    filler_id: int


class GapSampler:
    """Draws canvas batches and plain sequences from one stream of token ids on disk."""

    def __init__(self, ids_file: Path, newline_ids: set[int], recipe: GapRecipe, seed: int) -> None:
        self._ids: Ids = np.memmap(ids_file, dtype=np.uint16, mode="r")
        self._newline = np.zeros(65536, dtype=bool)
        self._newline[list(newline_ids)] = True
        self._recipe = recipe
        self.random = np.random.default_rng(seed)

    def reseed(self, seed: int) -> None:
        """Start another random stream, as a resumed run does."""
        self.random = np.random.default_rng(seed)

    def sequences(self, batch: int, tokens: int) -> torch.Tensor:
        """Plain text ids [batch, tokens]."""
        return torch.from_numpy(np.stack([self._window(tokens) for _ in range(batch)]).astype(np.int64))

    def canvases(self, batch: int) -> CanvasBatch:
        """A batch of `batch` texts with their canvases; half-noised on average, one in six all noise."""
        recipe = self._recipe
        shape = (batch, recipe.canvases)
        text = np.empty((batch, recipe.text_tokens), dtype=np.int64)
        clean = np.empty((*shape, recipe.width), dtype=np.int64)
        start, slots = np.empty(shape, dtype=np.int64), np.empty(shape, dtype=np.int64)
        for row in range(batch):
            window = self._window(recipe.text_tokens + max(recipe.slot_sizes) + recipe.width).astype(np.int64)
            text[row] = window[: recipe.text_tokens]
            newlines = np.flatnonzero(self._newline[window])
            for column in range(recipe.canvases):
                begin, end = self._gap(newlines)
                size = self._slot_size(end - begin)
                start[row, column], slots[row, column] = begin, size
                clean[row, column, : end - begin] = window[begin:end]
                clean[row, column, end - begin : size] = recipe.filler_id
                clean[row, column, size:] = window[end : end + recipe.width - size]
        noise = np.minimum(self.random.uniform(0.0, 1.2, shape), 1.0).astype(np.float32)
        tensors = (torch.from_numpy(array) for array in (text, start, clean, slots, noise))
        return CanvasBatch(**dict(zip(("text", "start", "clean", "slots", "noise"), tensors, strict=True)))

    def _window(self, tokens: int) -> Ids:
        begin = int(self.random.integers(0, len(self._ids) - tokens))
        return np.asarray(self._ids[begin : begin + tokens])

    def _gap(self, newlines: npt.NDArray[np.int64]) -> tuple[int, int]:
        """Begin and end of a gap: 40 % rest of a line, 30 % whole line, 15 % 2-4 lines, 15 % random span."""
        recipe, longest = self._recipe, max(self._recipe.slot_sizes)
        draw = self.random.random()
        begin = int(self.random.integers(8, recipe.text_tokens))
        if draw < 0.85:
            if draw >= 0.4:
                before = newlines[(newlines < recipe.text_tokens) & (newlines >= 8)]
                begin = int(self.random.choice(before)) if len(before) else begin
            lines = 0 if draw < 0.7 else int(self.random.integers(1, 4))
            after = newlines[newlines > begin]
            end = int(after[min(lines, len(after) - 1)]) if len(after) else begin + longest
        else:
            end = begin + int(self.random.integers(1, 17))
        return begin, min(max(end, begin + 1), begin + longest)

    def _slot_size(self, tokens: int) -> int:
        """Any slot size that holds the gap, each as likely as the next, so that filler is neither rare nor all."""
        fitting = [size for size in self._recipe.slot_sizes if size >= tokens]
        return int(self.random.choice(fitting))
