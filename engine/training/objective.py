"""What the network is taught: the next clean token, and the clean canvas behind uniform noise.

Objective as DiffusionGemma's (NVIDIA NeMo Automodel, docs/guides/dllm/diffusiongemma.md): flat cross-entropy over the
free slots, self-conditioning on half of the batches, autoregressive loss on the encoder kept on. Several canvases are
cut from one text and share its causal pass; each sees only its own prefix.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from midspan.engine.model import DiffusionGemma
from midspan.kernels.attention import attention_reference


@dataclass(frozen=True, slots=True, kw_only=True)
class CanvasBatch:
    """Texts [B, L] and K canvases of width C for each."""

    text: torch.Tensor  # [B, L] clean ids
    start: torch.Tensor  # [B, K] how many clean tokens stand before canvas k
    clean: torch.Tensor  # [B, K, C] slots (gap, then filler) and the frozen suffix
    slots: torch.Tensor  # [B, K] how many leading positions are free
    noise: torch.Tensor  # [B, K] probability that a free slot is replaced by a random id


def causal_loss(model: DiffusionGemma, ids: torch.Tensor) -> torch.Tensor:
    """Mean next-token loss in nats over ids [B, N + 1]."""

    def attend(layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return attention_reference(q, k, v, causal=True)

    positions = torch.arange(ids.shape[1] - 1)[None]
    hidden = model.run(model.embed(ids[:, :-1]), positions, model.scalars(encoder=True), attend)
    return F.cross_entropy(model.logits(hidden).flatten(0, 1), ids[:, 1:].flatten())


def corrupt(batch: CanvasBatch, vocab_size: int, generator: torch.Generator) -> torch.Tensor:
    """Canvases [B, K, C] with free slots replaced by uniform random ids with probability `noise`."""
    shape = batch.clean.shape
    free = torch.arange(shape[2]) < batch.slots[..., None]
    hit = torch.rand(shape, generator=generator) < batch.noise[..., None]
    random_ids = torch.randint(0, vocab_size, shape, generator=generator)
    return torch.where(free & hit, random_ids, batch.clean)


def canvas_hidden(
    model: DiffusionGemma, batch: CanvasBatch, noisy: torch.Tensor, soft: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """One pass over text and canvases: hidden rows of the text [B, L, d] and of the canvases [B, K, C, d]."""
    size, length = batch.text.shape
    _, count, width = noisy.shape
    embedded = model.embed(noisy.flatten(1))
    soft = torch.zeros_like(embedded) if soft is None else soft.flatten(1, 2)
    x = torch.cat((model.embed(batch.text), model.self_conditioning.combine(embedded, soft)), dim=1)
    canvas_positions = batch.start[..., None] + torch.arange(width)
    positions = torch.cat((torch.arange(length).expand(size, -1), canvas_positions.flatten(1)), dim=1)
    mask = canvas_mask(batch.start, length, width)[:, None]

    def attend(layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return attention_reference(q, k, v, mask)

    hidden = model.run(x, positions, model.scalars(encoder=False), attend)
    return hidden[:, :length], hidden[:, length:].unflatten(1, (count, width))


def canvas_mask(start: torch.Tensor, length: int, width: int) -> torch.Tensor:
    """Who may attend to whom among [text, canvas 1, ..., canvas K]: boolean [B, L + K C, L + K C].

    Text is causal and blind to canvases; a canvas sees its own prefix of the text and the whole of itself.
    """
    size, count = start.shape
    rows = length + count * width
    owner = torch.cat((torch.full((length,), -1), torch.arange(count).repeat_interleave(width)))
    place = torch.arange(rows)
    is_text = owner == -1
    causal = is_text[:, None] & is_text & (place[:, None] >= place)
    own = ~is_text[:, None] & (owner[:, None] == owner)
    limit = torch.cat((torch.zeros(size, length, dtype=torch.long), start.repeat_interleave(width, dim=1)), dim=1)
    prefix = (~is_text)[:, None] & is_text & (place < limit[..., None])
    return causal | own | prefix


def canvas_loss(
    model: DiffusionGemma,
    batch: CanvasBatch,
    noisy: torch.Tensor,
    soft: torch.Tensor | None,
    *,
    max_slots: int,
    filler_id: int,
    filler_weight: float,
    text_stride: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean slot loss and mean next-token loss (every `text_stride`-th text position), both in nats."""
    text, canvas = canvas_hidden(model, batch, noisy, soft)
    target = batch.clean[:, :, :max_slots]
    weight = torch.where(target == filler_id, filler_weight, 1.0)
    weight = weight * (torch.arange(max_slots) < batch.slots[..., None])
    logits = model.logits(canvas[:, :, :max_slots])
    losses = F.cross_entropy(logits.flatten(0, 2), target.flatten(), reduction="none")
    slot_loss = (losses * weight.flatten()).sum() / weight.sum()
    next_ids = batch.text[:, 1::text_stride]
    text_logits = model.logits(text[:, :-1:text_stride])
    return slot_loss, F.cross_entropy(text_logits.flatten(0, 1), next_ids.flatten())


def soft_canvas(
    model: DiffusionGemma, batch: CanvasBatch, noisy: torch.Tensor, temperature: float, max_slots: int
) -> torch.Tensor:
    """The self-conditioning signal [B, K, C, d] of one pass without it; zero at frozen positions."""
    _, canvas = canvas_hidden(model, batch, noisy, None)
    free = torch.arange(max_slots) < batch.slots[..., None]
    probabilities = torch.softmax(model.logits(canvas[:, :, :max_slots]) / temperature, dim=-1)
    soft = model.soft_embed(probabilities) * free[..., None]
    return F.pad(soft, (0, 0, 0, canvas.shape[2] - max_slots))
