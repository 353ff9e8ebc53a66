"""Every kernel compiles for several compute capabilities, with all tiles of its table, without register spills."""

from __future__ import annotations

import ast
import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from midspan.kernels import attention, experts, experts_4bit, linear, vocabulary
from tests.kernels.launches import BY_SHARED_MEMORY, SHARED

pytest.importorskip("triton", reason="no triton on this system")
pytestmark = pytest.mark.gpu_kernels

ROOT = Path(__file__).parents[2]
FP8_ONLY = {"_quantize_kernel", "_linear_kernel"}
Rows = list[dict[str, Any]]
# By kernel: its table of tiles, and the launch arguments that each field of a row becomes.
WARPS = {"num_warps": "warps", "num_stages": "stages"}
TABLES: dict[str, tuple[dict[Any, Any], dict[str, str]]] = {
    "_attention_kernel": (attention.CONFIGS, {"BLOCK_M": "block_m", "BLOCK_N": "block_n", **WARPS}),
    "_head_kernel": (vocabulary.CONFIGS, {"BLOCK_R": "block_r", "BLOCK_V": "block_v", "BLOCK_K": "block_k", **WARPS}),
    "_soft_kernel": (vocabulary.CONFIGS, {"BLOCK_R": "block_r", "BLOCK_D": "block_v", "BLOCK_K": "block_k", **WARPS}),
    "_gate_up_kernel": (experts.CONFIGS, {"BLOCK_N": "gate_up_n", "BLOCK_K": "gate_up_k", **WARPS}),
    "_down_kernel": (experts.CONFIGS, {"BLOCK_N": "down_n", "BLOCK_K": "down_k", **WARPS}),
    "_gate_up_4bit_kernel": (experts_4bit.CONFIGS, {"BLOCK_N": "gate_up_n", "BLOCK_K": "gate_up_k", **WARPS}),
    "_down_4bit_kernel": (experts_4bit.CONFIGS, {"BLOCK_N": "down_n", "BLOCK_K": "down_k", **WARPS}),
    "_linear_kernel": (linear.CONFIGS, {"BLOCK_M": "block_m", "BLOCK_N": "block_n", "BLOCK_K": "block_k", **WARPS}),
}


# The oldest instructions, those of the published figures, and the least memory with FP8: together every row of tables.
ENOUGH = (80, 90, 120)


def compiler(target: int) -> subprocess.Popen[str]:
    """Start compiling for a target at low priority; results are cached in .cache/triton."""
    env = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    env |= {"TRITON_CACHE_DIR": str(ROOT / ".cache/triton"), "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    command = ["nice", sys.executable, "-m", "tests.kernels.compiled", str(target)]
    return subprocess.Popen(command, cwd=ROOT, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.fixture(scope="module")
def compilers(request: pytest.FixtureRequest) -> Iterator[dict[int, subprocess.Popen[str]]]:
    """A process for each target that the selected tests need, all started at once."""
    here = [item for item in request.session.items if item.path == request.path]
    asked = {item.callspec.params["target"] for item in here if hasattr(item, "callspec")}
    running = {target: compiler(target) for target in sorted(asked)}
    yield running
    for process in running.values():
        process.kill()
        process.communicate()


def kernels() -> set[str]:
    """Names of all kernels in the sources."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in (ROOT / "kernels").glob("*.py")]
    functions = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    return {one.name for one in functions if one.decorator_list and one.name.endswith("_kernel")}


@pytest.fixture(scope="module")
def compiled(compilers: dict[int, subprocess.Popen[str]]) -> Callable[[int], Rows]:
    """Gives the compiled kernels of a target once its process has ended."""

    @functools.cache
    def rows(target: int) -> Rows:
        if target not in compilers:
            compilers[target] = compiler(target)
        out, errors = compilers[target].communicate(timeout=580)
        assert compilers[target].returncode == 0, errors[-4000:]
        return [json.loads(line) for line in out.splitlines()]

    return rows


@pytest.mark.timeout(600)
@pytest.mark.parametrize("target", SHARED)
def test_kernels_compile_without_spills(target: int, compiled: Callable[[int], Rows]) -> None:
    rows = compiled(target)
    if target == 86:
        assert {row["launch"] for row in rows} == BY_SHARED_MEMORY
    else:
        assert {row["kernel"] for row in rows} == kernels() - (FP8_ONLY if target < 89 else set())
    assert [described(row) for row in rows if row["shared"] > SHARED[target]] == []
    assert [described(row) for row in rows if row["stack"] or row["local"]] == []


def described(row: dict[str, Any]) -> str:
    """A kernel and the resources that it needs, for a failure's message."""
    needs = f"{row['reg']} registers, {row['stack']} + {row['local']} bytes spilt, {row['shared']} shared"
    return f"{row['launch']}: {row['kernel']} {row['cut']}: {needs}"


@pytest.mark.timeout(600)
def test_every_row_of_every_table_is_compiled(compiled: Callable[[int], Rows]) -> None:
    """Except for the last row of each table, which is for the CPU."""
    seen = {(row["kernel"], *sorted(row["cut"].items())) for target in ENOUGH for row in compiled(target)}
    for kernel, (table, fields) in TABLES.items():
        for config in list(table.values())[:-1]:
            cut = {name: getattr(config, field) for name, field in fields.items()}
            assert any(one[0] == kernel and cut.items() <= dict(one[1:]).items() for one in seen), (kernel, config)
