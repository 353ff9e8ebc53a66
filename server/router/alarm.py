"""Calls that are to be made later, on one thread for all of them."""

from __future__ import annotations

import heapq
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
        self._thread: threading.Thread | None = None

    def later(self, seconds: float, call: Callable[[], object]) -> Ring:
        """Have the call made in so many seconds."""
        ring = Ring(call)
        with self._wake:
            soonest = self._due[0][0] if self._due else None
            at = time.monotonic() + seconds
            heapq.heappush(self._due, (at, next(self._numbers), ring))
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._work, name="midspan-router", daemon=True)
                self._thread.start()
            elif soonest is None or at < soonest:
                self._wake.notify()
        return ring

    def close(self) -> None:
        """Make no call any more."""
        with self._wake:
            self._closed = True
            self._due.clear()
            self._wake.notify()

    def _work(self) -> None:
        while True:
            with self._wake:
                while not self._closed and (not self._due or self._due[0][0] > time.monotonic()):
                    self._wake.wait(self._due[0][0] - time.monotonic() if self._due else None)
                if self._closed:
                    return
                ring = heapq.heappop(self._due)[2]
            ring.ring()
