"""The spin count of torch's threads is set before torch is imported, and a user's own setting is kept."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from midspan.engine.backends.process import SPIN

ROOT = Path(__file__).parents[3]
PROGRAM = """
import os, sys
import midspan.engine

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            print(os.environ.get("GOMP_SPINCOUNT"))
            sys.exit()

sys.meta_path.insert(0, Watch())
midspan.engine.load()
"""


@pytest.mark.parametrize(
    ("given", "found"),
    [({}, SPIN), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "passive"}, "None")],
)
def test_the_spin_count_is_set_before_torch_is_imported(given: dict[str, str], found: str) -> None:
    own = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, env=own | given, cwd=ROOT / "src", capture_output=True, text=True, timeout=60)
    assert (done.stdout.strip(), done.stderr) == (found, "")
