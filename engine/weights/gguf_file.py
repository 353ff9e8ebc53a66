"""A GGUF file: its metadata, and its tensors as they lie in it. Everything is checked before anything is read by it.

Versions 2 and 3, little-endian (github.com/ggml-org/ggml/blob/master/docs/gguf.md). What a header claims is held
against the file's size, so that no lie about a length takes memory; gguf_blocks.py turns tensors into numbers.
"""

from __future__ import annotations

import math
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from midspan.engine.api import CheckpointError
from midspan.engine.weights.gguf_blocks import FOUR_BITS, OTHERS, SIZES, TYPES, numbers
from midspan.engine.weights.typed_json import one_line, shown
from midspan.kernels.nibbles import Nibbles

MAGIC, VERSIONS = b"GGUF", (2, 3)
# What no file of a language model has more of: tensors, keys, items of a list.
MOST_TENSORS, MOST_KEYS, MOST_ITEMS = 1 << 14, 1 << 12, 1 << 22
MOST_NAME, MOST_AXES = 256, 4
ALIGNMENT = 32
SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
STRING, LIST = 8, 9
FIX = "copy the file again"


class _Damaged(Exception):
    """What is wrong in a header, in a few words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufTensor:
    """Where a tensor lies: its shape as torch has it, the name of its form, first byte and number of bytes."""

    shape: tuple[int, ...]
    form: str
    begin: int
    bytes: int


class GgufFile:
    """The metadata by key, and the tensors by name; the file is mapped and read where it is asked for."""

    def __init__(self, file: Path) -> None:
        """Raises CheckpointError, one line with the file and what is wrong."""
        self.file = file
        try:
            with file.open("rb") as opened:
                self._bytes = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{file}: cannot be mapped ({one_line(error)}); {FIX}") from error
        try:
            self.metadata, self.tensors = _Header(self._bytes).read()
        except _Damaged as damage:
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


class _Header:
    """Reads from the front of a file; every length is held against what is left."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data, self._at = data, 0

    def read(self) -> tuple[dict[str, Any], dict[str, GgufTensor]]:
        """Metadata and tensors."""
        if self._take(4) != MAGIC or self._number("<I") not in VERSIONS:
            raise _Damaged("it does not begin with GGUF and version 2 or 3")
        tensors, keys = self._count(MOST_TENSORS, "tensors"), self._count(MOST_KEYS, "keys")
        metadata: dict[str, Any] = {}
        for _ in range(keys):
            name = self._name()
            if name in metadata:
                raise _Damaged(f"{shown(name)} is there twice")
            metadata[name] = self._value(self._number("<I"))
        found = [self._tensor() for _ in range(tensors)]
        return metadata, self._placed(found, metadata.get("general.alignment", ALIGNMENT))

    def _placed(self, found: list[tuple[str, GgufTensor]], alignment: Any) -> dict[str, GgufTensor]:
        """The tensors with their places in the file, none twice, over another's, or beyond the end."""
        if type(alignment) is not int or not 1 <= alignment <= 1 << 16 or alignment & (alignment - 1):
            raise _Damaged(f"general.alignment is {shown(alignment)}")
        begin, end = -(-self._at // alignment) * alignment, 0
        out: dict[str, GgufTensor] = {}
        for name, tensor in sorted(found, key=lambda one: one[1].begin):
            if name in out:
                raise _Damaged(f"tensor {shown(name)} is there twice")
            if tensor.begin < end or tensor.begin % alignment:
                raise _Damaged(f"tensor {shown(name)} lies over another or beside its place")
            end = tensor.begin + tensor.bytes
            if begin + end > len(self._data):
                raise _Damaged(f"tensor {shown(name)} ends behind the file")
            out[name] = GgufTensor(shape=tensor.shape, form=tensor.form, begin=begin + tensor.begin, bytes=tensor.bytes)
        return out

    def _tensor(self) -> tuple[str, GgufTensor]:
        name, axes = self._name(), self._number("<I")
        if not 1 <= axes <= MOST_AXES:
            raise _Damaged(f"tensor {shown(name)} has {axes} axes")
        # The first axis is the one whose numbers lie side by side.
        shape = tuple(self._number("<Q") for _ in range(axes))[::-1]
        kind, begin = self._number("<I"), self._number("<Q")
        if kind not in TYPES:
            known = ", ".join(TYPES.values())
            raise _Damaged(f"tensor {shown(name)} is {OTHERS.get(kind, 'of an unknown type')}; {known} are read")
        size, bytes_ = SIZES[TYPES[kind]]
        count = math.prod(shape)
        if not count or shape[-1] % size or count // size * bytes_ > len(self._data):
            raise _Damaged(f"tensor {shown(name)} has shape {list(shape)}")
        return name, GgufTensor(shape=shape, form=TYPES[kind], begin=begin, bytes=count // size * bytes_)

    def _value(self, kind: int) -> Any:
        if kind in SCALARS:
            return self._number(SCALARS[kind])
        if kind == STRING:
            return self._text()
        if kind != LIST:
            raise _Damaged(f"a key is of type {kind}")
        inside, count = self._number("<I"), self._number("<Q")
        if inside not in SCALARS and inside != STRING:
            # Lists of lists are in no language model's file.
            raise _Damaged(f"a list is of type {inside}")
        least = 8 if inside == STRING else struct.calcsize(SCALARS[inside])
        if count > MOST_ITEMS or count * least > len(self._data) - self._at:
            raise _Damaged(f"a list says that it has {count} items")
        if inside == STRING:
            return [self._text() for _ in range(count)]
        return list(struct.unpack(f"<{count}{SCALARS[inside][1]}", self._take(count * least)))

    def _name(self) -> str:
        text = self._text()
        if not text or len(text) > MOST_NAME:
            raise _Damaged(f"a name has {len(text)} characters")
        return text

    def _text(self) -> str:
        data = self._take(self._number("<Q"))
        # A token may be part of a character.
        return data.decode("utf-8", "replace")

    def _count(self, most: int, of_what: str) -> int:
        count: int = self._number("<Q")
        if count > most:
            raise _Damaged(f"it says that it has {count} {of_what}")
        return count

    def _number(self, form: str) -> Any:
        return struct.unpack(form, self._take(struct.calcsize(form)))[0]

    def _take(self, count: int) -> bytes:
        if count > len(self._data) - self._at:
            raise _Damaged(f"it ends within its header, where {count} bytes should follow")
        self._at += count
        return self._data[self._at - count : self._at]
