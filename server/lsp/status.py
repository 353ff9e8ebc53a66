"""What the server is doing, as `midspan/status`: one state, one line, sent when either changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

State = Literal["loading", "ready", "working", "degraded", "off", "error"]
# An answer that comes sooner needs no sign of work.
WORKING_AFTER_S = 0.2


class Status:
    """The state of the server; used on the event loop only.

    `off` and `error` come first, then `loading`, `working`, `degraded` (it runs, but something needs a fix), `ready`.
    """

    def __init__(self, send: Callable[[State, str], None]) -> None:
        self._send = send
        self._state: State | None = None
        self._message = self._more = self._by = ""
        self._enabled = True
        self._wanted = False
        self._troubles: dict[str, str] = {}
        self._open = 0
        self._working = False
        self._timer: asyncio.TimerHandle | None = None
        self._last: tuple[State, str] | None = None

    def now(self) -> tuple[State, str] | None:
        """The state and its line; None before anything has begun."""
        if not self._enabled:
            return "off", "switched off by the setting `enable`"
        if self._state is None:
            return None
        if self._state != "ready":
            return self._state, self._message
        if self._working:
            return "working", self._message
        if self._troubles:
            return "degraded", "; ".join(self._troubles.values())
        return "ready", "; ".join(filter(None, (self._message, self._more, self._by)))

    def loading(self, message: str) -> None:
        """The model is being loaded."""
        self._become("loading", message)

    def ready(self, message: str) -> None:
        """The model is loaded."""
        self._become("ready", message)

    def add(self, more: str) -> None:
        """Add a line to the ready state; it replaces the one before."""
        self._more = more
        self._tell()

    def answered(self, by: str) -> None:
        """Add who has answered last, and why that one; it replaces who did before."""
        self._by = by
        self._tell()

    def error(self, message: str) -> None:
        """Nothing can be filled; the message names the fix."""
        self._become("error", message)

    def follow(self, *, enabled: bool, wanted: bool) -> None:
        """Note whether midspan is switched on, and whether the client wants the status at all."""
        self._enabled, self._wanted = enabled, wanted
        self._tell()

    def trouble(self, of: str, message: str) -> None:
        """Something does not work while the rest goes on; the message names the fix."""
        self._troubles[of] = message
        self._tell()

    def well(self, of: str) -> None:
        """It works again."""
        if self._troubles.pop(of, None) is not None:
            self._tell()

    @contextmanager
    def work(self) -> Iterator[None]:
        """The engine works; shown once that takes long enough to be noticed."""
        self._open += 1
        if self._open == 1:
            self._timer = asyncio.get_running_loop().call_later(WORKING_AFTER_S, self._show_work)
        try:
            yield
        finally:
            self._open -= 1
            if not self._open and self._timer is not None:
                self._timer.cancel()
                self._working = False
                self._tell()

    def _show_work(self) -> None:
        self._working = True
        self._tell()

    def _become(self, state: State, message: str) -> None:
        self._state, self._message = state, message
        self._tell()

    def _tell(self) -> None:
        now = self.now() if self._wanted else None
        if now is not None and now != self._last:
            self._send(*now)
        self._last = now
