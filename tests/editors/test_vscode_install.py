"""The set-up that the packaged extension offers where there is a Python and no midspan, in a real VS Code."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.editors.vscode_programs import TESTS, drive, installed

pytestmark = pytest.mark.vscode


@pytest.mark.timeout(900)
def test_a_set_up_from_the_package_alone_ends_with_ghost_text(tmp_path: Path) -> None:
    scratch = tmp_path / "vscode"
    drive(TESTS / "install.test.mjs", installed(scratch), tmp_path)
