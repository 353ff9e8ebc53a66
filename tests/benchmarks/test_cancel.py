"""`benchmarks/cancel.py` stops fills that run, and prints how soon the engine is idle again."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
from concurrent.futures import Future
from itertools import islice
from pathlib import Path

from benchmarks.cancel import places, stopped_after
from midspan.engine.api import About, Budget, Fill, Hole, Latency, OnFrame, Stopped

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "cancel.py"
NOTHING = Latency(total=0.0, encode=0.0, denoise=0.0, rank=0.0)


class UntilStopped:
    """An engine that works until it is stopped, or ends at once by itself; see midspan.engine.api.Engine."""

    about: About

    def __init__(self, *, ends: bool) -> None:
        self.ends = ends

    def fill(
        self, hole: Hole, budget: Budget, *, stop: threading.Event | None = None, on_frame: OnFrame | None = None
    ) -> Future[Fill]:
        """See Engine.fill."""
        future = Future[Fill]()

        def work() -> None:
            assert stop is not None
            if not self.ends:
                stop.wait()
            stopped: Stopped = "cancelled" if stop.is_set() else "settled"
            future.set_result(Fill(text="", confidence=0.0, candidates=(), steps=0, stopped=stopped, latency=NOTHING))

        threading.Thread(target=work).start()
        return future

    def close(self) -> None:
        """Nothing."""


def test_it_prints_the_time_of_each_stop() -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT, "--cancels", "3"], capture_output=True, text=True, timeout=100, check=True
    )
    found = json.loads(done.stdout)
    assert (found["cancels"], found["checkpoint"]) == (3, "embedded")
    assert found["fills"] >= 3
    assert 0 < found["cancel_to_idle_ms"]["p50"] <= found["cancel_to_idle_ms"]["p99"]


def test_a_fill_that_ended_before_is_no_stop() -> None:
    hole = next(places(random.Random(0)))
    assert stopped_after(UntilStopped(ends=True), hole, 60.0) is None
    assert (stopped_after(UntilStopped(ends=False), hole, 0.0) or 0.0) > 0


def test_each_place_is_the_end_of_a_line_of_another_file() -> None:
    holes = list(islice(places(random.Random(1)), 8))
    assert all(hole.suffix.startswith("\n") and hole.prefix for hole in holes)
    assert len({hole.prefix for hole in holes}) == 8
