"""Runs the tests in tests/editors/vscode with Node, on a real VS Code that has the packaged extension.

Those in units/ need no VS Code: they run the extension's source files beside real programs.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.editors.vscode_programs import NODE, TESTS, drive, installed, run

pytestmark = pytest.mark.vscode
# The set-up has a file of its own, so that another process runs it.
FILES = sorted(file for file in TESTS.glob("*.test.mjs") if file.name != "install.test.mjs")


@pytest.fixture(scope="module")
def extensions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return installed(tmp_path_factory.mktemp("vscode"))


@pytest.mark.timeout(900)
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name.partition(".")[0])
def test_vscode(extensions: Path, tmp_path: Path, file: Path) -> None:
    drive(file, extensions, tmp_path)


@pytest.mark.parametrize(
    "file", sorted((TESTS / "units").glob("*.test.mjs")), ids=lambda file: file.name.partition(".")[0]
)
def test_vscode_units(tmp_path: Path, file: Path) -> None:
    if not NODE.exists():
        pytest.fail(f"{NODE} is not there: run make test-editors", pytrace=False)
    typescript = ["--experimental-transform-types", "--no-warnings", "--import", str(TESTS / "units" / "hooks.mjs")]
    ended = run([*typescript, "--test", "--test-reporter", "spec", str(file)], tmp_path, 110)
    assert ended.returncode == 0, ended.stdout + ended.stderr
