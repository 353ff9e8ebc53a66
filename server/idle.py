"""Trees brought up to date while nobody types, so that no keystroke waits for more of a parse than it must."""

from __future__ import annotations

import asyncio

from midspan.server.documents import Documents

# Longer than between two keys of a burst, shorter than a fill takes.
QUIET_S = 0.03
# A key that comes meanwhile waits no longer than this.
SLICE_S = 0.003


class Idle:
    """One timer, for the document that was edited last; used on the event loop only."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents
        self._timer: asyncio.TimerHandle | None = None

    def edited(self, uri: str) -> None:
        """A document was edited: its tree is gone on with when it has been quiet for a while."""
        self.stop()
        self._timer = asyncio.get_running_loop().call_later(QUIET_S, self._go_on, uri)

    def stop(self) -> None:
        """Leave the trees as they are."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _go_on(self, uri: str) -> None:
        document = self._documents.get(uri)
        self._timer = None
        if document is not None and not document.parse(SLICE_S):
            # Messages that have come meanwhile are read first.
            self._timer = asyncio.get_running_loop().call_later(0, self._go_on, uri)
