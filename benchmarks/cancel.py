"""Times how soon an engine is idle again after a fill is stopped: `benchmarks/cancel.py [CHECKPOINT] [--cancels N]`.

Fills start at random places of Python's standard library, each in another file, so that the prompt is read anew, and
are stopped at a random moment of the time that such a fill takes. A time runs from the stop to the moment when the
engine's worker has given the request up and may begin another one. Fills that ended by themselves before are left out.
The last line is a JSON row, which `record.py cancel.py ...` adds to `rows.jsonl`.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import sysconfig
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

from midspan.engine.api import Budget, CheckpointError, DeviceError, Engine, Fill, Hole
from midspan.engine.engine import Engine as Local
from midspan.server.statistics import quantile

BUDGET = Budget(deadline_s=60.0)


def places(rng: random.Random) -> Iterator[Hole]:
    """Ends of lines, each of another file, without end."""
    files = [file for file in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")) if file.stat().st_size > 4000]
    while True:
        for file in rng.sample(files, len(files)):
            text = file.read_text(encoding="utf-8")
            at = text.find("\n", rng.randrange(len(text) // 4, len(text) // 2))
            cut = max(text.rfind("\n", 0, at) + 1, at - 12)
            yield Hole(prefix=text[:cut], suffix=text[at:])


def stopped_after(engine: Engine, hole: Hole, wait_s: float) -> float | None:
    """Seconds from the stop to an idle worker; None for a fill that ended before."""
    stop, idle = threading.Event(), threading.Event()
    ended: list[float] = []

    def note(_: Future[Fill]) -> None:
        ended.append(time.perf_counter())
        idle.set()

    filling = engine.fill(hole, BUDGET, stop=stop)
    filling.add_done_callback(note)
    idle.wait(wait_s)
    asked = time.perf_counter()
    stop.set()
    idle.wait()
    return ended[0] - asked if filling.result().stopped == "cancelled" else None


def main() -> int:
    """Read the command line, fill and stop, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", nargs="?", default="embedded")
    parser.add_argument("--cancels", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    found = parser.parse_args()
    try:
        engine = Local.load(found.checkpoint, "cpu")
    except (CheckpointError, DeviceError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    rng = random.Random(found.seed)
    holes = places(rng)
    whole = statistics.median(engine.fill(next(holes), BUDGET).result().latency.total for _ in range(5))
    times, tried = list[float](), 0
    while len(times) < found.cancels:
        tried += 1
        seconds = stopped_after(engine, next(holes), rng.random() * whole / 1000)
        if seconds is not None:
            times.append(1000 * seconds)
    engine.close()
    of = {f"p{percent}": round(quantile(times, percent / 100), 2) for percent in (50, 95, 99)}
    row = {"checkpoint": found.checkpoint, "device": "cpu", "fill_ms": round(whole, 1), "cancel_to_idle_ms": of}
    sys.stdout.write(json.dumps(row | {"cancels": len(times), "fills": tried}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
