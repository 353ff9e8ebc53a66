"""Which numbers no weights have: NaN, infinities, and nothing but zeros."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from midspan.engine.api import CheckpointError
from midspan.engine.weights.quantized import Stored
from midspan.engine.weights.safetensors import Piece

# Rows of a large tensor that are looked at, and how many numbers still make a small one.
SAMPLED_ROWS, SMALL = 64, 1 << 14
CHUNK = 1 << 22


def check_numbers(piece: Piece, stored: Stored, file: Path) -> None:
    """Look at a piece as it is read. Raises CheckpointError naming the file and the tensor.

    Norms, scalars, scales of rows and all that is SMALL are looked at whole; of larger tensors SAMPLED_ROWS rows,
    evenly spread. So a checkpoint of any size is read once, and the check takes some milliseconds for the embedded one.
    What only few rows hold is left to the trial read behind the load (engine.load_infiller).

    A matrix that is all zeros, or whose scales are, computes nothing. A norm may be zero, as in layers that were added
    (training/shape.py), and so may a single expert.
    """
    whole_matrix = stored.value.ndim > 1 and not piece.region
    for name, tensor in zip(piece.parts, stored.tensors(), strict=True):
        if tensor.dtype.is_floating_point and not bool(_sample(tensor).float().isfinite().all()):
            raise CheckpointError(f"{file}: {name} has numbers that are not finite; copy the whole checkpoint again")
        if whole_matrix and not any(bool(part.float().any()) for part in _more_and_more(tensor)):
            raise CheckpointError(f"{file}: {name} is all zeros; copy the whole checkpoint again")


def _more_and_more(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    """A sample, and where that says nothing the whole, some rows at a time."""
    yield _sample(tensor)
    rows = tensor.reshape(-1, tensor.shape[-1]) if tensor.ndim else tensor[None]
    yield from rows.split(max(1, CHUNK // max(1, rows.shape[-1])))


def _sample(tensor: torch.Tensor) -> torch.Tensor:
    """A small tensor, or evenly spread rows of a larger one."""
    if tensor.numel() <= SMALL:
        return tensor
    if tensor.ndim == 1:
        return tensor[:: tensor.numel() // SMALL]
    rows = tensor.flatten(0, -2)
    return rows[:: max(1, len(rows) // SAMPLED_ROWS)]
