"""Work that the server began itself, shown by the client as progress."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from lsprotocol import types
from pygls.lsp.server import LanguageServer

from midspan.engine.api import OnProgress

# A smaller file is read before a person sees the progress.
LONG_BYTES = 1_000_000_000


class Progress:
    """A `$/progress` with one beginning and one end; nothing for a client without the capability.

    With `cancel`, the client offers to cancel the work; `cancel` is called when the user does.
    """

    def __init__(self, server: LanguageServer, title: str, cancel: Callable[[], object] | None = None) -> None:
        self._server, self._title, self._cancel = server, title, cancel
        self._token = str(uuid.uuid4())
        self._begun = self._ended = False
        window = server.client_capabilities.window
        if window is not None and window.work_done_progress:
            create = types.WorkDoneProgressCreateParams(token=self._token)
            asked = server.protocol.send_request(types.WINDOW_WORK_DONE_PROGRESS_CREATE, create)
            asked.add_done_callback(self._begin)
            if cancel is not None:
                # pygls cancels this future when the client cancels the progress.
                self._server.work_done_progress.tokens[self._token] = cancelling = Future[Any]()
                cancelling.add_done_callback(self._cancelled)

    def report(self, message: str, percentage: int | None = None) -> None:
        """How far the work is."""
        if self._begun and not self._ended:
            self._notify(types.WorkDoneProgressReport(message=message, percentage=percentage))

    def end(self, message: str) -> None:
        """The work is done, or has failed."""
        self._ended = True
        self._server.work_done_progress.tokens.pop(self._token, None)
        if self._begun:
            self._notify(types.WorkDoneProgressEnd(message=message))

    def _begin(self, asked: Future[Any]) -> None:
        if asked.cancelled() or asked.exception() is not None or self._ended:
            return
        self._begun = True
        self._notify(types.WorkDoneProgressBegin(title=self._title, cancellable=self._cancel is not None or None))

    def _cancelled(self, asked: Future[Any]) -> None:
        if asked.cancelled() and self._cancel is not None:
            self._cancel()

    def _notify(
        self, value: types.WorkDoneProgressBegin | types.WorkDoneProgressReport | types.WorkDoneProgressEnd
    ) -> None:
        self._server.progress(types.ProgressParams(token=self._token, value=value))


def bytes_read(progress: Progress, loop: asyncio.AbstractEventLoop) -> OnProgress:
    """Reports each percent of a checkpoint that takes a while, from the thread that reads it."""
    last = 0

    def on_progress(done: int, total: int) -> None:
        nonlocal last
        share = 100 * done // max(1, total)
        if total >= LONG_BYTES and share != last and not loop.is_closed():
            last = share
            loop.call_soon_threadsafe(progress.report, f"{done / 1e9:.1f} of {total / 1e9:.1f} GB", share)

    return on_progress
