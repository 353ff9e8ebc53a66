"""The CPU's own C++ kernels (kernels/cpu) from Python: choose and open a build, its structures, and packed weights.

They are built with the package where there is a compiler (builds.py). One call runs the whole stack of layers; another
one the head and sampling of a step. A call releases Python's lock and uses Network.threads threads.
"""

from __future__ import annotations

import ctypes
import logging
import platform
from functools import cache
from importlib.util import find_spec
from typing import NamedTuple

import torch

from midspan.kernels.builds import Build, builds_for
from midspan.kernels.int8 import MIDDLE, STEPS, int8_rows

log = logging.getLogger(__name__)

WIDE = 4  # registers of columns in a panel: kernels/cpu/product.h
SPARE = 16  # bytes behind a mask's rows, because the kernels read whole registers
LARGEST_HEAD = 512  # head_dim at most: kernels/cpu/network.h
PACKED_TOGETHER = 1 << 18  # numbers of weights that are rounded at a time

Pointer, Int = ctypes.c_void_p, ctypes.c_int64


class Product(ctypes.Structure):
    """Pointers to packed weights [n, k]; see Packed, and nibbles.py."""

    _fields_ = (*((name, Pointer) for name in ("weight", "scale", "start", "groups")), ("n", Int), ("k", Int))


class Layer(ctypes.Structure):
    """One layer's weights. This and the next structures repeat network.h field by field."""

    _fields_ = (
        *((name, Product) for name in ("qkv", "out", "gate_up", "dense_down", "expert_down")),
        *((name, Pointer) for name in ("q_norm", "k_norm")),
        *((name, Pointer) for name in ("after_attention", "after_dense", "after_expert", "after_both", "scalars")),
        ("kind", Int),
    )


class Network(ctypes.Structure):
    """Sizes and weights."""

    _fields_ = (
        *((name, Int) for name in ("hidden", "heads", "head_dim", "dense", "expert", "layers", "threads")),
        ("eps", ctypes.c_float),
        ("softcap", ctypes.c_float),
        ("layer", ctypes.POINTER(Layer)),
        ("norm", Pointer),
        ("embeddings", Pointer),
        *((name, Product) for name in ("condition_gate_up", "condition_down", "head")),
    )


class Sees(ctypes.Structure):
    """A mask: the keys that each row sees."""

    _fields_ = (("at", Pointer), *((name, Int) for name in ("first", "of_canvas", "of_key", "of_row")))


class Read(ctypes.Structure):
    """The arguments of one forward pass over rows behind a cache."""

    _fields_ = (
        ("canvases", Int),
        ("rows", Int),
        ("unread", Int),
        ("ids", Pointer),
        ("soft", Pointer),
        ("encoder", Int),
        ("positions", Pointer),
        ("before", Int),
        ("before_k", Pointer),
        ("before_v", Pointer),
        ("before_head", Int),
        ("own", Int),
        ("own_k", Pointer),
        ("own_v", Pointer),
        ("own_head", Int),
        ("own_canvas", Int),
        ("cos", Pointer),
        ("sin", Pointer),
        ("sees", Pointer),
        ("out", Pointer),
    )


class Block(ctypes.Structure):
    """A layer of a llama-family decoder."""

    _fields_ = (
        *((name, Product) for name in ("qkv", "out", "gate_up", "down")),
        *((name, Pointer) for name in ("qkv_bias", "out_bias", "q_norm", "k_norm", "before_attention", "before_mlp")),
    )


class Decoder(ctypes.Structure):
    """Sizes and weights of a llama-family decoder, without its head."""

    _fields_ = (
        *((name, Int) for name in ("hidden", "heads", "groups", "head_dim", "inner", "layers", "threads")),
        ("eps", ctypes.c_float),
        ("block", ctypes.POINTER(Block)),
        ("norm", Pointer),
    )


class Text(ctypes.Structure):
    """Rows of a text behind a decoder's cache."""

    _fields_ = (
        ("rows", Int),
        ("unread", Int),
        ("first", Int),
        ("end", Int),
        ("x", Pointer),
        ("positions", Pointer),
        ("before", Int),
        ("keys", Pointer),
        ("values", Pointer),
        ("of_head", Int),
        ("cos", Pointer),
        ("sin", Pointer),
        ("sees", Sees),
    )


class Field(ctypes.Structure):
    """One row of a library's table of fields: where the compiler laid it."""

    _fields_ = (("name", ctypes.c_char_p), ("offset", Int), ("size", Int))


STRUCTURES = (Product, Layer, Network, Sees, Read, Block, Decoder, Text)
FUNCTIONS = ("read", "decode", "logits", "log_probabilities", "following", "draw", "soft")


class Library(NamedTuple):
    """An opened build for this CPU; `lanes` is how many numbers one of its registers holds."""

    name: str
    functions: ctypes.CDLL
    lanes: int


