"""Neovim for the editor tests."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

FETCHED = Path(__file__).parents[2] / ".cache" / "nvim" / "nvim"


@pytest.fixture(scope="session")
def nvim() -> str:
    """The command of a Neovim that has inline completion."""
    command = str(FETCHED) if FETCHED.exists() else shutil.which("nvim")
    if command is None:
        pytest.fail("no Neovim: run make nvim, or put Neovim 0.12 or newer on PATH", pytrace=False)
    asked = [command, "--clean", "--headless", '+lua os.exit(vim.fn.has("nvim-0.12"))']
    if subprocess.run(asked, capture_output=True, timeout=30, check=False).returncode != 1:
        pytest.fail(f"{command} is older than 0.12 or does not start: run make nvim", pytrace=False)
    return command
