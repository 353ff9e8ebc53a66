"""Every verb of a network in turn, over texts and canvases at random: what two ways to compute it are compared by."""

from __future__ import annotations

from collections.abc import Callable

import torch

from midspan.engine.hypotheses.branches import Branches
from midspan.engine.model import DiffusionGemma

VOCAB, WINDOW = 64, 12
Read = Callable[[DiffusionGemma], list[torch.Tensor]]


def ids(rows: int, count: int, seed: int) -> torch.Tensor:
    return torch.randint(4, VOCAB, (rows, count), generator=torch.Generator().manual_seed(seed))


def texts(model: DiffusionGemma) -> list[torch.Tensor]:
    """A text in three pieces, shorter and longer than the window, cut back and gone on with."""
    cache = model.new_cache(8)
    out = [model.prefill(ids(1, count, count), cache) for count in (5, 20, 1)]
    cache.truncate(11)
    out.append(model.prefill(ids(1, 200, 9), cache))
    one, other, third = ids(3, 7, 1).tolist()
    # Some begin alike, one is the beginning of another, one is there twice; they end behind the window.
    hidden, rows = model.score([one, one[:3] + other * 5, third, one[:2], [], third], cache)
    return [*out, hidden[rows], model.logits(out[0])]


def canvases(model: DiffusionGemma) -> list[torch.Tensor]:
    """Three canvases, two of which go on, their last five rows as the first step left them."""
    cache, canvas, valid = model.new_cache(), ids(3, 14, 5), torch.ones(3, 14, dtype=torch.bool)
    model.prefill(ids(1, 30, 2), cache)
    valid[1, 9:] = False
    out = [model.denoise(canvas, cache, None, valid), model.denoise(canvas, cache)]
    out.append(model.denoise(canvas, cache, None, valid))
    soft = model.soft_embed(torch.softmax(model.logits(out[-1])[[0, 2], :9], dim=-1))
    model.keep(cache, torch.tensor([0, 2]), 14)
    for _ in range(2):
        out.append(model.denoise(canvas[[0, 2], :9], cache, soft, valid[[0, 2]], frozen_rows=5))
    return [*out, soft]


def branches(model: DiffusionGemma) -> list[torch.Tensor]:
    """Three texts that become four and two, then the prefix once more."""
    cache = model.new_cache(8)
    model.prefill(ids(1, 30, 2), cache)
    grown = Branches(model, cache)
    out = [grown.grow([0, 0, 0], [5, 6, 7]), grown.grow([2, 0, 0, 1], [8, 9, 10, 11])]
    out += [grown.grow([3, 1], [4 + turn, 9]) for turn in range(1)]
    out += [grown.grow([0, 1], [4 + turn, 9]) for turn in range(WINDOW)]
    grown.drop()
    return [*out, model.prefill(ids(1, 2, 4), cache)]


READS = (texts, canvases, branches)
