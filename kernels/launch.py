"""Triton where it is installed and of use, and a device's properties for launchers. The only file that imports triton.

Without triton every kernel file can be imported and its reference runs; launching a kernel is an error.
"""

from __future__ import annotations

import functools
import importlib.util
import sys
from typing import TYPE_CHECKING, NoReturn

import torch

# A CPU build of torch cannot launch kernels, and importing triton takes memory and time. With it triton is used only if
# something imported it before, as the tests do for Triton's interpreter.
INSTALLED = importlib.util.find_spec("triton") is not None and (
    torch.version.cuda is not None or "triton" in sys.modules
)


class Absent:
    """Takes triton's place where it is not used: decorating works, launching raises."""

    def jit(self, kernel: object) -> Absent:
        """Replace a kernel by an object that raises when launched."""
        return self

    def __getitem__(self, grid: object) -> NoReturn:
        raise RuntimeError("kernels need triton: pip install 'midspan[kernels]', or run on the CPU")


if TYPE_CHECKING or INSTALLED:
    import triton
    import triton.language as tl
else:
    triton = tl = Absent()

__all__ = [
    "INSTALLED",
    "LARGE",
    "SMALL",
    "Absent",
    "capability",
    "cdiv",
    "power_of_two",
    "precision",
    "processors",
    "shared_memory",
    "tl",
    "triton",
    "whole_power",
]

# Bytes of shared memory per block, the keys of the tables of tiles: compute capability 9.0 and 10.0 have 227 KiB, 8.0
# has 163; 8.6, 8.9 and 12.0, which most cards of 24 GB have, have 99.
LARGE, SMALL = 163 * 1024, 99 * 1024


def capability(x: torch.Tensor) -> int:
    """Compute capability of x's device: 80, 90, 100; 0 on the CPU, where Triton's interpreter runs kernels."""
    return 0 if x.device.type == "cpu" else _capability(x.device)


@functools.cache
def _capability(device: torch.device) -> int:
    major, minor = torch.cuda.get_device_capability(device)
    return 10 * major + minor


def shared_memory(x: torch.Tensor) -> int:
    """Bytes of shared memory per block on x's device; 0 on the CPU, which selects the smallest tiles."""
    return 0 if x.device.type == "cpu" else _shared_memory(x.device)


@functools.cache
def _shared_memory(device: torch.device) -> int:
    # torch's stubs do not name it.
    limit: int = torch.cuda.get_device_properties(device).shared_memory_per_block_optin  # type: ignore[attr-defined]
    return limit


def processors(x: torch.Tensor) -> int:
    """Streaming multiprocessors of x's device; 4 on the CPU, so that the interpreter runs split kernels too."""
    return 4 if x.device.type == "cpu" else _processors(x.device)


@functools.cache
def _processors(device: torch.device) -> int:
    count: int = torch.cuda.get_device_properties(device).multi_processor_count
    return count


def precision(x: torch.Tensor) -> str:
    """The input precision of tl.dot: float32 stays float32 (not TF32), so that a kernel decides as its reference."""
    return "ieee" if x.dtype == torch.float32 else "tf32"


def cdiv(a: int, b: int) -> int:
    """a / b, rounded up."""
    return -(-a // b)


def power_of_two(n: int) -> int:
    """The smallest power of two that is at least n."""
    return 1 << max(n - 1, 0).bit_length()


def whole_power(n: int) -> int:
    """The largest power of two that is at most n, 1 at least: keeps the variants of a kernel's constant few."""
    return 1 << max(n, 1).bit_length() - 1
