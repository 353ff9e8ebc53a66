"""Which gap lengths are tried, and how wide canvases are.

Where there are beams, only lengths near theirs are tried. Where a checkpoint has no filler token, every length is read
once, FORWARD_ROWS rows at a time, and the likeliest go on. Canvases of all lengths are pure noise before the same
frozen suffix. A length's score is, in nats,

    mean over the gap of log p(likeliest token)  -  bias(length)  +  mean over the suffix's head of log p(its token)

averaged over several canvases of noise. The first part grows with the length alone, by as much as `length_bias` says
(arXiv 2602.00476 calls it the length bias; fitted by training/length_bias.py). The last part works because the network
was trained to keep clean tokens of its canvas: it rates whether the suffix fits at that distance.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch

from midspan.engine.backends.backend import CanvasBackend
from midspan.engine.cache import Cache
from midspan.engine.canvas import Canvas, Rng
from midspan.engine.sampling import limit
from midspan.engine.settings import CheckpointSettings

# Short gaps, too, see a part of the suffix.
MIN_WIDTH = 16
NEAR_SUFFIX = 32  # frozen tokens behind the longest gap
KEPT_HEAD = 16  # of these, how many are rated
# Rows of canvases in one forward pass, and rows of logits at a time.
FORWARD_ROWS, LOGIT_ROWS = 512, 128


def canvas_width(settings: CheckpointSettings, slots: Sequence[int], canvas_length: int) -> int:
    """The width of canvases for these gap lengths."""
    if settings.layout.kind == "prompted":
        return min(canvas_length, max(slots))
    if settings.layout.kind == "clamped":
        return min(canvas_length, max(slots) + NEAR_SUFFIX)
    # As in training, at most half of a canvas is slots. A narrow canvas costs half of a wide one.
    return min(canvas_length, max(MIN_WIDTH, 2 * max(slots)))


def fitting(settings: CheckpointSettings, slots: tuple[int, ...], canvas_length: int) -> tuple[int, ...]:
    """The gap lengths that fit into a canvas."""
    if settings.layout.kind == "prompted":
        return (min(slots[0], canvas_length),)
    room = canvas_length - min(NEAR_SUFFIX, canvas_length // 4) if settings.layout.kind == "clamped" else canvas_length
    return tuple(size for size in slots if size <= room) or (room,)


def near_lengths(slots: tuple[int, ...], lengths: Collection[int], slack: int | None) -> tuple[int, ...]:
    """The gap lengths within `slack` tokens of one of `lengths`, which are those of the beams.

    All of them for a slack of None, or if none is that near.
    """
    if slack is None:
        return slots
    return tuple(size for size in slots if any(abs(size - length) <= slack for length in lengths)) or slots


def likely_lengths(
    scores: dict[int, tuple[float, float]], settings: CheckpointSettings, count: int, *, many_lines: bool
) -> tuple[int, ...]:
    """The `count` lengths of highest score, ascending; `scores` are what `read_lengths` gives for one kind of gap."""
    layout = settings.layout
    sizes, first = (layout.block_slots, len(layout.slots)) if many_lines else (layout.slots, 0)
    bias = dict(zip(sizes, settings.hypotheses.length_bias[first:], strict=False))
    best = sorted(scores, key=lambda size: scores[size][0] - bias.get(size, 0.0) + scores[size][1], reverse=True)
    return tuple(sorted(best[:count]))


@torch.inference_mode()
def read_lengths(backend: CanvasBackend, cache: Cache, canvas: Canvas, rng: Rng) -> dict[int, tuple[float, float]]:
    """For each length: the mean log-probability of the gap's likeliest tokens, and of the suffix's head, in nats.

    `canvas` holds as many canvases of every length, those of a length side by side.
    """
    width, slots = canvas.ids.shape[1], list(dict.fromkeys(canvas.gap_sizes))
    noise = rng.noise((canvas.ids.shape[0], width), backend.vocab_size)
    ids = torch.where(canvas.free, noise, canvas.ids)
    rows = max(1, FORWARD_ROWS // width)
    read = [
        _read(backend, cache, ids[part], canvas.select(part))
        for part in torch.arange(len(ids), device=backend.device).split(rows)
    ]
    gaps, heads = (torch.cat(one).view(len(slots), -1).mean(dim=1).tolist() for one in zip(*read, strict=True))
    return dict(zip(slots, zip(gaps, heads, strict=True), strict=True))


def _read(backend: CanvasBackend, cache: Cache, ids: torch.Tensor, canvas: Canvas) -> tuple[torch.Tensor, torch.Tensor]:
    """For noisy canvases ids [B, C]: the two mean log-probabilities [B] of `read_lengths`."""
    hidden = backend.bind(cache, canvas).read(ids)
    sizes = canvas.free.sum(dim=-1, keepdim=True)
    place = torch.arange(ids.shape[1], device=ids.device)
    head = (place >= sizes) & (place < sizes + KEPT_HEAD)
    if canvas.valid is not None:
        head &= canvas.valid
    likeliest = torch.zeros(ids.shape, device=ids.device)
    for at in canvas.free.nonzero().split(LOGIT_ROWS):
        rows = at[:, 0], at[:, 1]
        logits = limit(backend.logits(hidden[rows]), canvas, at[:, 1] == 0)
        likeliest[rows] = logits.amax(dim=-1) - logits.logsumexp(dim=-1)
    kept = torch.zeros_like(likeliest)
    for at in head.nonzero().split(LOGIT_ROWS):
        rows = at[:, 0], at[:, 1]
        logits = backend.logits(hidden[rows])
        kept[rows] = logits.gather(-1, ids[rows][:, None]).squeeze(-1) - logits.logsumexp(dim=-1)
    return likeliest.sum(dim=-1) / sizes.squeeze(-1), kept.sum(dim=-1) / head.sum(dim=-1).clamp(min=1)
