"""Frames of the settling canvas, as `midspan/frame` notifications."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from midspan.engine.api import Frame
from midspan.server.completion import Completion

FRAME_INTERVAL_S = 1 / 15


class Preview:
    """The frames of one request; `show` is called on the event loop only."""

    def __init__(
        self, notify: Callable[[str, Any], None], completion: Completion, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._notify, self._completion, self._clock = notify, completion, clock
        self._next = 0.0
        self._ended = False

    def show(self, frame: Frame) -> None:
        """Send the frame, unless the last one went out less than an interval ago and this one is not settled."""
        now = self._clock()
        if self._ended or (now < self._next and not frame.settled):
            return
        self._next = now + FRAME_INTERVAL_S
        of = self._completion
        params = {"id": of.id, "uri": of.uri, "version": of.version, "position": of.range.start}
        self._notify("midspan/frame", params | {"text": of.selected + frame.text, "settled": frame.settled})

    def end(self) -> None:
        """Show nothing more: the request has been answered."""
        self._ended = True
