"""Kernels run in Triton's interpreter on the CPU, or on the GPU with TRITON_INTERPRET=0; outputs start as NaN."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch

from midspan.kernels.launch import INSTALLED, triton

if not INSTALLED:
    pass  # compare.py skips every file here, and says how to mend it.
elif triton.knobs.runtime.interpret:
    from tests.kernels import interpreter

    interpreter.mend()
elif not torch.cuda.is_available():
    raise RuntimeError("kernel tests need a GPU with TRITON_INTERPRET=0; leave it out to run them in the interpreter")


@pytest.fixture(autouse=True)
def poisoned() -> Iterator[None]:
    """torch.empty returns NaN (the largest value for integers), so that what a kernel leaves unwritten shows."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(before)
