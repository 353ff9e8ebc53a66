"""What a GGUF file or a checkpoint folder is, and why it would not run here: from its headers, without torch.

A glance knows less than a load: shapes are not compared with the configuration, and no number is read.
"""

from __future__ import annotations

import json
import math
import mmap
import os
import re
import struct
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from midspan.engine.api import CheckpointError, Glance
from midspan.engine.marks_settings import FAMILIES, read_marks_settings
from midspan.engine.prompts.gguf_tokenizer import SPLITS
from midspan.engine.prompts.templates import chosen_marks
from midspan.engine.weights.gguf_header import FIX, MAGIC, Damaged, Header, mapped
from midspan.engine.weights.midspan_json import NAME, read_settings
from midspan.engine.weights.typed_json import read_bytes, read_object, shown

CANVAS = "diffusion_gemma"
# No network is smaller: what is, is a pointer of git's large file storage, or the beginning of a download.
LEAST_BYTES = 4096
MOST_TOKENIZER, MOST_HEADER, MOST_CARD = 64 << 20, 32 << 20, 1 << 16
MOST_FILES = 1000
LENGTH = struct.Struct("<Q")
TOKENS = "tokenizer.ggml.tokens"
LAYER, TABLES = re.compile(r"(?:^|\.)(?:blk|layers)\.\d"), ("token_embd.weight", "embed_tokens.weight")


def gguf_file(checkpoint: str) -> Path | None:
    """The GGUF file that a checkpoint is, by its name or by how it begins: Ollama's files have no such names."""
    file = Path(os.path.expanduser(checkpoint))  # noqa: PTH111 - pathlib's raises where ~ is nobody's
    try:
        if file.suffix == ".gguf":
            return None if file.is_dir() else file
        if not file.is_file():
            return None
        with file.open("rb") as opened:
            return file if opened.read(len(MAGIC)) == MAGIC else None
    except (OSError, ValueError):
        # Whoever opens it as a folder says what is wrong.
        return None


def glance(path: Path) -> Glance:
    """What lies at a path. Whatever is wrong is `Glance.problem`; a file that cannot be read is a problem as well."""
    try:
        return _folder(path) if path.is_dir() else _gguf(path)
    except CheckpointError as error:
        return Glance(problem=str(error).removeprefix(f"{path}: "))
    except OSError as error:
        return Glance(problem=f"{error.strerror}; make it readable")


class _Span:
    """A list of texts in a header, which is not read; says whether a text is in it."""

    def __init__(self, data: mmap.mmap, begin: int, end: int, count: int) -> None:
        self._data, self._begin, self._end, self._count = data, begin, end, count

    def __len__(self) -> int:
        return self._count

    def __contains__(self, text: object) -> bool:
        spelled = str(text).encode()
        return self._data.find(LENGTH.pack(len(spelled)) + spelled, self._begin, self._end) >= 0


class _Outline(Header):
    """A header whose lists are stepped over: a vocabulary has hundreds of thousands of texts."""

    def _texts(self, count: int) -> _Span:
        begin = at = self._at
        data, length, last = self._data, LENGTH.unpack_from, len(self._data) - LENGTH.size
        for _ in range(count):
            if at > last:
                break
            at += LENGTH.size + length(data, at)[0]
        if at > len(data):
            raise Damaged("it ends within its header, in a list of texts")
        self._at = at
        return _Span(data, begin, at, count)

    def _numbers(self, form: str, count: int) -> None:
        self._take(count * struct.calcsize(form))


def _gguf(file: Path) -> Glance:
    size = file.stat().st_size
    if size < LEAST_BYTES:
        return Glance(bytes=size, problem=f"has {size} bytes only, which is no model; fetch it again")
    with mapped(file) as data:
        header = _Outline(data)
        try:
            tensors, damage = header.read()[1], None
        except Damaged as damaged:
            tensors, damage = {}, f"not a whole GGUF file, as {damaged}; {FIX}"
        known = Glance(
            family=_text(header.metadata, "general.architecture"),
            name=_text(header.metadata, "general.name"),
            licence=_text(header.metadata, "general.license"),
        )
        known = _sized(known, {name: math.prod(one.shape) for name, one in tensors.items()}, size)
        wrong = _other_family(known.family) or _unreadable(header.metadata) or damage
        # Only a whole header says what is not there.
        if (wrong := wrong or _other_family(known.family or "")) is not None:
            return replace(known, problem=wrong)
        if not isinstance(tokens := header.metadata.get(TOKENS), _Span):
            return replace(known, problem="has no vocabulary, as an adapter has none; take the whole model")
        return _with_marks(known, file, tokens, file.with_name(f"{file.name}.{NAME}"))


def _other_family(family: str | None) -> str | None:
    """Why a network of this kind does not run; None where it does, or where nothing is known of it."""
    if family is None or family in FAMILIES:
        return None
    return f"family {shown(family)} is not one of {', '.join(FAMILIES)}"


def _unreadable(metadata: dict[str, Any]) -> str | None:
    """Why the whole file would not do, by its metadata."""
    if type(parts := metadata.get("split.count")) is int and parts > 1:
        return f"one of {parts} parts of a model; join them with llama-gguf-split --merge"
    if TOKENS not in metadata:
        return None
    kind, split = metadata.get("tokenizer.ggml.model"), metadata.get("tokenizer.ggml.pre")
    if kind == "gpt2" and split in SPLITS:
        return None
    return f"its tokenizer is {shown(kind)} with splits {shown(split)}, which is not read from GGUF files"


