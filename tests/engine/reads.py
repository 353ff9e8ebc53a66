"""Calls of every verb of a backend on random texts and canvases, to compare two backends of one network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch

from midspan.engine.backends.backend import Backend
from midspan.engine.backends.bound import CanvasReader
from midspan.engine.hypotheses.beam_search import BeamCache

VOCAB, WINDOW = 64, 12


class Reader(Backend, CanvasReader, Protocol):
    """A backend whose canvases are read in plain steps."""


Read = Callable[[Reader], list[torch.Tensor]]


def ids(rows: int, count: int, seed: int) -> torch.Tensor:
    return torch.randint(4, VOCAB, (rows, count), generator=torch.Generator().manual_seed(seed))


def texts(backend: Reader) -> list[torch.Tensor]:
    """Prefill in three pieces, shorter and longer than the window; truncate, prefill on; score texts in a trie."""
    cache = backend.new_cache(8)
    out = [backend.prefill(ids(1, count, count), cache) for count in (5, 20, 1)]
    cache.truncate(11)
    out.append(backend.prefill(ids(1, 200, 9), cache))
    out.append(backend.prefill(ids(1, 9, 2), cache, last=2))
    one, other, third = ids(3, 7, 1).tolist()
    # Some texts share a beginning, one is the beginning of another, one occurs twice; they end behind the window.
    hidden, rows = backend.score([one, one[:3] + other * 5, third, one[:2], [], third], cache)
    return [*out, hidden[rows], backend.logits(out[0])]


def canvases(backend: Reader) -> list[torch.Tensor]:
    """Three canvases; two go on, with the keys and values of their last five rows from the first step."""
    cache, canvas, valid = backend.new_cache(), ids(3, 14, 5), torch.ones(3, 14, dtype=torch.bool)
    backend.prefill(ids(1, 30, 2), cache)
    valid[1, 9:] = False
    out = [backend.denoise(canvas, cache, None, valid), backend.denoise(canvas, cache)]
    out.append(backend.denoise(canvas, cache, None, valid))
    soft = backend.soft(backend.logits(out[-1])[[0, 2], :9])
    backend.keep_canvases(cache, torch.tensor([0, 2]), 14)
    for _ in range(2):
        out.append(backend.denoise(canvas[[0, 2], :9], cache, soft, valid[[0, 2]], frozen_rows=5))
    return [*out, soft]


def branches(backend: Reader) -> list[torch.Tensor]:
    """Three beams that become four and then two; then prefill behind the prefix again."""
    cache = backend.new_cache(8)
    backend.prefill(ids(1, 30, 2), cache)
    with BeamCache(backend, cache) as grown:
        out = [grown.grow([0, 0, 0], [5, 6, 7]), grown.grow([2, 0, 0, 1], [8, 9, 10, 11])]
        out += [grown.grow([3, 1], [4 + turn, 9]) for turn in range(1)]
        out += [grown.grow([0, 1], [4 + turn, 9]) for turn in range(WINDOW)]
    return [*out, backend.prefill(ids(1, 2, 4), cache)]


READS = (texts, canvases, branches)
