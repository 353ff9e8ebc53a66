"""What the router adds to a request: `benchmarks/router_cost.py [--requests 20000]`, with one engine and with three.

Engines answer from within `fill`, so that what is timed is the router's own work: filters, order, clocks, record. The
time of such an engine alone is taken off by its median. With three engines a hedge and a deadline are set for each
request, as in a server; nothing is validated. Prints one JSON object: milliseconds by the clock, and of the thread's
own time on a core (`cpu`), which a busy machine lengthens less.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from itertools import count as count_from

from midspan.engine.api import About, Budget, Candidate, Engine, Fill, Hole, Latency, OnFrame
from midspan.server.router.asks import Tier, Wish
from midspan.server.router.members import Member
from midspan.server.router.router import Means, Router
from midspan.server.statistics import quantile

WARM_UP = 500
TICK_S = 0.01
NOTHING = Latency(total=0.0, encode=0.0, denoise=0.0, rank=0.0)
FILL = Fill(
    text="a = 1",
    confidence=0.9,
    candidates=(Candidate(text="a = 1", confidence=0.9),),
    steps=1,
    stopped="settled",
    latency=NOTHING,
)
HOLE = Hole(prefix="def add(a, b):\n    return " * 40, suffix="\n\n\nprint(add(1, 2))\n" * 20)
# What the server asks as somebody types.
BUDGET = Budget(deadline_s=1.0, min_confidence=0.5)
WISH = Wish(uri="file:///project/a.py")


class AtOnce:
    """An engine that has its answer ready; see midspan.engine.api.Engine."""

    about = About(
        checkpoint="at once",
        device="cpu",
        dtype="",
        threads=1,
        parameters=0,
        layout="filler",
        languages=("python",),
        show_threshold=0.5,
        kernels=(),
        load_ms=0.0,
    )

    def fill(
        self, hole: Hole, budget: Budget, *, stop: threading.Event | None = None, on_frame: OnFrame | None = None
    ) -> Future[Fill]:
        """A future that is done."""
        future = Future[Fill]()
        future.set_result(FILL)
        return future

    def close(self) -> None:
        """Nothing."""


def router_of(count: int) -> Router:
    """A router over so many engines, one of which is in this process."""
    tiers: Sequence[Tier] = ("in_process", "loopback", "private")
    members = [
        Member(name=f"engine {number}", reading="diffusion", tier=tier, connect=AtOnce)
        for number, tier in enumerate(tiers[:count])
    ]
    # On the router's clock an answer takes some tens of milliseconds: hedges are set, and taken back, as in life.
    ticks = count_from(1)
    return Router(members, means=Means(background=lambda call: call(), clock=lambda: TICK_S * next(ticks)))


def timed(ask: Callable[[], Future[Fill]], count: int, clock: Callable[[], float]) -> list[float]:
    """Milliseconds of so many requests, one after the other."""
    times = []
    for _ in range(count):
        began = clock()
        ask().result()
        times.append(1000 * (clock() - began))
    return times


def added(count: int, requests: int) -> dict[str, float]:
    """What a router over so many engines adds."""
    router, alone = router_of(count), AtOnce()
    engine: Engine = router.wishing(WISH)
    found: dict[str, float] = {}
    for prefix, clock in (("", time.perf_counter), ("cpu_", time.thread_time)):
        for ask in (engine.fill, alone.fill):
            timed(partial(ask, HOLE, BUDGET), WARM_UP, clock)
        routed = timed(partial(engine.fill, HOLE, BUDGET), requests, clock)
        plain = quantile(timed(partial(alone.fill, HOLE, BUDGET), requests, clock), 0.5)
        found |= {f"{prefix}{name}": quantile(routed, share) - plain for name, share in (("p50", 0.5), ("p99", 0.99))}
    router.close()
    return found


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=20_000)
    requests = parser.parse_args().requests
    found = {"checkpoint": "none", "requests": requests, "one_engine_ms": added(1, requests)}
    sys.stdout.write(json.dumps(found | {"three_engines_ms": added(3, requests)}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
