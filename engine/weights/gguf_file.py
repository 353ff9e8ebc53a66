"""A GGUF file: its metadata, and its tensors as numbers; gguf_header.py checks it, gguf_blocks.py knows the forms."""

from __future__ import annotations

from pathlib import Path

import torch

from midspan.engine.api import CheckpointError
from midspan.engine.weights.gguf_blocks import FOUR_BITS, numbers
from midspan.engine.weights.gguf_header import FIX, SIZES, Damaged, GgufTensor, Header, mapped
from midspan.kernels.nibbles import Nibbles


class GgufFile:
    """The metadata by key, and the tensors by name; the file is mapped and read where it is asked for."""

    def __init__(self, file: Path) -> None:
        """Raises CheckpointError, one line with the file and what is wrong."""
        self.file, self._bytes = file, mapped(file)
        try:
            self.metadata, self.tensors = Header(self._bytes).read()
        except Damaged as damage:
            raise CheckpointError(f"{file}: not a whole GGUF file, as {damage}; {FIX}") from damage

    def read(self, name: str) -> torch.Tensor:
        """A tensor in float32."""
        tensor = self.tensors[name]
        return numbers(self._data(tensor), tensor.form).view(tensor.shape)

    def matrix(self, name: str) -> torch.Tensor | Nibbles:
        """A tensor in float32; a matrix in four bits a number where its form is such, in groups of 32."""
        tensor = self.tensors[name]
        if tensor.form not in FOUR_BITS or len(tensor.shape) != 2:
            return self.read(name)
        codes, scale, offset = FOUR_BITS[tensor.form](self._data(tensor).view(-1, SIZES[tensor.form][1]))
        rows = tensor.shape[0]
        return Nibbles(codes.view(tensor.shape), scale.reshape(rows, -1), offset.reshape(rows, -1))

    def _data(self, tensor: GgufTensor) -> torch.Tensor:
        return torch.frombuffer(bytearray(self._bytes[tensor.begin : tensor.begin + tensor.bytes]), dtype=torch.uint8)
