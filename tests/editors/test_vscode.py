"""Runs the tests in tests/editors/vscode with Node, on a real VS Code that has the packaged extension.

Those in units/ need no VS Code: they run the extension's source files beside real programs.
"""

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

pytestmark = pytest.mark.vscode


def run(arguments: list[str], scratch: Path, seconds: int, **variables: str) -> subprocess.CompletedProcess[str]:
    homes = {f"XDG_{kind}_HOME": str(scratch / kind) for kind in ("CONFIG", "DATA", "STATE", "CACHE")}
    return subprocess.run(
        [str(NODE), *arguments],
        env=os.environ | homes | variables,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


@pytest.fixture(scope="session")
def extensions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which VS Code has installed the packaged extension."""
    missing = [path for path in (NODE, ENTRY, VSIX) if not path.exists()]
    if missing:
        pytest.fail(f"{missing[0]} is not there: run make test-editors", pytrace=False)
    scratch = tmp_path_factory.mktemp("vscode")
    folders = ["--extensions-dir", str(scratch / "extensions"), "--user-data-dir", str(scratch / "data")]
    installed = run([str(ENTRY), *folders, "--install-extension", str(VSIX)], scratch, 110)
    assert "was successfully installed" in installed.stdout, installed.stdout + installed.stderr
    return scratch / "extensions"


@pytest.mark.timeout(900)
@pytest.mark.parametrize("file", sorted(TESTS.glob("*.test.mjs")), ids=lambda file: file.name.partition(".")[0])
def test_vscode(extensions: Path, tmp_path: Path, file: Path) -> None:
    variables = {
        "MIDSPAN_EXTENSIONS": str(extensions),
        "MIDSPAN_PYTHON": sys.executable,
        "MIDSPAN_BASE_PYTHON": str(Path(sys.executable).resolve()),
    }
    ended = run(["--test", "--test-reporter", "spec", str(file)], tmp_path, 890, **variables)
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.parametrize(
    "file", sorted((TESTS / "units").glob("*.test.mjs")), ids=lambda file: file.name.partition(".")[0]
)
def test_vscode_units(tmp_path: Path, file: Path) -> None:
    if not NODE.exists():
        pytest.fail(f"{NODE} is not there: run make test-editors", pytrace=False)
    typescript = ["--experimental-transform-types", "--no-warnings", "--import", str(TESTS / "units" / "hooks.mjs")]
    ended = run([*typescript, "--test", "--test-reporter", "spec", str(file)], tmp_path, 110)
    assert ended.returncode == 0, ended.stdout + ended.stderr
