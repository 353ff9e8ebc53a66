"""The requests of many people to one backend: each is noted, and those to a single engine take turns."""

from __future__ import annotations

import threading
import time
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

from midspan.engine.api import About, Budget, Engine, Fill, Frame, Hole, OnFrame, RemoteError
from midspan.server.router.race import empty

Outcome = Literal["open", "answered", "empty", "late", "cancelled", "failed"]


@dataclass(slots=True, eq=False)
class Asked:
    """One request that a backend was asked, in seconds of time.perf_counter.

    `work_s` is how long it was worked on and `queue_s` how long it waited before, None where that cannot be seen.
    `forwards` are the steps that were seen of it, `error` is the kind of a failure.
    """

    began: float
    ended: float = 0.0
    outcome: Outcome = "open"
    work_s: float | None = None
    queue_s: float | None = None
    forwards: int = 0
    error: str = ""


@dataclass(slots=True)
class Tally:
    """What happens in a run: `seconds` of it, keys, lines, what was shown and accepted, all requests.

    `useful_ms` are from a key to the suggestion after it, of those that were accepted; `late_ms` is how late keys came.
    """

    began: float = 0.0
    ended: float = 0.0
    keys: int = 0
    lines: int = 0
    shown: int = 0
    useful_ms: list[float] = field(default_factory=list)
    late_ms: list[float] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    under_way: set[Future[Fill]] = field(default_factory=set)

    def end(self) -> None:
        """The run is over, if it was not before: what is under way counts no more."""
        self.ended = self.ended or time.perf_counter()

    @property
    def seconds(self) -> float:
        """How long people have typed."""
        return self.ended - self.began


class Watched:
    """One person's engine, whose requests are noted; see midspan.engine.api.Engine.

    Of one that is `elsewhere` each piece is a step, and it may say itself how long it has worked.
    """

    def __init__(self, engine: Engine, tally: Tally, *, elsewhere: bool) -> None:
        self._engine, self._tally, self._elsewhere = engine, tally, elsewhere

    @property
    def about(self) -> About:
        """What is loaded."""
        return self._engine.about

    def fill(
        self, hole: Hole, budget: Budget, *, stop: threading.Event | None = None, on_frame: OnFrame | None = None
    ) -> Future[Fill]:
        """Begin a fill."""
        stop, asked = stop or threading.Event(), Asked(time.perf_counter())
        self._tally.asked.append(asked)

        def on_piece(frame: Frame) -> None:
            asked.forwards = frame.step
            if on_frame is not None:
                on_frame(frame)

        # Where the network is in this process, frames would cost it time.
        told = on_piece if self._elsewhere else on_frame
        future = self._engine.fill(hole, budget, stop=stop, on_frame=told)
        self._tally.under_way.add(future)
        future.add_done_callback(partial(self._ended, asked, stop))
        return future

    def close(self) -> None:
        """End the engine."""
        self._engine.close()

    def _ended(self, asked: Asked, stop: threading.Event, future: Future[Fill]) -> None:
        asked.ended = time.perf_counter()
        self._tally.under_way.discard(future)
        if (error := future.exception()) is not None:
            asked.outcome, asked.error = "failed", kind_of(error)
            return
        fill, latency = future.result(), future.result().latency
        asked.forwards = max(asked.forwards, fill.steps)
        told_s = (latency.encode + latency.denoise if self._elsewhere else latency.total) / 1000
        if told_s or not self._elsewhere:
            asked.work_s = told_s
            asked.queue_s = max(0.0, asked.ended - asked.began - told_s)
        if fill.stopped == "cancelled" or stop.is_set():
            asked.outcome = "cancelled"
        elif fill.candidates:
            asked.outcome = "answered"
        else:
            asked.outcome = "late" if fill.stopped == "deadline" else "empty"


def kind_of(error: BaseException) -> str:
    """An error as it is counted: by the status of a refusal."""
    if isinstance(error, RemoteError):
        return f"status {error.status}" if error.status else "no answer"
    return type(error).__name__


@dataclass(frozen=True, slots=True)
class _Waiting:
    hole: Hole
    budget: Budget
    stop: threading.Event
    on_frame: OnFrame | None
    future: Future[Fill] = field(default_factory=Future)
    began: float = field(default_factory=time.perf_counter)

    def left(self) -> Budget | None:
        """The budget after the wait; None where its deadline has passed."""
        if self.budget.deadline_s is None:
            return self.budget
        left_s = self.budget.deadline_s - (time.perf_counter() - self.began)
        return replace(self.budget, deadline_s=left_s) if left_s > 0 else None


class Turns:
    """One engine for several people: a request waits until those before it have ended, then has it alone.

    The engine by itself would give up one person's request for another's.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine, self._lock = engine, threading.Lock()
        self._waiting = deque[_Waiting]()
        self._busy = self._closed = False

    @property
    def about(self) -> About:
        """What is loaded."""
        return self._engine.about

    def fill(
        self, hole: Hole, budget: Budget, *, stop: threading.Event | None = None, on_frame: OnFrame | None = None
    ) -> Future[Fill]:
        """Begin a fill when it is its turn; the budget's deadline counts from now."""
        waiting = _Waiting(hole, budget, stop or threading.Event(), on_frame)
        with self._lock:
            self._waiting.append(waiting)
        self._begin()
        return waiting.future

    def close(self) -> None:
        """End the engine; whoever waits is not answered any more."""
        with self._lock:
            self._closed = True
        self._engine.close()

    def _begin(self) -> None:
        """Have the next request that is still wanted filled, unless one is being filled."""
        while True:
            with self._lock:
                if self._busy or self._closed or not self._waiting:
                    return
                waiting = self._waiting.popleft()
                budget = waiting.left()
                self._busy = wanted = budget is not None and not waiting.stop.is_set()
            if wanted and budget is not None:
                given = self._engine.fill(waiting.hole, budget, stop=waiting.stop, on_frame=waiting.on_frame)
                given.add_done_callback(partial(self._ended, waiting))
                return
            waiting.future.set_result(empty("cancelled" if waiting.stop.is_set() else "deadline"))

    def _ended(self, waiting: _Waiting, given: Future[Fill]) -> None:
        with self._lock:
            self._busy = False
        if (error := given.exception()) is not None:
            waiting.future.set_exception(error)
        else:
            waiting.future.set_result(given.result())
        self._begin()
