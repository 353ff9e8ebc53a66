"""Reads and writes the weights of the `llama` family, under Hugging Face's names."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import torch

from midspan.engine.api import OnProgress
from midspan.engine.llama import Llama, LlamaConfig
from midspan.engine.weights.load import Uninitialised, check_memory, read_config, write_shards
from midspan.engine.weights.numbers import check_numbers
from midspan.engine.weights.quantized import Stored
from midspan.engine.weights.safetensors import Entry, Piece, catalogue, pieces, read
from midspan.kernels.four_bit import quantize_int4_closest
from midspan.kernels.int8 import int8_rows
from midspan.kernels.nibbles import GROUP, Nibbles

HEAD = "lm_head.weight"
# Computed from config.json here; some old files have them.
COMPUTED = (".rotary_emb.inv_freq",)
Bits = Literal[16, 8, 4]


Matrix = torch.Tensor | Nibbles
"""A tensor of a network as it is read: plain numbers, or a matrix in four bits."""


class Weights(NamedTuple):
    """A checkpoint's tensors, checked but for their numbers: name and shape of each, and all in the file's order.

    `tensors` raises CheckpointError for numbers that no weights have.
    """

    shapes: Mapping[str, tuple[int, ...]]
    tensors: Iterable[tuple[str, Matrix]]

    def network(self, config: LlamaConfig, dtype: torch.dtype, device: torch.device) -> Llama:
        """The network in plain torch, as `dtype` on `device`. Raises DeviceError where it cannot hold the weights."""
        self.check_memory(device, dtype.itemsize)
        with torch.device(device), Uninitialised():
            network = Llama(config).to(dtype)
        targets = dict(network.named_parameters())
        with torch.no_grad():
            for name, matrix in self.tensors:
                targets[name].copy_(plain(matrix))
        return network.eval()

    def check_memory(self, device: torch.device, each: int) -> None:
        """Raises DeviceError where the device cannot hold so many bytes for each number."""
        check_memory(device, each * sum(torch.Size(shape).numel() for shape in self.shapes.values()))


def plain(matrix: Matrix) -> torch.Tensor:
    """The numbers."""
    return matrix.plain() if isinstance(matrix, Nibbles) else matrix


def numbers(matrix: Matrix) -> int:
    """How many there are."""
    return (matrix.codes if isinstance(matrix, Nibbles) else matrix).numel()


def parameter_shapes(config: LlamaConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of every parameter."""
    with torch.device("meta"), Uninitialised():
        return {name: tuple(tensor.shape) for name, tensor in Llama(config).named_parameters()}


def read_llama(folder: Path, config: LlamaConfig, progress: OnProgress | None = None) -> Weights:
    """The folder's weights, file by file and tensor by tensor.

    Raises CheckpointError for a missing, unexpected or wrongly shaped tensor, a damaged file or a pickle.
    """
    entries, shapes = catalogue(folder), parameter_shapes(config)
    parts = _fitting(folder, entries, config, shapes)

    def tensors() -> Iterator[tuple[str, Matrix]]:
        for piece, stored in read(parts, entries, progress):
            check_numbers(piece, stored, entries[piece.name].file)
            yield piece.target, _matrix(stored)

    return Weights(shapes, tensors())


def _matrix(stored: Stored) -> Matrix:
    """A stored tensor, in four bits where it is stored so in the kernels' groups."""
    value, scale = stored.value, stored.scale
    if scale is None or value.dtype != torch.uint8 or scale.shape[-1] * GROUP != 2 * value.shape[-1]:
        return stored.plain()
    return Nibbles.symmetric(value, scale)


def open_llama(folder: Path, dtype: torch.dtype = torch.float32) -> Llama:
    """The network of a checkpoint folder, packaged or not, on the CPU. Raises CheckpointError as `read_llama` does."""
    config = LlamaConfig.from_json(read_config(folder), str(folder / "config.json"))
    return read_llama(folder, config).network(config, dtype, torch.device("cpu"))


def _fitting(
    folder: Path, entries: Mapping[str, Entry], config: LlamaConfig, shapes: Mapping[str, tuple[int, ...]]
) -> list[Piece]:
    """The pieces that fill the network; a tied head may be stored as well."""

    def leave(name: str) -> bool:
        return name.endswith(COMPUTED) or (config.tied and name.startswith(HEAD))

    return pieces(folder, entries, shapes, leave)


def save_llama(network: Llama, folder: Path, bits: Bits) -> None:
    """Write safetensors files, as `write_shards` does.

    Matrices in bf16, in int8 with a scale a row, or in int4 in groups of 32 but for those that are worth int8 then.
    Vectors in bf16.
    """
    out: dict[str, torch.Tensor] = {}
    for name, tensor in network.named_parameters():
        plain = tensor.detach()
        if bits == 16 or plain.ndim < 2:
            out[name] = plain.to(torch.bfloat16).contiguous()
        elif bits == 4 and not _worth_int8(name, network.config.layers):
            out[name], out[name + "_scale"] = quantize_int4_closest(plain)
        else:
            out[name], out[name + "_scale"] = int8_rows(plain)
    write_shards(out, folder)


def _worth_int8(name: str, layers: int) -> bool:
    """Whether a matrix loses too much in int4: embedding and head, values, and the last product of outer layers.

    Of a network of 30 layers that is an eleventh more bytes, and left a third of what int4 cost in 40 held-out gaps.
    """
    if not name.startswith("model.layers."):
        return True
    place = int(name.split(".")[2])
    outer = place < math.ceil(layers / 4) or place >= layers - math.ceil(layers / 8)
    return ".v_proj." in name or (outer and ".down_proj." in name)
