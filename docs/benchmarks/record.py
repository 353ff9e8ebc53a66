"""Runs `midspan bench ... --json` and adds its object, with commit and machine, to `rows.jsonl` beside this file.

`.venv/bin/python docs/benchmarks/record.py quality --tasks FILE.jsonl`; every figure in the README is such a row.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any


def output(*command: str) -> str:
    """A command's standard output; its errors are shown."""
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def machine() -> str:
    """The processor and how many of it there are."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    name = next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor()
    )
    return f"{name}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"


def main(argv: list[str]) -> int:
    """Run, print and record."""
    changed = output("git", "status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs")
    commit = output("git", "rev-parse", "--short", "HEAD") + ("+changes" if changed else "")
    found = output(sys.executable, "-m", "midspan.server", "bench", *argv, "--json").splitlines()[-1]
    row: dict[str, Any] = {
        "command": "midspan bench " + " ".join(Path(word).name if "/" in word else word for word in argv),
        "commit": commit,
        "machine": machine(),
        **json.loads(found),
    }
    with (Path(__file__).parent / "rows.jsonl").open("a", encoding="utf-8") as rows:
        rows.write(json.dumps(row) + "\n")
    sys.stdout.write(json.dumps(row, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
