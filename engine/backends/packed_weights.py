"""Any network's weights as the CPU's own kernels read them: packed in panels, held while pointers last."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from midspan.kernels import native
from midspan.kernels.native import Packed
from midspan.kernels.nibbles import Nibbles, PackedNibbles


class PackedWeights:
    """Holds the tensors that a structure of the kernels points to; panels have WIDE registers of `lanes` columns.

    `forms` are the forms of its products' weights. Those in int8 meet `grouped` rows, or rows with one scale each.
    """

    def __init__(self, lanes: int, *, grouped: bool = False) -> None:
        self._lanes, self._grouped = lanes, grouped
        self.forms: set[str] = set()
        self._kept: list[object] = []

    def _keep(self, tensor: torch.Tensor) -> int:
        """The address of a copy in float32."""
        held = tensor.detach().float().clone(memory_format=torch.contiguous_format)
        self._kept.append(held)
        return held.data_ptr()

    def _pack(self, weight: torch.Tensor | Nibbles) -> native.Product:
        """Weights [n, k] in int8, or in the four bits that they have already."""
        packed: Packed | PackedNibbles
        if isinstance(weight, Nibbles):
            self.forms.add("int4")
            packed = PackedNibbles.of(weight, self._lanes)
        else:
            self.forms.add("int8")
            packed = Packed.of(weight, self._lanes, grouped=self._grouped)
        self._kept.append(packed)
        return packed.product()


def not_full(sizes: Iterable[tuple[str, int, int]]) -> str | None:
    """The first of (name, size, what it must be a multiple of) that leaves a panel or register unfilled, in words."""
    return next((f"{name} is {size}, no multiple of {of}" for name, size, of in sizes if size % of), None)
