"""GGUF files for tests, written value by value: no weights that mean anything, but headers of any kind."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

QWEN_MARKS = ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<|endoftext|>", "<|file_sep|>")
STRING, LIST, UINT32, FLOAT32 = 8, 9, 4, 0
WORDS = tuple(f"word{number}" for number in range(400))


def text(value: str) -> bytes:
    spelled = value.encode()
    return struct.pack("<Q", len(spelled)) + spelled


def value(of: object) -> bytes:
    """A value of the metadata with its type before it."""
    if isinstance(of, str):
        return struct.pack("<I", STRING) + text(of)
    if isinstance(of, int):
        return struct.pack("<II", UINT32, of)
    assert isinstance(of, Sequence)
    return struct.pack("<IIQ", LIST, STRING, len(of)) + b"".join(text(str(one)) for one in of)


def header(metadata: Mapping[str, object], tensors: Mapping[str, Sequence[int]]) -> bytes:
    """All before the weights, which are float32."""
    out = [b"GGUF", struct.pack("<IQQ", 3, len(tensors), len(metadata))]
    out += [text(key) + value(one) for key, one in metadata.items()]
    begin = 0
    for name, shape in tensors.items():
        out += [text(name), struct.pack(f"<I{len(shape)}Q", len(shape), *shape[::-1])]
        out += [struct.pack("<IQ", FLOAT32, begin)]
        begin += 4 * _count(shape)
    return b"".join(out)


def write(file: Path, *, cut: int = 0, rows: int = 64, **metadata: object) -> Path:
    """A file of a tiny qwen2 network with Qwen's marks; `metadata` replaces values, `__` in a name stands for a dot.

    `cut` bytes are missing at its end.
    """
    usual: dict[str, object] = {
        "general.architecture": "qwen2",
        "general.name": "Tiny Coder",
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "qwen2",
        "tokenizer.ggml.tokens": [*WORDS, *QWEN_MARKS],
    }
    given = {name.replace("__", "."): one for name, one in metadata.items()}
    tensors = {"token_embd.weight": (rows, 32), "blk.0.ffn_up.weight": (rows, 32), "blk.1.ffn_up.weight": (rows, 32)}
    front = header({**usual, **given}, tensors)
    weights = sum(4 * _count(shape) for shape in tensors.values())
    data = front + bytes(-len(front) % 32 + weights)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data[: len(data) - cut])
    return file


def _count(shape: Sequence[int]) -> int:
    count = 1
    for axis in shape:
        count *= axis
    return count
