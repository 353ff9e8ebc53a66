"""Kernels run in Triton's interpreter on the CPU, or on the GPU with TRITON_INTERPRET=0; outputs start as NaN."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator

import pytest
import torch

from midspan.kernels.launch import INSTALLED, triton

if not INSTALLED:
    pass  # compare.py skips every file here, and says how to fix it.
elif triton.knobs.runtime.interpret:
    from tests.kernels import interpreter

    interpreter.fix()
elif not torch.cuda.is_available():
    raise RuntimeError("kernel tests need a GPU with TRITON_INTERPRET=0; leave it out to run them in the interpreter")


@pytest.fixture(autouse=True)
def poisoned() -> Iterator[None]:
    """torch.empty returns NaN (the largest value for integers), so that what a kernel leaves unwritten shows."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled()
    # On a GPU some references have no deterministic sum (cumsum of floats): a warning must do there.
    torch.use_deterministic_algorithms(True, warn_only=torch.cuda.is_available())
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not have a deterministic implementation")
        yield
    torch.use_deterministic_algorithms(before)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what this machine could not check, so that a green run does not seem to cover it."""
    from tests.kernels.test_program import EMULATED

    if not EMULATED:
        terminalreporter.write_line("not checked here: the kernels for 64-bit ARM; see `make arm64`", yellow=True)
