"""THE LOOP: a canvas settles step by step. A generator, one yield a step; no clock, no I/O, no text.

One step is transformers' `_denoising_step` (generation_diffusion_gemma.py), with the vocabulary work done for free
rows only and frozen positions held.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch

from midspan.engine.canvas import Canvas, Plan, Rng, accept, settled
from midspan.engine.sampling import Samples


class Network(Protocol):
    """A network as the loop sees it."""

    vocab_size: int

    def sample(
        self, ids: torch.Tensor, soft: torch.Tensor | None, canvas: Canvas, temperature: float, rng: Rng
    ) -> Samples:
        """Canvases [B, C] and the last step's soft embeddings [B, C, d] -> samples for the R free rows of `canvas`."""
        ...

    def keep(self, rows: torch.Tensor) -> None:
        """Drop all canvases of the batch but `rows` [B']."""
        ...


class Denoiser(Protocol):
    """Canvases bound to a cached prefix; see backends/backend.py."""

    def steps(self, plan: Plan, rng: Rng) -> Iterator[Step]:
        """Denoise them by the rules of `denoise`. A backend may decide on the device; the Steps are the same."""
        ...

    def read(self, ids: torch.Tensor) -> torch.Tensor:
        """A first forward pass over these ids [B, C] -> hidden [B, C, d]; nothing is kept."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The decisions of one forward pass; all tensors are [B, C], but `finished` and `rows` are [B]."""

    number: int
    rows: torch.Tensor  # indices of these canvases in the batch that was given
    draft: torch.Tensor  # the argmax canvas, frozen tokens in place
    canvas: torch.Tensor  # accepted samples and fresh noise: the next step's input
    accepted: torch.Tensor
    entropy: torch.Tensor  # nats at the step's temperature, 0 where frozen
    finished: torch.Tensor


@torch.inference_mode()
def denoise(network: Network, canvas: Canvas, plan: Plan, rng: Rng) -> Iterator[Step]:
    """Denoise until every canvas has settled or `plan.steps` are spent. A canvas with nothing free yields nothing."""
    if not bool(canvas.free.any()):
        return
    rows = torch.arange(len(canvas.free), device=canvas.free.device)
    current = torch.where(canvas.free, _noise(canvas, network, rng), canvas.ids)
    draft, previous, soft = current, None, None
    finished = ~canvas.free.any(dim=-1)
    for number in range(1, plan.steps + 1):
        free = canvas.free
        samples = network.sample(current, soft, canvas, plan.temperature(plan.steps - number + 1), rng)
        entropy = _scatter(samples.entropy, free)
        sampled = torch.where(free, _scatter(samples.sample, free), canvas.ids)
        argmax = torch.where(free, _scatter(samples.argmax, free), canvas.ids)
        kept = accept(entropy, free, plan.entropy_bound)
        renoised = torch.where(kept | ~free, sampled, _noise(canvas, network, rng))
        # A finished canvas stays as it is while the others of its batch go on.
        hold = finished[:, None]
        draft, current = torch.where(hold, draft, argmax), torch.where(hold, current, renoised)
        finished = finished | settled(draft, previous, entropy, free, plan.confidence_threshold)
        yield Step(
            number=number, rows=rows, draft=draft, canvas=current, accepted=kept, entropy=entropy, finished=finished
        )
        if number == plan.steps or bool(finished.all()):
            return
        going_on = None
        if number == 1 and plan.survivors is not None and plan.survivors < len(rows):
            rows = entropy.sum(dim=-1).topk(plan.survivors, largest=False).indices.sort().values
            network.keep(rows)
            going_on = torch.isin(free.nonzero()[:, 0], rows)
            canvas, draft, current, finished = canvas.select(rows), draft[rows], current[rows], finished[rows]
        previous, soft = draft, _soft_canvas(samples.expected(going_on), soft, canvas.free, finished[:, None])


def _noise(canvas: Canvas, network: Network, rng: Rng) -> torch.Tensor:
    """Uniform ids [B, C]."""
    return rng.noise((canvas.ids.shape[0], canvas.ids.shape[1]), network.vocab_size)


def _scatter(rows: torch.Tensor, free: torch.Tensor) -> torch.Tensor:
    """Scatter values of the free rows [R] into [B, C]; other positions are zero."""
    out = torch.zeros(free.shape, dtype=rows.dtype, device=rows.device)
    out[free] = rows
    return out


def _soft_canvas(rows: torch.Tensor, last: torch.Tensor | None, free: torch.Tensor, hold: torch.Tensor) -> torch.Tensor:
    """Scatter soft rows [R, d] into [B, C, d], zero at frozen positions; finished canvases keep their last ones."""
    out = torch.zeros(*free.shape, rows.shape[-1], dtype=rows.dtype, device=rows.device)
    out[free] = rows
    return out if last is None else torch.where(hold[..., None], last, out)
