"""A remote server as an Engine."""

from __future__ import annotations

import threading
from concurrent.futures import Future

from midspan.engine.api import About, Budget, Fill, Hole, OnFrame, RemoteError
from midspan.engine.remote.address import Remote


class RemoteEngine:
    """A remote server; `fill` may be called from any thread."""

    def __init__(self, remote: Remote) -> None:
        self.remote = remote

    @property
    def about(self) -> About:
        """What the server is."""
        raise NotImplementedError

    def fill(
        self, hole: Hole, budget: Budget, *, stop: threading.Event | None = None, on_frame: OnFrame | None = None
    ) -> Future[Fill]:
        """Begin a fill."""
        future = Future[Fill]()
        future.set_exception(RemoteError(f"{self.remote.name}: not built yet"))
        return future

    def close(self) -> None:
        """End the engine's thread."""
