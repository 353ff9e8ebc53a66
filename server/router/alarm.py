"""Calls that are to be made later, on one thread for all of them."""

from __future__ import annotations

import heapq
import math
import threading
import time
from collections.abc import Callable
from itertools import count


class Ring:
    """One call that is still to be made, unless it is cancelled."""

    def __init__(self, call: Callable[[], object]) -> None:
        self._call: Callable[[], object] | None = call

    def cancel(self) -> None:
        """Do not make it."""
        self._call = None

    @property
    def cancelled(self) -> bool:
        """Whether it will not be made."""
        return self._call is None

    def ring(self) -> None:
        """Make it now, unless it was cancelled."""
        if (call := self._call) is not None:
            call()


class Alarm:
    """The thread, which begins with the first call and must not be kept busy by any."""

    def __init__(self) -> None:
        self._due: list[tuple[float, int, Ring]] = []
        self._numbers = count()
        self._wake = threading.Condition()
        self._closed = False
        self._looks_at = 0.0  # when the thread will look by itself: at once, unless it sleeps
        self._thread: threading.Thread | None = None

    def later(self, seconds: float, call: Callable[[], object]) -> Ring:
        """Have the call made in so many seconds."""
        ring = Ring(call)
        with self._wake:
            self._drop_cancelled()
            at = time.monotonic() + seconds
            heapq.heappush(self._due, (at, next(self._numbers), ring))
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._work, name="midspan-router", daemon=True)
                self._thread.start()
            elif at < self._looks_at:
                self._looks_at = at
                self._wake.notify()
        return ring

    def close(self) -> None:
        """Make no call any more."""
        with self._wake:
            self._closed = True
            self._due.clear()
            self._wake.notify()

    def _drop_cancelled(self) -> None:
        """Forget what comes first and is cancelled, as nearly all is; the lock is held."""
        while self._due and self._due[0][2].cancelled:
            heapq.heappop(self._due)

    def _work(self) -> None:
        while (ring := self._next()) is not None:
            ring.ring()

    def _next(self) -> Ring | None:
        """The next call when its time has come; None at the end."""
        with self._wake:
            while not self._closed:
                self._drop_cancelled()
                now, at = time.monotonic(), self._due[0][0] if self._due else math.inf
                if at <= now:
                    self._looks_at = 0.0
                    return heapq.heappop(self._due)[2]
                self._looks_at = at
                self._wake.wait(at - now if self._due else None)
            return None