def _with_marks(known: Glance, file: Path, tokens: Any, beside: Path) -> Glance:
    """With what the checkpoint's own settings say, and whether its tokenizer has the marks that they need."""
    try:
        settings = read_marks_settings(beside)
        chosen_marks(file, beside, settings.layout, tokens)
    except CheckpointError as error:
        fits_none = "the fill-in-the-middle tokens of no model" in str(error)
        return replace(known, problem="has no fill-in-the-middle tokens" if fits_none else str(error))
    return replace(known, layout="marks", languages=settings.show.languages)


def _sized(known: Glance, sizes: Mapping[str, int], size: int) -> Glance:
    """With the numbers of parameters: of all, of the layers, and of one table of tokens."""
    layers = sum(count for name, count in sizes.items() if LAYER.search(name))
    tables = (count for name, count in sizes.items() if name.endswith(TABLES))
    return replace(known, parameters=sum(sizes.values()), in_layers=layers, in_head=max(tables, default=0), bytes=size)


def _text(metadata: dict[str, Any], key: str) -> str | None:
    found = metadata.get(key)
    return " ".join(found.split())[:80] if isinstance(found, str) else None


def _folder(folder: Path) -> Glance:
    config = read_object(folder / "config.json")
    family = config.get("model_type")
    known = Glance(family=family if isinstance(family, str) else None, licence=_licence(folder / "README.md"))
    if known.family != CANVAS and (wrong := _other_family(known.family or "")) is not None:
        return replace(known, problem=wrong)
    files = _weight_files(folder)
    known = _sized(known, _sizes(files), sum(file.stat().st_size for file in files))
    if known.family == CANVAS:
        settings = read_settings(folder)
        return replace(known, layout=settings.layout.kind, languages=settings.show.languages)
    spelled = read_bytes(folder / "tokenizer.json", MOST_TOKENIZER)
    return _with_marks(known, folder / "tokenizer.json", _Spelled(spelled), folder / NAME)


class _Spelled:
    """The bytes of a `tokenizer.json`; says whether a text is spelled in it."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __contains__(self, text: object) -> bool:
        return any(json.dumps(text, ensure_ascii=plain).encode() in self._data for plain in (True, False))


def _licence(card: Path) -> str | None:
    """The licence that the head of a model's card names."""
    if not card.is_file():
        return None
    with card.open("rb") as opened:
        head, _, rest = opened.read(MOST_CARD).decode("utf-8", "replace").partition("\n---")
    if not rest:
        return None
    fields = dict(line.partition(":")[::2] for line in head.splitlines())
    named = fields.get("license_name") or fields.get("license") or ""
    return named.strip()[:80] or None


def _sizes(files: list[Path]) -> dict[str, int]:
    """The numbers of parameters by tensor. Raises CheckpointError for a file that is not whole."""
    sizes: dict[str, int] = {}
    for file in files:
        sizes |= _tensors(file)
    return sizes


def _weight_files(folder: Path) -> list[Path]:
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        files = sorted(folder.glob("*.safetensors"))[:MOST_FILES]
        if not files:
            raise CheckpointError(f"{folder}: has no safetensors; fetch it again")
        return files
    names = read_object(index, MOST_HEADER).get("weight_map")
    named = {name for name in names.values() if _plain_name(name)} if isinstance(names, dict) else set()
    files = [folder / name for name in sorted(named)][:MOST_FILES]
    if not files:
        raise CheckpointError(f"{index}: names no file beside it; fetch it again")
    if missing := [file.name for file in files if not file.is_file()]:
        raise CheckpointError(f"{folder}: {len(missing)} of {len(files)} files of weights are missing; fetch it again")
    return files


def _plain_name(name: object) -> bool:
    return isinstance(name, str) and name == Path(name).name


def _tensors(file: Path) -> dict[str, int]:
    """Tensor -> its number of parameters, from the header; scales of quantised ones count as none.

    Raises CheckpointError for a file that is not whole.
    """
    whole = CheckpointError(f"{file}: not a whole safetensors file; fetch it again")
    size = file.stat().st_size
    with file.open("rb") as opened:
        start = opened.read(LENGTH.size)
        length = LENGTH.unpack(start)[0] if len(start) == LENGTH.size else size
        if length > min(MOST_HEADER, size):
            raise whole
        try:
            found = {name: one for name, one in json.loads(opened.read(length)).items() if name != "__metadata__"}
            end = max((int(one["data_offsets"][1]) for one in found.values()), default=0)
            sizes = {name: _parameters(one) for name, one in found.items() if not name.endswith("scale")}
        except (ValueError, ArithmeticError, RecursionError, AttributeError, TypeError, LookupError) as error:
            raise whole from error
    # No number takes less than four bits.
    if LENGTH.size + length + end != size or not 0 <= sum(sizes.values()) <= 2 * size:
        raise whole
    return sizes


def _parameters(tensor: dict[str, Any]) -> int:
    """Of one tensor's entry; a byte without sign holds two of four bits."""
    count = math.prod(int(axis) for axis in tensor["shape"])
    return 2 * count if tensor["dtype"] == "U8" else count
