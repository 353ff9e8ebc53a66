"""Fixes of Triton's interpreter, so that kernels compute in it what they compute on a GPU, and sooner.

The interpreter stores bfloat16 and FP8 as raw bits. Its tl.dot multiplies the bits of bfloat16, and its rounding loses
carries; both are replaced. It also does again, for every operation or call, what takes longer than the arithmetic:

- It patches triton.language for every launch and every call of a device function. Here it is patched once.
- It makes a type, and a tuple of a tensor's shape, for every result, and broadcasts operands of one shape. Here each is
  made once for each element and shape, and such operands are left as they are.
- It computes every sum of integers again to see whether it overflowed, and does not look, as it is not in debug mode.
  Here it does not compute that.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import triton.language as tl
from triton.language.semantic import TritonSemantic
from triton.runtime import interpreter

TORCH = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16, "fp8e4nv": torch.float8_e4m3fn}
RAW = {1: np.uint8, 2: np.uint16, 4: np.uint32}
_create_dot = interpreter.InterpreterBuilder.create_dot
_np_dtype = interpreter._get_np_dtype
_patch_lang = interpreter._patch_lang
_broadcast = TritonSemantic.broadcast_impl_value
_patched: set[str] = set()
_np_dtypes: dict[str, np.dtype[Any]] = {}
_types: dict[tuple[object, ...], tl.block_type] = {}


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


class _Kept:
    """Patches of triton.language that stay."""

    def restore(self) -> None:
        """Nothing is put back, as nothing but the interpreter uses it here."""


def _patch_once(fn: Callable[..., object]) -> _Kept:
    """Patch triton.language for the functions of a module, unless that is done, and its core for the library's own."""
    for one in (interpreter.tl.standard.zeros.fn, fn):
        if one.__module__ not in _patched:
            _patched.add(one.__module__)
            _patch_lang(one)
    return _Kept()


def _call(self: interpreter.InterpretedFunction, *args: Any, **named: Any) -> Any:
    """Call a device function within a launch, which has patched triton.language already."""
    return self.rewrite()(*args, **named)


def _get_np_dtype(dtype: tl.dtype) -> np.dtype[Any]:
    """The numpy type that holds a type's values; the interpreter makes a dictionary of all of them to look it up."""
    if dtype.name not in _np_dtypes:
        _np_dtypes[dtype.name] = _np_dtype(dtype)
    return _np_dtypes[dtype.name]


def _with_element_ty(self: tl.block_type, element: tl.dtype) -> tl.block_type:
    """The type of a tensor of another element and the same shape."""
    return _get_block_ty(None, element, self.shape)


def _get_block_ty(self: object, element: tl.dtype, shape: tuple[int, ...]) -> tl.block_type:
    """The type of a tensor; a pointer's name does not say where it points to."""
    where = (element.address_space, element.const) if element.is_ptr() else ()
    key = (element.name, *where, *shape)
    if key not in _types:
        _types[key] = tl.block_type(element, shape)
    return _types[key]


def _new_tensor(self: tl.tensor, handle: interpreter.TensorHandle, type: tl.dtype) -> None:
    """A tensor as in tl.tensor.__init__; its shape and size are kept with its type."""
    self.handle, self.type, self.dtype = handle, type, type.scalar
    kept = type.__dict__.get("kept")
    if kept is None:
        shape = type.shape if type.is_block() else ()
        kept = type.kept = (tl.tuple([tl.constexpr(size) for size in shape]), tl.constexpr(math.prod(shape)))
    self.shape, self.numel = kept


def _same_shape(self: object, left: tl.tensor, right: tl.tensor) -> tuple[tl.tensor, tl.tensor]:
    """Both operands in one shape; most have it already."""
    if left.type.is_block() and right.type.is_block() and list(left.type.shape) == list(right.type.shape):
        return left, right
    both: tuple[tl.tensor, tl.tensor] = _broadcast(self, left, right)
    return both


def fix() -> None:
    """Fix casts and tl.dot for bfloat16 and FP8, and make operations and calls of device functions fast."""
    interpreter._patch_lang = _patch_once
    interpreter.InterpretedFunction.__call__ = _call
    interpreter._convert_float = _convert_float
    interpreter.InterpreterBuilder.create_dot = _dot
    interpreter._get_np_dtype = _get_np_dtype
    interpreter.InterpreterBuilder.get_block_ty = _get_block_ty
    TritonSemantic.broadcast_impl_value = _same_shape
    tl.block_type.with_element_ty = _with_element_ty
    tl.tensor.__init__ = _new_tensor
    builder = interpreter.interpreter_builder
    builder.options = dataclasses.replace(builder.options, sanitize_overflow=False)
