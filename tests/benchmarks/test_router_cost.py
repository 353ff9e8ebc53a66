"""`benchmarks/router_cost.py` runs, and prints what the router adds with one engine and with three."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "router_cost.py"


def test_it_prints_what_is_added() -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT, "--requests", "200"], capture_output=True, text=True, timeout=100, check=True
    )
    found = json.loads(done.stdout)
    assert found["requests"] == 200
    # A request takes microseconds; a machine that is busy is not measured here.
    assert 0 < found["three_engines_ms"]["p50"] < 20
    assert found["one_engine_ms"]["p50"] < found["three_engines_ms"]["p50"]
