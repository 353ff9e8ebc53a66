"""Loads every checkpoint folder in ROOT and, if it loads, fills a gap: `hostile_loads.py ROOT`.

Prints one JSON object per folder: `{"name", "kind", "said"}` with the exception's class and message, or with "filled".
The process may use MORE bytes beyond its memory after a first load, and CPU_S seconds of the CPU for each folder.
"""

from __future__ import annotations

import json
import logging
import resource
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from midspan.engine.api import Budget, Hole
from midspan.engine.engine import load_infiller
from midspan.engine.hypotheses.task import PATIENT

MORE, CPU_S = 1_000_000_000, 5.0
HOLE = Hole(prefix="def add(a, b):\n    retu", suffix="\n\n\nprint(add(1, 2))\n")


def bind_memory() -> None:
    """Let the process have MORE address space than it has now."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + MORE
    resource.setrlimit(resource.RLIMIT_AS, (most, resource.getrlimit(resource.RLIMIT_AS)[1]))


def fill(folder: Path) -> str:
    """Load a folder and fill a gap. Returns how the fill ended."""
    infiller = load_infiller(str(folder), "cpu")
    return infiller.infill(HOLE, Budget(seed=1), PATIENT).stopped


def main(root: Path) -> None:
    """Try each folder and print the outcome. SIGPROF ends the process if a folder takes too long."""
    logging.disable()
    fill(root / "control")
    bind_memory()
    with ThreadPoolExecutor(1) as thread:
        for folder in sorted(root.iterdir()):
            signal.setitimer(signal.ITIMER_PROF, CPU_S)
            done = thread.submit(fill, folder)
            error = done.exception()
            kind, said = ("filled", done.result()) if error is None else (type(error).__name__, str(error))
            sys.stdout.write(json.dumps({"name": folder.name, "kind": kind, "said": said}) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
