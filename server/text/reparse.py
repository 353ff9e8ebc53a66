"""Updates syntax trees while nobody types, so that keystrokes wait for as little parsing as possible."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from midspan.server.text.documents import Documents

# Longer than between two keys of a burst.
QUIET_S = 0.03
# A key that comes meanwhile waits no longer than this.
SLICE_S = 0.002


class Reparse:
    """One timer for all documents with a parse to continue, the last edited first; used on the event loop only.

    It waits while the server is `busy` with a request: a parse would hold up the engine's thread and the answer. It
    also waits a while after the answer, when the next key is about to come.
    """

    def __init__(self, documents: Documents, busy: Callable[[], bool]) -> None:
        self._documents, self._busy = documents, busy
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._pending: dict[str, None] = {}
        self._was_busy = False

    def start(self) -> None:
        """Begin; there is a running event loop from now on."""
        self._loop = asyncio.get_running_loop()

    def edited(self, uri: str) -> None:
        """A document was opened or edited: continue its parse when nobody has typed for a while."""
        self._pending.pop(uri, None)
        self._pending[uri] = None
        self._go_on_in(QUIET_S)

    def stop(self) -> None:
        """Leave the trees as they are."""
        self._pending.clear()
        self._cancel()

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _go_on(self) -> None:
        self._timer = None
        was_busy, self._was_busy = self._was_busy, self._busy()
        if was_busy or self._was_busy:
            self._go_on_in(QUIET_S)
            return
        uri = next(reversed(self._pending))
        document = self._documents.get(uri)
        if document is None or document.parse(SLICE_S):
            del self._pending[uri]
        if self._pending:
            # Messages that have come meanwhile are read first.
            self._go_on_in(0)

    def _go_on_in(self, seconds: float) -> None:
        self._cancel()
        if self._loop is not None:
            self._timer = self._loop.call_later(seconds, self._go_on)
