"""`benchmarks/repairs.py` runs, and counts what it has tried."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_it_prints_what_repairs_came_to() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.repairs", "--count", "3"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    found = json.loads(done.stdout)
    assert found["count"] == 3
    assert found["right"] <= found["shown"] <= found["passes"] <= 3
    assert found["true"] <= found["passes"]
    assert 0 < found["ms"]["p50"] <= found["ms"]["p90"]