@cache
def library() -> Library | None:
    """The fastest build for this CPU that opens; None if there is none. RuntimeError for a build of another version."""
    for build in fitting():
        try:
            found = opened(build)
        except OSError as error:
            # It was built on another machine, against libraries that this one lacks.
            log.warning("our kernels cannot be opened: %s", error)
            continue
        if found is not None:
            return found
    return None


def fitting() -> list[Build]:
    """The builds whose features this CPU has, the fastest first."""
    has = torch.cpu.get_capabilities()
    return [build for build in builds_for(platform.machine()) if all(has.get(one) for one in build.features)]


def absent() -> str:
    """Why `library` is None, for `midspan doctor`."""
    if not (builds := fitting()):
        wanted = ", or ".join(" and ".join(build.features) for build in builds_for(platform.machine()))
        return f"the CPU has not {wanted}" if wanted else f"there are none for {platform.machine()}"
    built = any(find_spec(build.module) is not None for build in builds)
    return "our kernels cannot be opened here: build them (make venv)" if built else "no compiler built our kernels"


def opened(build: Build) -> Library | None:
    """Open a build; None if it was not built. Raises OSError if it does not load, RuntimeError for another version."""
    spec = find_spec(build.module)
    if spec is None or spec.origin is None:
        return None
    functions = ctypes.CDLL(spec.origin)
    if (field := differing(functions)) is not None:
        said = f"{spec.origin} is of another version, by {field}"
        raise RuntimeError(f"{said}: install midspan again (make venv)")
    functions.midspan_lanes.restype = Int
    for name in FUNCTIONS:
        getattr(functions, f"midspan_{name}").restype = ctypes.c_char_p
    return Library(build.name, functions, functions.midspan_lanes())


def differing(functions: ctypes.CDLL) -> str | None:
    """The first structure or field that a library has elsewhere than STRUCTURES; None if all agree."""
    if not hasattr(functions, "midspan_field"):
        return "its table of fields"
    functions.midspan_field.restype = ctypes.POINTER(Field)
    theirs: dict[str, tuple[int, int]] = {}
    while found := functions.midspan_field(Int(len(theirs))):
        theirs[found.contents.name.decode()] = (found.contents.offset, found.contents.size)
    ours: dict[str, tuple[int, int]] = {}
    for structure in STRUCTURES:
        ours[structure.__name__] = (0, ctypes.sizeof(structure))
        for name, *_ in structure._fields_:
            field = getattr(structure, name)
            ours[f"{structure.__name__}.{name}"] = (field.offset, field.size)
    # A changed field shifts the fields behind it and the structure's size: report the first field that differs.
    names = sorted(dict.fromkeys((*ours, *theirs)), key=lambda name: "." not in name)
    return next((name for name in names if ours.get(name) != theirs.get(name)), None)


class Packed(NamedTuple):
    """Weights [n, k] in int8 as the kernels read them, with a scale per output column; a Product points into it.

    Without a `start` they meet rows that have a scale for each group (kernels/cpu/grouped.h).
    """

    weight: torch.Tensor
    scale: torch.Tensor
    start: torch.Tensor | None
    n: int
    k: int

    @classmethod
    def of(cls, weight: torch.Tensor, lanes: int, *, grouped: bool = False) -> Packed:
        """Round weights [n, k] to int8, each row with its own scale; n is a multiple of WIDE * lanes.

        They meet rows with one scale each, or `grouped` ones.
        """
        (n, k), width = weight.shape, WIDE * lanes
        panels = torch.empty(n // width, k // 4, WIDE, lanes, 4, dtype=torch.int8)
        scale, start = torch.empty(n), None if grouped else torch.empty(n, dtype=torch.int32)
        # Some panels at a time, which stay in the cache; all at once would be a copy in float32.
        step = max(1, PACKED_TOGETHER // (k * width))
        for first in range(0, n // width, step):
            rows = slice(first * width, (first + step) * width)
            rounded, scale[rows] = int8_rows(weight[rows])
            panels[first : first + step] = rounded.view(-1, WIDE, lanes, k // 4, 4).permute(0, 3, 1, 2, 4)
            if start is not None:
                start[rows] = -MIDDLE * rounded.sum(dim=1, dtype=torch.int32)
        return cls(panels, scale / STEPS, start, n, k)

    def product(self) -> Product:
        """Pointers to this object's tensors, which must outlive them."""
        start = None if self.start is None else self.start.data_ptr()
        return Product(self.weight.data_ptr(), self.scale.data_ptr(), start, None, self.n, self.k)


def beside(gate: torch.Tensor, up: torch.Tensor, lanes: int) -> torch.Tensor:
    """Interleave two weights [n, k] into one [2 n, k] so that half of every panel is of each."""
    half = WIDE * lanes // 2
    (n, k) = gate.shape
    return torch.stack((gate.view(n // half, half, k), up.view(n // half, half, k)), dim=1).view(2 * n, k)
