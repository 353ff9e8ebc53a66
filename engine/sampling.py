"""What a denoise step takes from the logits of its free rows: entropies, samples, expected embeddings."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import torch

from midspan.engine.canvas import Canvas, Rng

# Finite, so that its product with a probability of 0 is 0; far below any logit at any temperature.
FORBIDDEN = -1e9


class Samples(NamedTuple):
    """For R free rows: entropies in nats at the step's temperature, sampled ids and likeliest ids, each [R].

    `expected` gives the expected embeddings [R', d] of the rows that a boolean [R] selects, of all for None.
    """

    entropy: torch.Tensor
    sample: torch.Tensor
    argmax: torch.Tensor
    expected: Callable[[torch.Tensor | None], torch.Tensor]


class LogitsNetwork(ABC):
    """A network that gives logits, from which plain torch samples; see denoise.Network."""

    @abstractmethod
    def logits(self, ids: torch.Tensor, soft: torch.Tensor | None, free: torch.Tensor) -> torch.Tensor:
        """Canvases [B, C] and the last step's soft embeddings [B, C, d] -> float32 logits of the R free rows [R, V]."""

    @abstractmethod
    def soft(self, logits: torch.Tensor) -> torch.Tensor:
        """Logits [R, V] -> the expected embeddings [R, d] that condition the next step."""

    def sample(
        self, ids: torch.Tensor, soft: torch.Tensor | None, canvas: Canvas, temperature: float, rng: Rng
    ) -> Samples:
        """See denoise.Network."""
        free = canvas.free
        logits = limit(self.logits(ids, soft, free), canvas, free.nonzero()[:, 1] == 0)
        return sample(logits / temperature, rng, self.soft)


def sample(logits: torch.Tensor, rng: Rng, soft: Callable[[torch.Tensor], torch.Tensor]) -> Samples:
    """Sample from logits [R, V] at the step's temperature; `soft` turns logits into expected embeddings."""
    probabilities = torch.softmax(logits, dim=-1)
    return Samples(
        entropies(logits, probabilities),
        rng.sample(probabilities),
        logits.argmax(dim=-1),
        lambda rows: soft(logits if rows is None else logits[rows]),
    )


def entropies(logits: torch.Tensor, probabilities: torch.Tensor) -> torch.Tensor:
    """Entropy in nats of each row [R] of logits and their softmax [R, V].

    The entropy is log-sum-exp minus the expected logit. Log-sum-exp is the greatest logit minus its log-probability, so
    that no exponential is computed twice. Forbidden ids have logits of FORBIDDEN and probability 0.
    """
    log_sum = logits.amax(dim=-1) - probabilities.amax(dim=-1).log()
    expected: torch.Tensor = torch.linalg.vecdot(probabilities, logits)
    return (log_sum - expected).clamp_(min=0.0)


def limit(logits: torch.Tensor, canvas: Canvas, first: torch.Tensor) -> torch.Tensor:
    """Forbid banned ids in rows [R, V] and, where `first` [R] is true, ids that do not continue the healed text."""
    if canvas.banned:
        logits[:, list(canvas.banned)] = FORBIDDEN
    if canvas.allowed_first is not None:
        logits[first] = logits[first].masked_fill(~canvas.allowed_first, FORBIDDEN)
    return logits


def permitted(canvas: Canvas, vocab_size: int) -> torch.Tensor:
    """The ids that `limit` allows, as booleans [2, V]: in any row, and in a `first` one."""
    anywhere = torch.ones(vocab_size, dtype=torch.bool, device=canvas.ids.device)
    anywhere[list(canvas.banned)] = False
    first = anywhere if canvas.allowed_first is None else anywhere & canvas.allowed_first
    return torch.stack((anywhere, first))
