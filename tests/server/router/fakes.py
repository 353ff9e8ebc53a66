"""Engines and a clock that a test moves by hand."""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from itertools import count

from midspan.engine.api import About, Budget, Candidate, Engine, Fill, Hole, OnFrame
from midspan.server.router.alarm import Ring
from midspan.server.router.asks import Tier
from midspan.server.router.members import Member, Skill
from midspan.server.router.policy import Reading
from midspan.server.router.race import empty
from midspan.server.router.router import Means
from tests.server.scripted import ABOUT

BETWEEN = Hole(prefix="def f():\n    ", suffix="\n    return a\n", kind="span")
LINE_END = Hole(prefix="total = ", suffix="\nprint(total)\n")


class Clock:
    """Time that passes when it is told to; what is due is called on the way."""

    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[tuple[float, int, Ring]] = []
        self._numbers = count()

    def read(self) -> float:
        return self.now

    def later(self, seconds: float, call: Callable[[], object]) -> Ring:
        ring = Ring(call)
        heapq.heappush(self._due, (self.now + seconds, next(self._numbers), ring))
        return ring

    def pass_by(self, seconds: float) -> None:
        end = self.now + seconds
        while self._due and self._due[0][0] <= end:
            self.now, _, ring = heapq.heappop(self._due)
            ring.ring()
        self.now = end


@dataclass
class Fake:
    """An engine that answers when the test says so, or after `takes_s` of the clock; see midspan.engine.api.Engine."""

    clock: Clock
    about: About = field(default_factory=lambda: ABOUT)
    text: str = "a = 1"
    others: tuple[str, ...] = ()
    takes_s: float | None = None
    error: Exception | None = None
    asked: list[tuple[Hole, Budget, threading.Event, OnFrame | None]] = field(default_factory=list)
    futures: list[Future[Fill]] = field(default_factory=list)
    closed: bool = False

    def fill(
        self, hole: Hole, budget: Budget, *, stop: threading.Event | None = None, on_frame: OnFrame | None = None
    ) -> Future[Fill]:
        future = Future[Fill]()
        self.asked.append((hole, budget, stop or threading.Event(), on_frame))
        self.futures.append(future)
        if self.takes_s is not None:
            self.clock.later(self.takes_s, lambda: self.answer(future))
        return future

    def answer(self, future: Future[Fill] | None = None) -> None:
        """Answer one request, or the last."""
        future = future or self.futures[-1]
        if self.asked[self.futures.index(future)][2].is_set():
            future.set_result(empty("cancelled"))
        elif self.error is not None:
            future.set_exception(self.error)
        else:
            future.set_result(fill_of(self.text, *self.others))

    def close(self) -> None:
        self.closed = True


def fill_of(text: str, *others: str) -> Fill:
    """A fill of one text, and of the others behind it; of none, where it is empty."""
    if not text:
        return empty("empty")
    candidates = tuple(Candidate(text=one, confidence=0.9) for one in (text, *others))
    return replace(empty("settled"), text=text, confidence=0.9, candidates=candidates, steps=1)


def member(
    name: str,
    engine: Engine,
    tier: Tier = "loopback",
    reading: Reading = "autoregressive",
    skills: frozenset[Skill] = frozenset(),
) -> Member:
    """A member whose engine is there as soon as it is wanted."""
    return Member(name=name, reading=reading, tier=tier, connect=lambda: engine, skills=skills)


def local(engine: Engine, name: str = "diffusion") -> Member:
    """The engine of this process, as the server has it."""
    return member(name, engine, "in_process", "diffusion", frozenset(("rewrite",)))


def means(clock: Clock, told: list[str] | None = None) -> Means:
    """The clock's time; what runs in the background is done at once."""
    said = [] if told is None else told
    return Means(clock=clock.read, later=clock.later, background=lambda call: call(), tell=said.append)
