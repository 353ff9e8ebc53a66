"""RoPE's rates (Su et al. 2021, arXiv:2104.09864), and how checkpoints stretch them over more positions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Rope:
    """Rotary positions of heads of `size`; `factor` is how far they are stretched, from `trained` positions on.

    `kind`: `default`, none; `linear`, all rates alike; `llama3`, slow rates only, in between by degrees; `yarn`
    (Peng et al. 2023, arXiv:2309.00071), the same with a ramp between `fast` and `slow` rotations, and all cosines and
    sines times `gain`.
    """

    size: int
    theta: float
    kind: Literal["default", "linear", "llama3", "yarn"] = "default"
    factor: float = 1.0
    trained: int = 2048
    low: float = 1.0
    high: float = 4.0
    fast: float = 32.0
    slow: float = 1.0
    truncate: bool = True
    gain: float = 1.0

    def rates(self, device: torch.device | None = None) -> Tensor:
        """Radians a position [size / 2] in float32."""
        halves = torch.arange(0, self.size, 2, dtype=torch.float32, device=device)
        plain = 1.0 / self.theta ** (halves / self.size)
        if self.kind == "default":
            return plain
        stretched = plain / self.factor
        if self.kind == "linear":
            return stretched
        share = self._llama3_share(plain) if self.kind == "llama3" else self._yarn_share(plain)
        return stretched + (plain - stretched) * share

    def _llama3_share(self, plain: Tensor) -> Tensor:
        """Which part of a rate stays: by its rotations over the trained positions."""
        return ((self.trained * plain / (2 * math.pi) - self.low) / (self.high - self.low)).clamp(0, 1)

    def _yarn_share(self, plain: Tensor) -> Tensor:
        """Which part of a rate stays: by its place in a head."""
        first, final = (self._place_of(rotations) for rotations in (self.fast, self.slow))
        if self.truncate:
            first, final = float(math.floor(first)), float(math.ceil(final))
        first, final = max(first, 0.0), min(final, self.size - 1.0)
        places = torch.arange(len(plain), dtype=torch.float32, device=plain.device)
        return 1 - ((places - first) / (final - first or 0.001)).clamp(0, 1)

    def _place_of(self, rotations: float) -> float:
        """The pair of a head that turns so often over the trained positions."""
        return self.size * math.log(self.trained / (rotations * 2 * math.pi)) / (2 * math.log(self.theta))

    def turns(self, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Cosines and sines [..., size] of positions [...]."""
        angles = positions[..., None].float() * self.rates(positions.device)
        whole = torch.cat([angles, angles], -1)
        return (whole.cos() * self.gain).to(dtype), (whole.sin() * self.gain).to(dtype)


def yarn_gain(factor: float, mscale: float | None, mscale_all_dim: float | None) -> float:
    """What yarn multiplies cosines and sines by, where the checkpoint does not say it."""

    def scaled(by: float) -> float:
        return 1.0 if factor <= 1 else 0.1 * by * math.log(factor) + 1.0

    return scaled(mscale) / scaled(mscale_all_dim) if mscale and mscale_all_dim else scaled(1.0)
