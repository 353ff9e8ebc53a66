"""How long a gap is. Where beams were written: as long as they are, or nearly.

Where no token stands for left-over slots, every length is read once, FORWARD_ROWS at a time.

Canvases of all lengths are pure noise before the same frozen suffix. A length's score is, in nats,

    mean over the gap of log p(likeliest token)  -  bias(length)  +  mean over the suffix's head of log p(its token)

averaged over draws of noise. The first part grows with the length by itself, by as much as `length_bias` says (arXiv
2602.00476 calls it the length bias; fitted by training/length_bias.py). The last part is there because the network was
taught to keep clean tokens of its canvas: it rates whether the suffix may stand where it stands.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch

from midspan.engine.cache import Cache
from midspan.engine.canvas import Canvas, Draws
from midspan.engine.hypotheses.ranking import lay_canvases
from midspan.engine.model import DiffusionGemma
from midspan.engine.prompts.prompt import Layout, Prompt
from midspan.engine.sampling import limit
from midspan.engine.settings import CheckpointSettings

# A canvas shows so much of the suffix at least, to the shortest gaps too.
LEAST_WIDTH = 16
NEAR_SUFFIX = 32  # frozen tokens behind the longest gap
KEPT_HEAD = 16  # of them are asked whether they may stay
# Rows of canvases in one forward, and of logits at a time.
FORWARD_ROWS, LOGIT_ROWS = 512, 128


def canvas_width(settings: CheckpointSettings, slots: Sequence[int], canvas_length: int) -> int:
    """How wide canvases of these gap lengths are."""
    if settings.layout.kind == "prompted":
        return min(canvas_length, max(slots))
    if settings.layout.kind == "clamped":
        return min(canvas_length, max(slots) + NEAR_SUFFIX)
    # As in training: half of a canvas is slots at most. A narrow one costs half of a wide one.
    return min(canvas_length, max(LEAST_WIDTH, 2 * max(slots)))


def fitting(settings: CheckpointSettings, slots: tuple[int, ...], canvas_length: int) -> tuple[int, ...]:
    """The gap lengths that a canvas has room for."""
    if settings.layout.kind == "prompted":
        return (min(slots[0], canvas_length),)
    room = canvas_length - min(NEAR_SUFFIX, canvas_length // 4) if settings.layout.kind == "clamped" else canvas_length
    return tuple(size for size in slots if size <= room) or (room,)


def around(slots: tuple[int, ...], lengths: Collection[int], reach: int | None) -> tuple[int, ...]:
    """The gap lengths that are `reach` tokens at most from one of `lengths`, which beams came to.

    All of them for a reach of None, and where none is so near.
    """
    if reach is None:
        return slots
    return tuple(size for size in slots if any(abs(size - length) <= reach for length in lengths)) or slots


def likely_lengths(
    scores: dict[int, tuple[float, float]], settings: CheckpointSettings, count: int, *, many_lines: bool
) -> tuple[int, ...]:
    """The `count` lengths of highest score, ascending; `scores` are what `read_lengths` gives for one kind of gap."""
    layout, bias_of = settings.layout, settings.hypotheses.length_bias
    sizes, first = (layout.block_slots, len(layout.slots)) if many_lines else (layout.slots, 0)
    bias = dict(zip(sizes, bias_of[first:], strict=False))
    best = sorted(scores, key=lambda size: scores[size][0] - bias.get(size, 0.0) + scores[size][1], reverse=True)
    return tuple(sorted(best[:count]))


@torch.inference_mode()
def read_lengths(
    model: DiffusionGemma,
    cache: Cache,
    layout: Layout,
    prompt: Prompt,
    slots: tuple[int, ...],
    width: int,
    each: int,
    draws: Draws,
) -> dict[int, tuple[float, float]]:
    """For each length: the mean log-probability of the gap's likeliest tokens, and of the suffix's head, in nats."""
    canvas = lay_canvases(layout, prompt, slots, each, width, model.device)
    noise = draws.noise((canvas.ids.shape[0], width), model.config.vocab_size)
    ids = torch.where(canvas.free, noise, canvas.ids)
    rows = max(1, FORWARD_ROWS // width)
    read = [
        _read(model, cache, ids[part], canvas.select(part))
        for part in torch.arange(len(ids), device=model.device).split(rows)
    ]
    gaps, heads = (torch.cat(one).view(len(slots), each).mean(dim=1).tolist() for one in zip(*read, strict=True))
    return dict(zip(slots, zip(gaps, heads, strict=True), strict=True))


def _read(model: DiffusionGemma, cache: Cache, ids: torch.Tensor, canvas: Canvas) -> tuple[torch.Tensor, torch.Tensor]:
    """Of noisy canvases ids [B, C]: the mean over the gap and over the suffix's head [B], each."""
    hidden = model.denoise(ids, cache, None, canvas.valid)
    sizes = canvas.free.sum(dim=-1, keepdim=True)
    place = torch.arange(ids.shape[1], device=ids.device)
    head = (place >= sizes) & (place < sizes + KEPT_HEAD)
    if canvas.valid is not None:
        head &= canvas.valid
    likeliest = torch.zeros(ids.shape, device=ids.device)
    for at in canvas.free.nonzero().split(LOGIT_ROWS):
        rows = at[:, 0], at[:, 1]
        logits = limit(model.logits(hidden[rows]), canvas, at[:, 1] == 0)
        likeliest[rows] = logits.amax(dim=-1) - logits.logsumexp(dim=-1)
    kept = torch.zeros_like(likeliest)
    for at in head.nonzero().split(LOGIT_ROWS):
        rows = at[:, 0], at[:, 1]
        logits = model.logits(hidden[rows])
        kept[rows] = logits.gather(-1, ids[rows][:, None]).squeeze(-1) - logits.logsumexp(dim=-1)
    return likeliest.sum(dim=-1) / sizes.squeeze(-1), kept.sum(dim=-1) / head.sum(dim=-1).clamp(min=1)
