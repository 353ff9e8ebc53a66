"""Every kernel compiles at the release's sizes for GPUs that are not there, within their memory and without spills."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("triton", reason="no triton on this system")

ROOT = Path(__file__).parents[2]
# Bytes of shared memory that one block may have: CUDA C++ Programming Guide, technical specifications.
SHARED = {80: 163 * 1024, 90: 227 * 1024, 100: 227 * 1024}
FP8_ONLY = {"_quantize_kernel", "_linear_kernel"}


@pytest.fixture(scope="module")
def compilers() -> Iterator[dict[int, subprocess.Popen[str]]]:
    """One process a target, all at once; what they made is kept in .cache/triton and found again."""
    env = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    env |= {"TRITON_CACHE_DIR": str(ROOT / ".cache/triton"), "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    running = {
        target: subprocess.Popen(
            [sys.executable, "-m", "tests.kernels.compiled", str(target)],
            cwd=ROOT,
            env=env,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for target in SHARED
    }
    yield running
    for process in running.values():
        process.kill()
        process.communicate()


def kernels() -> set[str]:
    """Names of all kernels that are launched, read from the sources."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in (ROOT / "kernels").glob("*.py")]
    functions = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    return {one.name for one in functions if one.decorator_list and one.name.endswith("_kernel")}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("target", SHARED)
def test_kernels_compile_without_spills(target: int, compilers: dict[int, subprocess.Popen[str]]) -> None:
    out, errors = compilers[target].communicate(timeout=580)
    assert compilers[target].returncode == 0, errors[-4000:]
    rows: list[dict[str, Any]] = [json.loads(line) for line in out.splitlines()]
    assert {row["kernel"] for row in rows} == kernels() - (FP8_ONLY if target < 89 else set())
    assert [row for row in rows if row["shared"] > SHARED[target]] == []
    assert [row for row in rows if row["stack"] or row["local"]] == []
