"""What one person who types asks of an engine, by how long that takes: `benchmarks/typing_demand.py [--seconds 120]`.

People type as in `midspan bench load` (server/bench/people.py), each with an engine of their own that computes nothing:
it answers after so many milliseconds with nothing to insert, and ends within POLL_S of a stop. So every key asks, and
what is measured is the demand of typing alone: how many requests begin, how many are answered before the next key ends
them, and how many are under way at a time. Prints one JSON object; all figures are of one person.
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
import json
import sys
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from midspan.engine.api import About, Budget, Fill, Hole, OnFrame
from midspan.server.bench.load import texts_of
from midspan.server.bench.load_figures import Device, figures
from midspan.server.bench.load_requests import Tally, Watched
from midspan.server.bench.people import HUMAN, Person, Rhythm, type_for
from midspan.server.router.race import empty

DELAYS_MS = (50, 100, 200, 400, 800)  # docs/serving.md reckons with two of them
PEOPLE = 20
POLL_S = 0.005
ABOUT = About(
    checkpoint="none",
    device="none",
    dtype="",
    threads=0,
    parameters=0,
    layout="filler",
    languages=("python",),
    show_threshold=0.5,
    kernels=(),
    load_ms=0.0,
)


@dataclass(order=True, slots=True)
class _Due:
    at: float
    number: int
    stop: threading.Event = field(compare=False)
    future: Future[Fill] = field(compare=False)


class Later:
    """Engines, as many as ask, that answer with nothing after `delay_s`; see midspan.engine.api.Engine."""

    about = ABOUT

    def __init__(self, delay_s: float) -> None:
        self._delay_s, self._numbers, self._lock = delay_s, count(), threading.Lock()
        self._due: list[_Due] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def fill(
        self, hole: Hole, budget: Budget, *, stop: threading.Event | None = None, on_frame: OnFrame | None = None
    ) -> Future[Fill]:
        """Begin to wait."""
        due = _Due(time.perf_counter() + self._delay_s, next(self._numbers), stop or threading.Event(), Future[Fill]())
        with self._lock:
            heapq.heappush(self._due, due)
        return due.future

    def close(self) -> None:
        """End the thread."""
        self._ended.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._ended.wait(POLL_S):
            now = time.perf_counter()
            with self._lock:
                over = [one for one in self._due if one.stop.is_set() or one.at <= now]
                self._due = [one for one in self._due if one not in over]
                heapq.heapify(self._due)
            for one in over:
                one.future.set_result(empty("cancelled" if one.stop.is_set() else "empty"))


def demand(delay_ms: float, seconds: float, people: int = PEOPLE, rhythm: Rhythm = HUMAN) -> dict[str, Any]:
    """One person's demand where an answer takes so long."""
    engine, tally, texts = Later(delay_ms / 1000), Tally(), texts_of(None)
    typing = [
        Person(number, texts[number % len(texts)], Watched(engine, tally, elsewhere=False), tally, rhythm).type_on()
        for number in range(people)
    ]
    asyncio.run(type_for(seconds, typing, tally))
    engine.close()
    found = figures(tally, Device(), None)
    each = people * tally.seconds
    return {
        "delay_ms": delay_ms,
        "keys_per_minute": 60 * found["keys"] / each,
        "requests_per_s": found["requests"] / each,
        "answers_per_s": found["completions_per_s"] / people,
        "cancelled": found["cancelled"],
        "at_once": found["in_flight"] / people,
        "late_keys_ms": found["late_keys_ms"],
    }


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120.0, help="of typing, for each delay")
    seconds = parser.parse_args().seconds
    found = [demand(delay_ms, seconds) for delay_ms in DELAYS_MS]
    row = {"checkpoint": "none", "people": PEOPLE, "seconds": seconds, "by_delay": found}
    sys.stdout.write(json.dumps(row) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
