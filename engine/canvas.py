"""The gap as tokens: free and frozen positions, noise, which samples are accepted, and when a canvas has settled.

Frozen positions are clean at every step. They take no part in the entropy budget, in renoising or in the stop rule.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class Canvas:
    """A batch of canvases: ids [B, C] (final where frozen), free [B, C], valid [B, C] (False is padding).

    `allowed_first` [V] limits the token at position 0 (token healing); `banned` holds ids that no slot may take.
    `gap` [B] is how many leading positions the gap has, where not all of them are free. `later_rows` is how many
    leading positions are computed from the second step on; None for all.
    """

    ids: torch.Tensor
    free: torch.Tensor
    valid: torch.Tensor | None = None
    allowed_first: torch.Tensor | None = None
    banned: tuple[int, ...] = ()
    gap: torch.Tensor | None = None
    later_rows: int | None = None

    def __post_init__(self) -> None:
        assert self.ids.shape == self.free.shape
        assert self.free.dtype == torch.bool

    def select(self, rows: torch.Tensor) -> Canvas:
        """The canvases `rows` [B'] of the batch."""
        valid = None if self.valid is None else self.valid[rows]
        gap = None if self.gap is None else self.gap[rows]
        return replace(self, ids=self.ids[rows], free=self.free[rows], valid=valid, gap=gap)

    @property
    def gap_sizes(self) -> list[int]:
        """The gap's length in each canvas, in positions."""
        sizes: list[int] = (self.free.sum(dim=-1) if self.gap is None else self.gap).tolist()
        return sizes


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The rules of one denoising run; the defaults are the release's generation_config.json but for `steps`."""

    steps: int = 8
    t_min: float = 0.4
    t_max: float = 0.8
    entropy_bound: float = 0.1
    confidence_threshold: float = 0.005
    # How many canvases go on after the first step: those with the lowest sum of entropies; None for all.
    survivors: int | None = None

    def temperature(self, remaining: int) -> float:
        """Linear in the steps that remain: from t_max with all of them left down towards t_min."""
        return self.t_min + (self.t_max - self.t_min) * remaining / self.steps


class Rng:
    """Every random choice of a run, from one seed."""

    def __init__(self, seed: int, device: torch.device | str = "cpu") -> None:
        self._generator = torch.Generator(device=device).manual_seed(seed)
        self._seed, self._runs = seed, 0

    def counter_seed(self) -> int:
        """A seed for counter-based numbers (kernels/counter.py), another one for every run; below 2^63."""
        self._runs += 1
        return (self._seed + (self._runs << 32)) % 2**63

    def noise(self, shape: tuple[int, int], vocab_size: int) -> torch.Tensor:
        """Uniform ids [B, C] over the whole vocabulary."""
        return torch.randint(0, vocab_size, shape, generator=self._generator, device=self._generator.device)

    def sample(self, probabilities: torch.Tensor) -> torch.Tensor:
        """One id a row from probabilities [R, V], by inverting the cumulative distribution."""
        cumulative = probabilities.cumsum(dim=-1)
        places = self.uniform(len(probabilities))[:, None] * cumulative[:, -1:]
        ids = torch.searchsorted(cumulative, places).squeeze(1)
        return ids.clamp_(max=probabilities.shape[1] - 1)

    def uniform(self, count: int) -> torch.Tensor:
        """Uniform numbers [count] in [0, 1): positions in a cumulative distribution."""
        return torch.rand(count, generator=self._generator, device=self._generator.device)


def accept(entropy: torch.Tensor, free: torch.Tensor, bound: float) -> torch.Tensor:
    """Entropy-bound acceptance (arXiv:2505.24857): the free positions of lowest entropy, at least one per canvas.

    Position k of the ascending order is kept while the entropies before it sum to at most `bound` nats.
    entropy and free are [B, C]; returns boolean [B, C].
    """
    ordered, index = torch.sort(entropy.masked_fill(~free, torch.inf), dim=-1, stable=True)
    before = ordered.cumsum(dim=-1) - ordered
    kept = torch.zeros_like(free).scatter(-1, index, before <= bound)
    return kept & free


def settled(
    draft: torch.Tensor, previous: torch.Tensor | None, entropy: torch.Tensor, free: torch.Tensor, threshold: float
) -> torch.Tensor:
    """Whether each canvas [B] is stable (same draft as before) and confident (mean free entropy below threshold)."""
    count = free.sum(dim=-1)
    mean = (entropy * free).sum(dim=-1) / count.clamp(min=1)
    if previous is None:
        return count == 0
    stable = ((draft == previous) | ~free).all(dim=-1)
    return (stable & (mean < threshold)) | (count == 0)
