"""`midspan bench kernels`: times every kernel on this GPU whose result equals its reference's."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import midspan
from midspan.engine import kernel_rows


def kernels_command(arguments: argparse.Namespace) -> int:
    """Print a row an op as it is measured; 1 when one was wrong. Raises DeviceError where there is no GPU."""
    return report(kernel_rows(arguments.device), as_json=arguments.json)


def report(rows: Iterable[dict[str, Any]], *, as_json: bool) -> int:
    """Print rows as JSON lines or for a person; wrong ones go to stderr too, and make it 1."""
    wrong, where = 0, revision()
    for row in rows:
        print(json.dumps(row | {"commit": where}) if as_json else as_text(row), flush=True)
        if "error" in row:
            wrong += 1
            print(f"midspan: {row['op']} {row['error']}; run its test in tests/kernels here", file=sys.stderr)
    return 1 if wrong else 0


def as_text(row: dict[str, Any]) -> str:
    """One line."""
    name = f"{row['op']:18} {row['shape']}"
    if "error" in row:
        return f"{name}: {row['error']}"
    part = row["share_of_roofline"]
    reached = "GPU of unknown rates" if part is None else f"{part:.0%} of the roofline"
    return f"{name}: {row['p50_ms']:.4f} ms ({row['p20_ms']:.4f} to {row['p80_ms']:.4f}), {reached}"


def revision() -> str:
    """The commit of a checkout, else the version."""
    folder = Path(__file__).resolve().parent
    asked = ["git", "-C", str(folder), "rev-parse", "--short", "HEAD"]
    try:
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return midspan.__version__
