"""Triton where it is installed and of use, and what launchers ask about the device. The only file that imports triton.

A machine without triton imports every kernel file and runs its references; launching a kernel there is an error.
"""

from __future__ import annotations

import functools
import importlib.util
import sys
from typing import TYPE_CHECKING, NoReturn

import torch

# A CPU build of torch has nothing to launch on, and triton takes memory and time: there it is only used where somebody,
# as the tests do for the interpreter, has imported it before.
INSTALLED = importlib.util.find_spec("triton") is not None and (
    torch.version.cuda is not None or "triton" in sys.modules
)


class Absent:
    """Stands in for triton where it is not installed: decorating works, launching does not."""

    def jit(self, kernel: object) -> Absent:
        """Take the place of a kernel."""
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

# Bytes of shared memory that a block may have, by which tables of tiles are read: 227 KiB on compute capability 9.0 and
# 10.0, 163 on 8.0; 99 on 8.6, 8.9 and 12.0, which most cards of 24 GB are.
LARGE, SMALL = 163 * 1024, 99 * 1024


def capability(x: torch.Tensor) -> int:
    """Compute capability of x's device: 80, 90, 100; 0 on the CPU, where Triton's interpreter runs kernels."""
    return 0 if x.device.type == "cpu" else _capability(x.device)


@functools.cache
def _capability(device: torch.device) -> int:
    major, minor = torch.cuda.get_device_capability(device)
    return 10 * major + minor


def shared_memory(x: torch.Tensor) -> int:
    """Bytes of shared memory that a block may have on x's device; 0 on the CPU, where tiles are small."""
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
    """How tl.dot multiplies: float32 stays float32 (not TF32), so that a kernel decides as its reference does."""
    return "ieee" if x.dtype == torch.float32 else "tf32"


def cdiv(a: int, b: int) -> int:
    """a / b, rounded up."""
    return -(-a // b)


def power_of_two(n: int) -> int:
    """The smallest power of two that is at least n."""
    return 1 << max(n - 1, 0).bit_length()


def whole_power(n: int) -> int:
    """The largest power of two that is at most n, 1 at least: constants of kernels, of which there are to be few."""
    return 1 << max(n, 1).bit_length() - 1
