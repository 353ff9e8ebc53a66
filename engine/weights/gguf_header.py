"""The header of a GGUF file: its metadata, and where its tensors lie. Everything is checked before it is believed.

Versions 2 and 3, little-endian (github.com/ggml-org/ggml/blob/master/docs/gguf.md). What a header claims is held
against the file's size, so that no lie about a length takes memory. Standard library only, as files are listed that
nobody loads.
"""

from __future__ import annotations

import math
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from midspan.engine.api import CheckpointError
from midspan.engine.weights.typed_json import one_line, shown

MAGIC, VERSIONS = b"GGUF", (2, 3)
# What no file of a language model has more of: tensors, keys, items of a list.
MOST_TENSORS, MOST_KEYS, MOST_ITEMS = 1 << 14, 1 << 12, 1 << 22
MOST_NAME, MOST_AXES = 256, 4
ALIGNMENT = 32
SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
STRING, LIST = 8, 9
FIX = "copy the file again"
# Numbers a block, bytes a block.
SIZES = {
    "F32": (1, 4),
    "F16": (1, 2),
    "BF16": (1, 2),
    "Q4_0": (32, 18),
    "Q4_1": (32, 20),
    "Q5_0": (32, 22),
    "Q8_0": (32, 34),
    "Q4_K": (256, 144),
    "Q6_K": (256, 210),
}
TYPES = {0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 8: "Q8_0", 12: "Q4_K", 14: "Q6_K", 30: "BF16"}
# Forms that files have and that are not read.
OTHERS = {
    7: "Q5_1",
    9: "Q8_1",
    10: "Q2_K",
    11: "Q3_K",
    13: "Q5_K",
    15: "Q8_K",
    16: "IQ2_XXS",
    17: "IQ2_XS",
    18: "IQ3_XXS",
    19: "IQ1_S",
    20: "IQ4_NL",
    21: "IQ3_S",
    22: "IQ2_S",
    23: "IQ4_XS",
    24: "I8",
    25: "I16",
    26: "I32",
    27: "I64",
    28: "F64",
    29: "IQ1_M",
    34: "TQ1_0",
    35: "TQ2_0",
    39: "MXFP4",
}


class Damaged(Exception):
    """What is wrong in a header, in a few words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufTensor:
    """Where a tensor lies: its shape as torch has it, the name of its form, first byte and number of bytes."""

    shape: tuple[int, ...]
    form: str
    begin: int
    bytes: int


def mapped(file: Path) -> mmap.mmap:
    """A file's bytes, which are read where they are asked for. Raises CheckpointError."""
    try:
        if not file.is_file() and file.exists():
            raise CheckpointError(f"{file}: is no file; give a GGUF file")
        with file.open("rb") as opened:
            return mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file}: cannot be mapped ({one_line(error)}); {FIX}") from error


class Header:
    """Reads from the front of a file; every length is held against what is left."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data, self._at = data, 0
        self.metadata: dict[str, Any] = {}

    def read(self) -> tuple[dict[str, Any], dict[str, GgufTensor]]:
        """Metadata and tensors. Raises Damaged."""
        if self._take(4) != MAGIC or self._number("<I") not in VERSIONS:
            raise Damaged("it does not begin with GGUF and version 2 or 3")
        tensors, keys = self._count(MOST_TENSORS, "tensors"), self._count(MOST_KEYS, "keys")
        metadata = self.metadata
        for _ in range(keys):
            name = self._name()
            if name in metadata:
                raise Damaged(f"{shown(name)} is there twice")
            metadata[name] = self._value(self._number("<I"))
        found = [self._tensor() for _ in range(tensors)]
        return metadata, self._placed(found, metadata.get("general.alignment", ALIGNMENT))

    def _placed(self, found: list[tuple[str, GgufTensor]], alignment: Any) -> dict[str, GgufTensor]:
        """The tensors with their places in the file, none twice, over another's, or beyond the end."""
        if type(alignment) is not int or not 1 <= alignment <= 1 << 16 or alignment & (alignment - 1):
            raise Damaged(f"general.alignment is {shown(alignment)}")
        begin, end = -(-self._at // alignment) * alignment, 0
        out: dict[str, GgufTensor] = {}
        for name, tensor in sorted(found, key=lambda one: one[1].begin):
            if name in out:
                raise Damaged(f"tensor {shown(name)} is there twice")
            if tensor.begin < end or tensor.begin % alignment:
                raise Damaged(f"tensor {shown(name)} lies over another or beside its place")
            end = tensor.begin + tensor.bytes
            if begin + end > len(self._data):
                raise Damaged(f"tensor {shown(name)} ends behind the file")
            out[name] = GgufTensor(shape=tensor.shape, form=tensor.form, begin=begin + tensor.begin, bytes=tensor.bytes)
        return out

    def _tensor(self) -> tuple[str, GgufTensor]:
        name, axes = self._name(), self._number("<I")
        if not 1 <= axes <= MOST_AXES:
            raise Damaged(f"tensor {shown(name)} has {axes} axes")
        # The first axis is the one whose numbers lie side by side.
        shape = tuple(self._number("<Q") for _ in range(axes))[::-1]
        kind, begin = self._number("<I"), self._number("<Q")
        if kind not in TYPES:
            known = ", ".join(TYPES.values())
            raise Damaged(f"tensor {shown(name)} is {OTHERS.get(kind, 'of an unknown type')}; {known} are read")
        size, bytes_ = SIZES[TYPES[kind]]
        count = math.prod(shape)
        if not count or shape[-1] % size:
            raise Damaged(f"tensor {shown(name)} has shape {list(shape)}")
        if count // size * bytes_ > len(self._data):
            raise Damaged(f"tensor {shown(name)} has shape {list(shape)}, more than the file holds")
        return name, GgufTensor(shape=shape, form=TYPES[kind], begin=begin, bytes=count // size * bytes_)

    def _value(self, kind: int) -> Any:
        if kind in SCALARS:
            return self._number(SCALARS[kind])
        if kind == STRING:
            return self._text()
        if kind != LIST:
            raise Damaged(f"a key is of type {kind}")
        inside, count = self._number("<I"), self._number("<Q")
        if inside not in SCALARS and inside != STRING:
            # Lists of lists are in no language model's file.
            raise Damaged(f"a list is of type {inside}")
        least = 8 if inside == STRING else struct.calcsize(SCALARS[inside])
        if count > MOST_ITEMS or count * least > len(self._data) - self._at:
            raise Damaged(f"a list says that it has {count} items")
        return self._texts(count) if inside == STRING else self._numbers(SCALARS[inside], count)

    def _texts(self, count: int) -> Any:
        return [self._text() for _ in range(count)]

    def _numbers(self, form: str, count: int) -> Any:
        return list(struct.unpack(f"<{count}{form[1]}", self._take(count * struct.calcsize(form))))

    def _name(self) -> str:
        text = self._text()
        if not text or len(text) > MOST_NAME:
            raise Damaged(f"a name has {len(text)} characters")
        return text

    def _text(self) -> str:
        data = self._take(self._number("<Q"))
        # A token may be part of a character.
        return data.decode("utf-8", "replace")

    def _count(self, most: int, of_what: str) -> int:
        count: int = self._number("<Q")
        if count > most:
            raise Damaged(f"it says that it has {count} {of_what}")
        return count

    def _number(self, form: str) -> Any:
        return struct.unpack(form, self._take(struct.calcsize(form)))[0]

    def _take(self, count: int) -> bytes:
        if count > len(self._data) - self._at:
            raise Damaged(f"it ends within its header, where {count} bytes should follow")
        self._at += count
        return self._data[self._at - count : self._at]
