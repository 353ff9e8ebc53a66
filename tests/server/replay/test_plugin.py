"""The fixture of pytest: the example of docs/replay.md passes, and pytest starts without the server's modules."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.test_dependencies import PROJECT
from tests.test_floors import ROOT

PLUGIN = "midspan.server.replay.plugin"


def test_pytest_finds_the_plugin_where_midspan_is_installed() -> None:
    # By the module's name: who names it by -p as well has it once.
    assert PROJECT["entry-points"]["pytest11"] == {PLUGIN: PLUGIN}


def test_the_example_of_the_documentation_passes(tmp_path: Path) -> None:
    page = (ROOT / "docs/replay.md").read_text(encoding="utf-8")
    [example] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(example.splitlines()) <= 20
    (tmp_path / "test_example.py").write_text(example)
    done = pytest_run(tmp_path, "test_example.py")
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_pytest_starts_without_what_types(tmp_path: Path) -> None:
    (tmp_path / "test_light.py").write_text(
        "import sys\n\n"
        "def test_light(midspan_replay):\n"
        "    assert {'torch', 'pygls', 'lsprotocol', 'rich', 'tree_sitter'}.isdisjoint(sys.modules)\n"
    )
    done = pytest_run(tmp_path, "test_light.py")
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def pytest_run(folder: Path, file: str) -> subprocess.CompletedProcess[str]:
    """pytest with the plugin, as where midspan is installed, and none of those of these tests."""
    alone = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-m", "pytest", "-p", PLUGIN, "-p", "no:cacheprovider", file]
    return subprocess.run(command, cwd=folder, env=alone, capture_output=True, text=True, timeout=60, check=False)
