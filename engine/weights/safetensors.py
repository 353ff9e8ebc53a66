"""A checkpoint's safetensors files: which tensors make one matrix, whether they fit, and reading them in order.

Five forms: plain numbers; int8 with `<name>_scale`, one scale a row; int4, packed bytes with a scale for each group of
32 (kernels/four_bit.py); compressed-tensors' FP8, as int8 with `weight_scale`; NVFP4 (ModelOpt), packed bytes with
`weight_scale` for each group of 16 and `weight_scale_2` for all. The last two have their experts one by one, as
`experts.E.{gate,up,down}_proj`. All is checked from the files' headers before the first tensor is read.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from midspan.engine.api import CheckpointError, OnProgress
from midspan.engine.weights.quantized import NVFP4_GROUP, Stored
from midspan.engine.weights.typed_json import one_line, read_object, shown
from midspan.kernels.four_bit import group_of

PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
FLOATS, INT8, FP8, PACKED = ("F32", "BF16", "F16"), "I8", "F8_E4M3", "U8"
EXPERT = re.compile(r"(.*\.experts)\.(\d+)\.(gate|up|down)_proj\.weight")
SCALES = ("_scale", "_scale_2")
# For a cache of fewer bits, which this engine does not have.
CACHE_SCALES = (".k_scale", ".v_scale", ".q_scale")
TENSOR_NAME, MOST_AXES = re.compile(r"[\w.-]{1,300}", re.ASCII), 8
SHARD_NAME = re.compile(r"[\w][\w.-]*\.safetensors")
# Bytes of a header, and of an index. The release's largest, of experts that stand one by one, has some five million.
MOST_HEADER = 16 << 20
BYTES = {"F64": 8, "F32": 4, "I64": 8, "I32": 4}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One tensor of a file, from its header."""

    file: Path
    dtype: str
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """Its bytes in the file."""
        wide = 2 if self.dtype.endswith("F16") else 1
        return math.prod(self.shape) * BYTES.get(self.dtype, wide)


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One stored matrix or vector: its name, its form, and the `region` of the tensor `target` that it fills."""

    name: str
    form: str  # "plain", "int8", "int4", "fp8" or "nvfp4"
    target: str
    region: tuple[int | slice, ...]

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of all tensors that it consists of."""
        number = {"plain": 0, "int8": 1, "int4": 1, "fp8": 1, "nvfp4": 2}[self.form]
        return (self.name, *(self.name + suffix for suffix in SCALES[:number]))

    def value(self, tensors: Mapping[str, torch.Tensor]) -> Stored:
        """The piece of tensors that were read. FP8's scales lose a trailing axis of 1."""
        value, *scales = (tensors[name] for name in self.parts)
        if self.form == "plain":
            return Stored(value=value)
        if self.form == "nvfp4":
            return Stored(value=value, scale=scales[0], channel=scales[1].float().reshape(()).expand(value.shape[:-1]))
        if self.form == "int4":
            return Stored(value=value, scale=scales[0])
        return Stored(value=value, scale=scales[0].reshape(value.shape[:-1]))


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files: those the index names, else model.safetensors. Raises CheckpointError."""
    index = folder / "model.safetensors.index.json"
    files = [folder / name for name in _indexed(index)] if index.is_file() else [folder / "model.safetensors"]
    for file in files:
        if file.is_file():
            continue
        pickles = sorted(found.name for pattern in PICKLES for found in folder.glob(pattern))
        if pickles:
            raise CheckpointError(f"{folder / pickles[0]}: a pickle is never loaded; convert it to {file.name}")
        raise CheckpointError(f"{file}: missing; copy the whole checkpoint again")
    return files


def _indexed(index: Path) -> list[str]:
    """The names of the files that an index has, all of them in its own folder."""
    places = read_object(index, MOST_HEADER).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise CheckpointError(f"{index}: not a safetensors index, as it has no weight_map; restore it")
    for name in places.values():
        if not isinstance(name, str) or not SHARD_NAME.fullmatch(name):
            raise CheckpointError(f"{index}: weight_map names {shown(name)}; give files of this folder")
    return sorted(set(places.values()))


def open_file(file: Path) -> Any:
    """A safetensors file, mapped and not read. Raises CheckpointError for one that is damaged."""
    try:
        with file.open("rb") as opened:
            header = int.from_bytes(opened.read(8), "little")
        if header > MOST_HEADER:
            raise CheckpointError(
                f"{file}: truncated or not safetensors, as its header has {header} bytes; copy it again"
            )
        return safe_open(file, framework="pt")
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{file}: truncated or not safetensors ({one_line(error)}); copy it again") from error


def catalogue(folder: Path) -> dict[str, Entry]:
    """Every tensor of the folder by name, from the headers alone. Raises CheckpointError."""
    out = {}
    for file in weight_files(folder):
        with open_file(file) as tensors:
            for name in tensors.keys():  # noqa: SIM118
                part = tensors.get_slice(name)
                shape = tuple(part.get_shape())
                if not TENSOR_NAME.fullmatch(name) or len(shape) > MOST_AXES:
                    raise CheckpointError(f"{file}: {shown(name)} is no tensor of a network; copy the file again")
                out[name] = Entry(file=file, dtype=part.get_dtype(), shape=shape)
    return out


def pieces(
    folder: Path, entries: Mapping[str, Entry], wanted: Mapping[str, tuple[int, ...]], leave: Callable[[str], bool]
) -> list[Piece]:
    """The pieces that fill `wanted`: checkpoint name -> shape. `leave` says which tensors are passed over.

    Raises CheckpointError for a missing, unexpected or wrongly shaped tensor, and for an unknown form.
    """
    out = []
    for name, entry in sorted(entries.items()):
        if leave(name) or _is_scale(name, entries):
            continue
        found = _place(name, wanted)
        if found is None:
            raise CheckpointError(f"{entry.file}: unexpected tensor {name}; config.json does not fit these weights")
        target, region, shape = found
        form = _form(name, entries)
        _check(name, form, shape, entries)
        out.append(Piece(name=name, form=form, target=target, region=region))
    missing = _missing(out, wanted)
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise CheckpointError(f"{folder}: tensor {missing[0]}{more} missing; copy the whole checkpoint again")
    return out


def read(
    parts: list[Piece], entries: Mapping[str, Entry], progress: OnProgress | None = None
) -> Iterator[tuple[Piece, Stored]]:
    """Every piece, file by file. One file is mapped at a time; the parts of a piece may stand in different files.

    `progress` is told the bytes read and all bytes, after every tensor.
    """
    of_tensor = {name: piece for piece in parts for name in piece.parts}
    by_file = defaultdict[Path, list[str]](list)
    for name in sorted(of_tensor):
        by_file[entries[name].file].append(name)
    total, done = sum(entries[name].bytes for name in of_tensor), 0
    waiting = defaultdict[str, dict[str, torch.Tensor]](dict)
    for file, names in sorted(by_file.items()):
        with open_file(file) as tensors:
            for name in names:
                piece = of_tensor[name]
                held = waiting[piece.name]
                held[name] = tensors.get_tensor(name)
                if len(held) == len(piece.parts):
                    yield piece, piece.value(waiting.pop(piece.name))
                done += entries[name].bytes
                if progress is not None:
                    progress(done, total)


def _is_scale(name: str, entries: Mapping[str, Entry]) -> bool:
    """Whether a tensor only scales another. `input_scale` is not used: activations are scaled by their own maximum."""
    if name.endswith(CACHE_SCALES):
        return True
    if name.endswith(".input_scale"):
        return name.removesuffix("input_scale") + "weight" in entries
    return any(name.endswith(suffix) and name.removesuffix(suffix) in entries for suffix in SCALES)


def _place(
    name: str, wanted: Mapping[str, tuple[int, ...]]
) -> tuple[str, tuple[int | slice, ...], tuple[int, ...]] | None:
    """(target, region of it, the region's shape) of a tensor; None for an unexpected one."""
    if name in wanted:
        return name, (), wanted[name]
    if (found := EXPERT.fullmatch(name)) is None:
        return None
    target = f"{found[1]}.{'down' if found[3] == 'down' else 'gate_up'}_proj"
    if target not in wanted or int(found[2]) >= wanted[target][0]:
        return None
    (_, rows, width), expert = wanted[target], int(found[2])
    if found[3] == "down":
        return target, (expert,), (rows, width)
    first = 0 if found[3] == "gate" else rows // 2
    return target, (expert, slice(first, first + rows // 2)), (rows // 2, width)


def _form(name: str, entries: Mapping[str, Entry]) -> str:
    """How a tensor is stored. Raises CheckpointError for an unknown form."""
    entry, scaled = entries[name], name + "_scale" in entries
    if entry.dtype in FLOATS and not scaled:
        return "plain"
    if entry.dtype in (INT8, FP8) and scaled:
        return "int8" if entry.dtype == INT8 else "fp8"
    if entry.dtype == PACKED and EXPERT.fullmatch(name) and all(name + suffix in entries for suffix in SCALES):
        return "nvfp4"
    if entry.dtype == PACKED and scaled and entries[name + "_scale"].dtype != FP8:
        return "int4"
    fix = f"int8 needs {name}_scale beside it" if entry.dtype == INT8 else "use the bf16 release"
    raise CheckpointError(f"{entry.file}: {name} is stored as {entry.dtype}, which is not read here; {fix}")


def _check(name: str, form: str, shape: tuple[int, ...], entries: Mapping[str, Entry]) -> None:
    """Raises CheckpointError where a tensor or its scales have another shape than the config's."""
    rows, entry = shape[:-1], entries[name]
    packed = form in ("nvfp4", "int4")
    if packed and (not rows or shape[-1] % 2):
        raise CheckpointError(f"{entry.file}: {name} is packed, which {list(shape)} cannot be; quantise again")
    stored = (*rows, shape[-1] // 2) if packed else shape
    if entry.shape != stored:
        raise CheckpointError(f"{entry.file}: {name} has shape {list(entry.shape)}, config.json says {list(stored)}")
    if form == "plain":
        return
    size = NVFP4_GROUP if form == "nvfp4" else group_of(shape[-1]) if form == "int4" else 1
    grouped = [(*rows, shape[-1] // size)]
    allowed = {"int8": [rows], "fp8": [rows, (*rows, 1)], "int4": grouped, "nvfp4": grouped}[form]
    scale = entries[name + "_scale"]
    if scale.shape not in allowed:
        right = list(allowed[0])
        raise CheckpointError(f"{scale.file}: {name}_scale has shape {list(scale.shape)}, not {right}; quantise again")
    single = name + ("_scale_2" if form == "nvfp4" else "_scale")
    if (kind := entries[single].dtype) not in FLOATS:
        raise CheckpointError(f"{scale.file}: {single} is {kind}, not {' or '.join(FLOATS)}; quantise again")
    if form == "nvfp4" and (scale.dtype != FP8 or shape[-1] % NVFP4_GROUP):
        raise CheckpointError(f"{scale.file}: {name}_scale is {scale.dtype}, NVFP4 has {FP8}; quantise again")
    if form == "nvfp4" and (whole := entries[name + "_scale_2"]).shape not in ((), (1,)):
        raise CheckpointError(f"{whole.file}: {name}_scale_2 has shape {list(whole.shape)}, not []; quantise again")


def _missing(found: list[Piece], wanted: Mapping[str, tuple[int, ...]]) -> list[str]:
    """The names of missing tensors; where experts are stored one by one, those of the missing experts."""
    split = {piece.name for piece in found if piece.region}
    whole = {piece.target for piece in found if not piece.region}
    targets = {piece.target for piece in found}
    out = []
    for target, shape in sorted(wanted.items()):
        if target not in targets:
            out.append(target)
        elif target not in whole:
            stem, kind = target.removesuffix("_proj").rsplit(".", 1)
            names = [f"{stem}.{e}.{part}_proj.weight" for e in range(shape[0]) for part in kind.split("_")]
            out += [name for name in names if name not in split]
    return out
