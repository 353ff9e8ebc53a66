"""A GGUF file: its metadata, and its tensors as numbers; gguf_header.py checks it, gguf_blocks.py knows the forms."""

from __future__ import annotations

from pathlib import Path

import torch

from midspan.engine.api import CheckpointError
from midspan.engine.weights.gguf_blocks import numbers
from midspan.engine.weights.gguf_header import FIX, Damaged, Header, mapped


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
        data = torch.frombuffer(bytearray(self._bytes[tensor.begin : tensor.begin + tensor.bytes]), dtype=torch.uint8)
        return numbers(data, tensor.form).view(tensor.shape)
