"""The training losses: of the next clean token, and of the clean canvas under uniform noise.

Objective as DiffusionGemma's (NVIDIA NeMo Automodel, docs/guides/dllm/diffusiongemma.md): flat cross-entropy over the
free slots, self-conditioning on half of the batches, autoregressive loss on the encoder kept on. Several canvases are
cut from one text and share its causal pass; each sees only its own prefix.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F

from midspan.engine.model import DiffusionGemma
from midspan.kernels.attention import attention_reference


@dataclass(frozen=True, slots=True, kw_only=True)
class CanvasBatch:
    """Texts [B, L] and K canvases for each, one behind the other in R = sum(widths) rows."""

    text: torch.Tensor  # [B, L] clean ids
    start: torch.Tensor  # [B, K] how many clean tokens stand before canvas k
    clean: torch.Tensor  # [B, R] slots (gap, then filler) and the frozen suffix, canvas after canvas
    slots: torch.Tensor  # [B, K] how many leading positions are free, at most half of the canvas
    noise: torch.Tensor  # [B, K] probability that a free slot is replaced by a random id
    widths: tuple[int, ...]  # K

    def to(self, device: torch.device) -> CanvasBatch:
        """The same batch on `device`."""
        names = ("text", "start", "clean", "slots", "noise")
        return replace(self, **{name: getattr(self, name).to(device, non_blocking=True) for name in names})

    def owner(self) -> torch.Tensor:
        """Which canvas each row belongs to [R]."""
        widths = torch.tensor(self.widths, device=self.clean.device)
        return torch.arange(len(self.widths), device=self.clean.device).repeat_interleave(widths, output_size=self.rows)

    def offset(self) -> torch.Tensor:
        """The place of each row within its canvas [R]."""
        return torch.cat([torch.arange(width, device=self.clean.device) for width in self.widths])

    def free(self) -> torch.Tensor:
        """Boolean [B, R]: which rows are slots."""
        return self.offset() < self.slots[:, self.owner()]

    @property
    def rows(self) -> int:
        """The rows of all canvases of a text: R."""
        return sum(self.widths)

    def slot_rows(self) -> list[int]:
        """The rows that may be slots in some batch: the first half of every canvas."""
        ends = [sum(self.widths[: k + 1]) for k in range(len(self.widths))]
        return [
            row for end, width in zip(ends, self.widths, strict=True) for row in range(end - width, end - width // 2)
        ]


def causal_loss(model: DiffusionGemma, ids: torch.Tensor) -> torch.Tensor:
    """Mean next-token loss in nats over ids [B, N + 1]."""

    def attend(layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return attention_reference(q, k, v, causal=True)

    positions = torch.arange(ids.shape[1] - 1, device=ids.device)[None]
    hidden = model.run(model.embed(ids[:, :-1]), positions, model.scalars(encoder=True), attend)
    return F.cross_entropy(model.logits(hidden).flatten(0, 1), ids[:, 1:].flatten())


def corrupt(batch: CanvasBatch, vocab_size: int, generator: torch.Generator) -> torch.Tensor:
    """Canvases [B, R] with free slots replaced by uniform random ids with probability `noise`."""
    shape = batch.clean.shape
    hit = torch.rand(shape, generator=generator) < batch.noise[:, batch.owner()]
    random_ids = torch.randint(0, vocab_size, shape, generator=generator)
    return torch.where(batch.free() & hit, random_ids, batch.clean)


def canvas_hidden(
    model: DiffusionGemma, batch: CanvasBatch, noisy: torch.Tensor, soft: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """One pass over text and canvases: hidden rows of the text [B, L, d] and of the canvases [B, R, d]."""
    size, length = batch.text.shape
    embedded = model.embed(noisy)
    soft = torch.zeros_like(embedded) if soft is None else soft
    x = torch.cat((model.embed(batch.text), model.self_conditioning.combine(embedded, soft)), dim=1)
    canvas_positions = batch.start[:, batch.owner()] + batch.offset()
    text_positions = torch.arange(length, device=x.device).expand(size, -1)
    positions = torch.cat((text_positions, canvas_positions), dim=1)
    mask = canvas_mask(batch)[:, None]

    def attend(layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return attention_reference(q, k, v, mask)

    hidden = model.run(x, positions, model.scalars(encoder=False), attend)
    return hidden[:, :length], hidden[:, length:]


def canvas_mask(batch: CanvasBatch) -> torch.Tensor:
    """The attention mask over [text, canvas 1, ..., canvas K]: boolean [B, L + R, L + R].

    Text is causal and blind to canvases; a canvas sees its own prefix of the text and the whole of itself.
    """
    length = batch.text.shape[1]
    owner = torch.cat((torch.full((length,), -1, device=batch.text.device), batch.owner()))
    place = torch.arange(len(owner), device=batch.text.device)
    is_text = owner == -1
    causal = is_text[:, None] & is_text & (place[:, None] >= place)
    own = ~is_text[:, None] & (owner[:, None] == owner)
    limit = torch.cat((torch.zeros_like(batch.text), batch.start[:, batch.owner()]), dim=1)
    prefix = (~is_text)[:, None] & is_text & (place < limit[..., None])
    return causal | own | prefix


def canvas_loss(
    model: DiffusionGemma,
    batch: CanvasBatch,
    noisy: torch.Tensor,
    soft: torch.Tensor | None,
    *,
    filler_id: int,
    filler_weight: float,
    text_stride: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean slot loss and mean next-token loss (every `text_stride`-th text position), both in nats."""
    text, canvas = canvas_hidden(model, batch, noisy, soft)
    rows = batch.slot_rows()
    target = batch.clean[:, rows]
    weight = torch.where(target == filler_id, filler_weight, 1.0) * batch.free()[:, rows]
    logits = model.logits(canvas[:, rows])
    losses = F.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="none")
    slot_loss = (losses * weight.flatten()).sum() / weight.sum()
    next_ids = batch.text[:, 1::text_stride]
    text_logits = model.logits(text[:, :-1:text_stride])
    return slot_loss, F.cross_entropy(text_logits.flatten(0, 1), next_ids.flatten())


def soft_canvas(model: DiffusionGemma, batch: CanvasBatch, noisy: torch.Tensor, temperature: float) -> torch.Tensor:
    """The self-conditioning signal [B, R, d] of one pass without it; zero at frozen positions."""
    _, canvas = canvas_hidden(model, batch, noisy, None)
    rows = batch.slot_rows()
    probabilities = torch.softmax(model.logits(canvas[:, rows]) / temperature, dim=-1)
    soft = torch.zeros_like(canvas)
    soft[:, rows] = model.soft_embed(probabilities)
    return soft * batch.free()[..., None]
