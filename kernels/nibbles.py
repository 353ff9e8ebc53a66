"""Weights in four bits for the CPU's own kernels (kernels/cpu/nibbles.h): codes, and a scale and an offset per group.

w[n, k] = codes[n, k] * scale[n, k / GROUP] + offset[n, k / GROUP]
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Self

import torch

from midspan.kernels.native import WIDE, Product

GROUP = 32  # GROUPED of kernels/cpu/grouped.h


class Nibbles(NamedTuple):
    """Weights [n, k]: `codes` uint8 [n, k], 0 to 15; `scale` and `offset` [n, k / GROUP]."""

    codes: torch.Tensor
    scale: torch.Tensor
    offset: torch.Tensor

    @classmethod
    def symmetric(cls, packed: torch.Tensor, scale: torch.Tensor) -> Self:
        """From four_bit.py's packed uint8 [n, k / 2], whose code 8 is zero, and scale [n, k / GROUP]."""
        codes = torch.stack((packed & 15, packed >> 4), dim=-1).flatten(-2)
        return cls(codes, scale, -8 * scale)

    @classmethod
    def together(cls, weights: list[Self], how: Callable[[list[torch.Tensor]], torch.Tensor]) -> Self:
        """One weight of several, whose rows `how` lays together."""
        return cls(*(how(list(parts)) for parts in zip(*weights, strict=True)))

    def plain(self) -> torch.Tensor:
        """The numbers in float32 [n, k]."""
        groups: torch.Tensor = self.codes.float().unflatten(-1, (-1, GROUP))
        rows: torch.Tensor = groups * self.scale.float()[..., None] + self.offset.float()[..., None]
        return rows.flatten(-2)


class PackedNibbles(NamedTuple):
    """The same as the kernels read them; a Product points into it. Scales and offsets are rounded to bfloat16."""

    weight: torch.Tensor
    groups: torch.Tensor
    n: int
    k: int

    @classmethod
    def of(cls, weights: Nibbles, lanes: int) -> Self:
        """In panels of WIDE * lanes columns, of which n is a multiple; two registers of columns share bytes."""
        (n, k), width = weights.codes.shape, WIDE * lanes
        panels = weights.codes.view(n // width, WIDE, lanes, k // 4, 4).permute(0, 3, 1, 2, 4)
        both = torch.stack((weights.scale, weights.offset)).to(torch.bfloat16)
        groups = both.view(2, n // width, width, k // GROUP).permute(1, 3, 0, 2)
        return cls((panels[:, :, ::2] | panels[:, :, 1::2] << 4).contiguous(), groups.contiguous(), n, k)

    def product(self) -> Product:
        """Pointers to this object's tensors, which must outlive them."""
        return Product(self.weight.data_ptr(), None, None, self.groups.data_ptr(), self.n, self.k)
