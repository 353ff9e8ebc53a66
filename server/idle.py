"""Trees brought up to date while nobody types, so that no keystroke waits for more of a parse than it must."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from midspan.server.documents import Documents

# Longer than between two keys of a burst.
QUIET_S = 0.03
# A key that comes meanwhile waits no longer than this.
SLICE_S = 0.002


class Idle:
    """One timer, for the document that was edited last; used on the event loop only.

    While the server is `busy` with a question it waits: a parse would hold up the engine's thread and the answer.
    """

    def __init__(self, documents: Documents, busy: Callable[[], bool]) -> None:
        self._documents, self._busy = documents, busy
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """From now on there is a running event loop."""
        self._loop = asyncio.get_running_loop()

    def edited(self, uri: str) -> None:
        """A document was edited: its tree is gone on with when it has been quiet for a while."""
        self.stop()
        self._go_on_in(QUIET_S, uri)

    def stop(self) -> None:
        """Leave the trees as they are."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _go_on(self, uri: str) -> None:
        document = self._documents.get(uri)
        self._timer = None
        if self._busy():
            self._go_on_in(QUIET_S, uri)
        elif document is not None and not document.parse(SLICE_S):
            # Messages that have come meanwhile are read first.
            self._go_on_in(0, uri)

    def _go_on_in(self, seconds: float, uri: str) -> None:
        if self._loop is not None:
            self._timer = self._loop.call_later(seconds, self._go_on, uri)
