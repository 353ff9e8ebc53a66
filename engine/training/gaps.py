"""Cuts gaps for training: as people leave them, at whole tokens, with random numbers of slots."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from midspan.engine.training.objective import CanvasBatch

Ids = npt.NDArray[np.uint16]
SHORTEST_PREFIX = 8
ALIGNED_SHARE = 0.6
# Draws above 1 are clipped to 1, so that every third canvas is all noise, as the first step's are.
LOUDEST_NOISE = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class GapRecipe:
    """Sizes of a canvas batch: one canvas for each width, free slots in at most half of it, then suffix."""

    text_tokens: int
    widths: tuple[int, ...]
    slot_sizes: tuple[int, ...]
    filler_id: int
    bos_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LineIds:
    """Token ids that begin with a line end, and those that are followed by a line without indent."""

    newline: frozenset[int]
    top_level: frozenset[int]

    @classmethod
    def of(cls, vocabulary: dict[str, int], bos_id: int) -> LineIds:
        """The ids of a byte-level vocabulary, in which a line end is spelt Ċ."""
        newline = {i for token, i in vocabulary.items() if token.startswith("Ċ")}
        bare = {i for token, i in vocabulary.items() if token and not token.strip("Ċ")}
        return cls(newline=frozenset(newline), top_level=frozenset(bare | {bos_id}))


class TextSampler:
    """Draws plain sequences, and where gaps begin and end, from one stream of token ids on disk."""

    def __init__(self, ids_file: Path, lines: LineIds, recipe: GapRecipe, seed: int) -> None:
        self.ids: Ids = np.memmap(ids_file, dtype=np.uint16, mode="r")
        self.newline = _table(lines.newline)
        self._boundaries = np.flatnonzero(_table(lines.top_level)[self.ids]) + 1
        self.recipe = recipe
        self.random = np.random.default_rng(seed)

    def reseed(self, seed: int) -> None:
        """Start another random stream, as a resumed run does."""
        self.random = np.random.default_rng(seed)

    def sequences(self, batch: int, tokens: int) -> torch.Tensor:
        """Plain text ids [batch, tokens], <bos> first."""
        return torch.from_numpy(np.stack([self.window(tokens) for _ in range(batch)]))

    def window(self, tokens: int) -> npt.NDArray[np.int64]:
        """<bos>, then text from where `begin` says."""
        begin = self.begin(tokens)
        text = np.asarray(self.ids[begin : begin + tokens - 1], dtype=np.int64)
        return np.concatenate(([self.recipe.bos_id], text))

    def begin(self, tokens: int) -> int:
        """Where `tokens` ids are read from: anywhere or, more often, a top-level line, as in a short file."""
        begin = int(self.random.integers(0, len(self.ids) - tokens))
        if self.random.random() < ALIGNED_SHARE:
            begin = min(int(self.random.choice(self._boundaries)), len(self.ids) - tokens)
        return begin

    def gap(self, newlines: npt.NDArray[np.int64], text_tokens: int, longest: int, *, several: bool) -> tuple[int, int]:
        """Begin and end of a gap: the rest of a line, a line, a random span or, where `several`, 2 to 4 lines.

        It begins before `text_tokens` and holds 1 to `longest` tokens; `newlines` are the places of line ends.
        """
        rest, whole, lined = (0.25, 0.4, 0.8) if several else (0.5, 0.85, 0.85)
        draw = self.random.random()
        begin = int(self.random.integers(SHORTEST_PREFIX, text_tokens))
        if draw < lined:
            if draw >= rest:
                before = newlines[(newlines < text_tokens) & (newlines >= SHORTEST_PREFIX)]
                begin = int(self.random.choice(before)) if len(before) else begin
            lines = 0 if draw < whole else int(self.random.integers(1, 4))
            after = newlines[newlines > begin]
            end = int(after[min(lines, len(after) - 1)]) if len(after) else begin + longest
        else:
            end = begin + int(self.random.integers(1, longest + 1))
        return begin, min(max(end, begin + 1), begin + longest)


class GapSampler(TextSampler):
    """Draws batches of canvases too."""

    def canvases(self, batch: int) -> CanvasBatch:
        """A batch of `batch` texts with their canvases."""
        recipe = self.recipe
        shape = (batch, len(recipe.widths))
        text = np.empty((batch, recipe.text_tokens), dtype=np.int64)
        clean = np.empty((batch, sum(recipe.widths)), dtype=np.int64)
        start, slots = np.empty(shape, dtype=np.int64), np.empty(shape, dtype=np.int64)
        for row in range(batch):
            window = self.window(recipe.text_tokens + 2 * max(recipe.widths))
            text[row] = window[: recipe.text_tokens]
            newlines = np.flatnonzero(self.newline[window])
            place = 0
            for column, width in enumerate(recipe.widths):
                several = width > min(recipe.widths)
                begin, end = self.gap(newlines, recipe.text_tokens, width // 2, several=several)
                size = self._slot_size(end - begin, width // 2)
                start[row, column], slots[row, column] = begin, size
                canvas = clean[row, place : place + width]
                canvas[: end - begin] = window[begin:end]
                canvas[end - begin : size] = recipe.filler_id
                canvas[size:] = window[end : end + width - size]
                place += width
        noise = np.minimum(self.random.uniform(0.0, LOUDEST_NOISE, shape), 1.0).astype(np.float32)
        tensors = (torch.from_numpy(array) for array in (text, start, clean, slots, noise))
        named = dict(zip(("text", "start", "clean", "slots", "noise"), tensors, strict=True))
        return CanvasBatch(**named, widths=recipe.widths)

    def _slot_size(self, tokens: int, longest: int) -> int:
        """A number of slots that holds the gap.

        Half are sizes that inference begins with, so that filler is neither rare nor all; a quarter are any size, and
        a quarter have no filler.
        """
        draw = self.random.random()
        if draw < 0.5:
            return int(self.random.choice([size for size in self.recipe.slot_sizes if tokens <= size <= longest]))
        return tokens if draw < 0.75 else int(self.random.integers(tokens, longest + 1))


def _table(ids: frozenset[int]) -> npt.NDArray[np.bool_]:
    table = np.zeros(65536, dtype=bool)
    table[list(ids)] = True
    return table
