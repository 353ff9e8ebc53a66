"""Fixes of Triton's interpreter, so that kernels compute in it what they compute on a GPU.

The interpreter stores bfloat16 and FP8 as raw bits. Its tl.dot multiplies the bits of bfloat16, and its rounding loses
carries; both are replaced. It also patches triton.language again for every call of a device function, which takes
longer than most of them run: here it is patched once.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
import triton.language as tl
from triton.runtime import interpreter

TORCH = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16, "fp8e4nv": torch.float8_e4m3fn}
RAW = {1: np.uint8, 2: np.uint16, 4: np.uint32}
_create_dot = interpreter.InterpreterBuilder.create_dot


def _convert_float(values: np.ndarray, source: tl.dtype, target: tl.dtype, rounding: object) -> np.ndarray:
    """Convert with rounding to nearest, ties to even, as hardware does."""
    raw = torch.from_numpy(np.ascontiguousarray(values).view(np.uint8).copy())
    rounded = raw.view(TORCH[source.name]).to(TORCH[target.name])
    width = rounded.element_size()
    return rounded.view(torch.uint8).numpy().view(RAW[width]).reshape(values.shape)


def _wide(handle: interpreter.TensorHandle) -> interpreter.TensorHandle:
    if handle.dtype.scalar != tl.bfloat16:
        return handle
    return interpreter.TensorHandle((handle.data.astype(np.uint32) << 16).view(np.float32), tl.float32)


def _dot(self: object, a: interpreter.TensorHandle, b: interpreter.TensorHandle, *rest: Any) -> object:
    return _create_dot(self, _wide(a), _wide(b), *rest)


@functools.cache
def _patch_core() -> None:
    """Patch triton.language.core once, which the library's own functions use; the interpreter never reverts it."""
    interpreter._patch_lang(interpreter.tl.standard.zeros.fn)


def _call(self: interpreter.InterpretedFunction, *args: Any, **named: Any) -> Any:
    """Call a device function within a launch, which has patched triton.language already."""
    _patch_core()
    return self.rewrite()(*args, **named)


def fix() -> None:
    """Fix casts and tl.dot for bfloat16 and FP8, and make calls of device functions fast."""
    interpreter.InterpretedFunction.__call__ = _call
    interpreter._convert_float = _convert_float
    interpreter.InterpreterBuilder.create_dot = _dot
