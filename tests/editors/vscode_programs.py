"""Node and the VS Code that the tests of tests/editors/vscode drive, in homes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests" / "editors" / "vscode"
CACHE = ROOT / ".cache" / "vscode"
NODE = CACHE / "node" / "bin" / "node"
ENTRY = CACHE / "server" / "node_modules" / "code-server" / "out" / "node" / "entry.js"
VSIX = ROOT / "editors" / "vscode" / "midspan.vsix"


def run(arguments: list[str], scratch: Path, seconds: int, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs Node with homes below `scratch`. Raises TimeoutExpired."""
    homes = {f"XDG_{kind}_HOME": str(scratch / kind) for kind in ("CONFIG", "DATA", "STATE", "CACHE")}
    # Where packages come from is this user's own setting, which a new home would hide.
    pip = {"PIP_CONFIG_FILE": str(file)} if (file := Path.home() / ".config/pip/pip.conf").exists() else {}
    return subprocess.run(
        [str(NODE), *arguments],
        env=pip | os.environ | homes | variables,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


def installed(scratch: Path) -> Path:
    """A folder below `scratch` in which VS Code has installed the packaged extension."""
    missing = [path for path in (NODE, ENTRY, VSIX) if not path.exists()]
    if missing:
        pytest.fail(f"{missing[0]} is not there: run make test-editors", pytrace=False)
    folders = ["--extensions-dir", str(scratch / "extensions"), "--user-data-dir", str(scratch / "data")]
    ended = run([str(ENTRY), *folders, "--install-extension", str(VSIX)], scratch, 110)
    assert "was successfully installed" in ended.stdout, ended.stdout + ended.stderr
    return scratch / "extensions"


def drive(file: Path, extensions: Path, scratch: Path) -> None:
    """Runs one file of tests on VS Code, and fails with what it printed."""
    variables = {
        "MIDSPAN_EXTENSIONS": str(extensions),
        "MIDSPAN_PYTHON": sys.executable,
        "MIDSPAN_BASE_PYTHON": str(Path(sys.executable).resolve()),
    }
    ended = run(["--test", "--test-reporter", "spec", str(file)], scratch, 890, **variables)
    sys.stdout.write(ended.stdout)
    assert ended.returncode == 0, ended.stdout + ended.stderr
