"""One piece of work the server began itself, shown by the client as progress."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from lsprotocol import types
from pygls.lsp.server import LanguageServer


class Progress:
    """A `$/progress` with one beginning and one end; nothing at all for a client without the capability.

    With `cancel`, which is called when the user cancels the work, the client offers to.
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

    def report(self, message: str) -> None:
        """How far the work is."""
        if self._begun and not self._ended:
            self._notify(types.WorkDoneProgressReport(message=message))

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
