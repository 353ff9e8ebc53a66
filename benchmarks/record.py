"""Runs a benchmark and adds its JSON object, with command, commit and machine, to `rows.jsonl` beside this file.

`.venv/bin/python benchmarks/record.py quality --tasks FILE.jsonl` runs `midspan bench quality ... --json`;
`record.py versus_transformers.py ...` runs the script of that name beside this file. Every figure in a document is such
a row; `tables.py` writes the tables.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def output(*command: str) -> str:
    """A command's standard output; its standard error is shown. Benchmarks that tests import name their folder."""
    folders = filter(None, (str(HERE.parent), os.environ.get("PYTHONPATH")))
    variables = os.environ | {"PYTHONPATH": os.pathsep.join(folders)}
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=variables).stdout.strip()


def machine() -> str:
    """Processor, cores, system and Python version."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    name = next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor()
    )
    return f"{name}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"


def benchmark(argv: list[str]) -> tuple[list[str], str]:
    """The command to run, and its name in the row, where files are named without this machine's folders."""
    name = " ".join(Path(word).name if "/" in word else word for word in argv)
    if argv[0].endswith(".py"):
        return [sys.executable, str(HERE / argv[0]), *argv[1:]], name
    return [sys.executable, "-m", "midspan.server", "bench", *argv, "--json"], f"midspan bench {name}"


def as_row(name: str, commit: str, found: dict[str, Any]) -> dict[str, Any]:
    """The row of a benchmark's JSON object; a checkpoint is named by the last part of its path."""
    named = {"checkpoint": Path(found["checkpoint"]).name}
    return {"command": name, "commit": commit, "machine": machine(), **found, **named}


def main(argv: list[str]) -> int:
    """Run, print and record."""
    changed = output("git", "status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs")
    commit = output("git", "rev-parse", "--short", "HEAD") + ("+changes" if changed else "")
    command, name = benchmark(argv)
    row = as_row(name, commit, json.loads(output(*command).splitlines()[-1]))
    with (HERE / "rows.jsonl").open("a", encoding="utf-8") as rows:
        rows.write(json.dumps(row) + "\n")
    sys.stdout.write(json.dumps(row, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
