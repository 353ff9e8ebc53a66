"""Compiles every kernel for a given compute capability, without a GPU: `python -m tests.kernels.compiled 90`.

Launchers run on meta tensors at the release's sizes, so that the variants that they would launch are compiled. Prints
JSON lines. TRITON_INTERPRET must not be set.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction

from tests.kernels import launches

TYPES = {
    torch.float32: "*fp32",
    torch.bfloat16: "*bf16",
    torch.float8_e4m3fn: "*fp8e4nv",
    torch.int32: "*i32",
    torch.int64: "*i64",
    torch.uint8: "*u8",
    torch.bool: "*i1",
}
OPTIONS = ("num_warps", "num_stages")
TOOL = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"


def source(kernel: JITFunction[Any], args: tuple[object, ...], named: dict[str, object]) -> ASTSource:
    """The source as triton.jit specialises it for these arguments: types, constants, divisibility by 16."""
    values = dict(zip(kernel.arg_names, args, strict=False)) | named
    signature, constants, attributes = {}, {}, {}
    for position, name in enumerate(kernel.arg_names):
        value = values[name]
        if kernel.params[position].is_constexpr or value is None or (isinstance(value, int) and value == 1):
            signature[name], constants[name] = "constexpr", value
            continue
        if isinstance(value, torch.Tensor):
            signature[name], divisible = TYPES[value.dtype], value.storage_offset() % 16 == 0
        elif isinstance(value, int):
            signature[name], divisible = "i32" if value < 2**31 else "i64", value % 16 == 0
        else:
            signature[name], divisible = "fp32", False
        if divisible:
            attributes[position,] = [["tt.divisibility", 16]]
    return ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=attributes)


def resources(cubin: bytes) -> dict[str, int]:
    """Registers per thread, and bytes of stack and local memory, which registers spill to."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        text = subprocess.run([TOOL, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    return {name.lower(): int(re.findall(rf"{name}:(\d+)", text)[-1]) for name in ("REG", "STACK", "LOCAL")}


def compiling(target: GPUTarget, report: Callable[[dict[str, object]], None]) -> Callable[..., None]:
    """A replacement of JITFunction.run that compiles each variant once instead of launching it."""
    seen: set[str] = set()

    def run(self: JITFunction[Any], *args: object, grid: object, warmup: bool, **named: object) -> None:
        options = {name: named.pop(name) for name in OPTIONS if name in named}
        asked = source(self, args, named)
        variant = f"{self.__name__} {asked.signature} {asked.constants} {options}"
        if variant in seen:
            return
        seen.add(variant)
        made = triton.compile(asked, target=target, options=options)
        cut = {name: value for name, value in named.items() if name.startswith("BLOCK_")} | options
        report({"kernel": self.__name__, "cut": cut, "shared": made.metadata.shared, **resources(made.asm["cubin"])})

    return run


def main(capability: int) -> None:
    """Compile all launches for one compute capability."""
    torch.cuda.get_device_capability = lambda device=None: divmod(capability, 10)
    properties = SimpleNamespace(multi_processor_count=132, shared_memory_per_block_optin=launches.SHARED[capability])
    torch.cuda.get_device_properties = lambda device=None: properties  # type: ignore[assignment,return-value]
    at: list[str] = []

    def report(row: dict[str, object]) -> None:
        sys.stdout.write(json.dumps({"launch": at[-1], **row}) + "\n")

    JITFunction.run = compiling(GPUTarget("cuda", capability, 32), report)
    for name, launch in launches.of_target(capability).items():
        at.append(name)
        launch()


if __name__ == "__main__":
    main(int(sys.argv[1]))
