"""Questions to the engine: at most one a document, and the newest wins."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

from midspan.engine.api import About, Budget, Fill, Hole, OnFrame
from midspan.server.trouble import Unanswered

# Beyond the deadline, which the engine looks at between steps: so long may one step of a large model take on a CPU.
PATIENCE_S = 120.0


class Engine(Protocol):
    """What the server needs of an engine."""

    @property
    def about(self) -> About:
        """What is loaded."""

    def fill(
        self, hole: Hole, budget: Budget, *, stop: threading.Event | None = None, on_frame: OnFrame | None = None
    ) -> Future[Fill]:
        """Begin a fill; `on_frame` is called on the engine's thread."""

    def close(self) -> None:
        """End the engine's thread."""


@dataclass(frozen=True, slots=True, eq=False)
class _Ask:
    stop: threading.Event = field(default_factory=threading.Event)
    done: asyncio.Event = field(default_factory=asyncio.Event)


class Asks:
    """The unanswered questions by document; used on the event loop only."""

    def __init__(self) -> None:
        self._open: dict[str, _Ask] = {}

    async def ask(
        self, uri: str, engine: Engine, hole: Hole, budget: Budget, on_frame: OnFrame | None = None
    ) -> Fill | None:
        """The engine's fill, or None as soon as the question is out of date.

        Raises what the engine raised, and Unanswered when it has not come back long after the deadline.
        """
        self.supersede(uri)
        ask = self._open[uri] = _Ask()
        loop = asyncio.get_running_loop()
        try:
            future = engine.fill(hole, budget, stop=ask.stop, on_frame=on_frame)
            future.add_done_callback(lambda _: loop.call_soon_threadsafe(ask.done.set))
            async with asyncio.timeout(PATIENCE_S + (budget.deadline_s or 0.0)):
                await ask.done.wait()
        except asyncio.CancelledError:
            ask.stop.set()
            raise
        except TimeoutError as error:
            ask.stop.set()
            raise Unanswered(f"the engine has not answered for {PATIENCE_S:.0f} s") from error
        finally:
            if self._open.get(uri) is ask:
                del self._open[uri]
        return None if ask.stop.is_set() else future.result()

    def supersede_all(self) -> None:
        """Stop every question."""
        for uri in list(self._open):
            self.supersede(uri)

    def supersede(self, uri: str) -> None:
        """Stop the question about this document, if there is one: its answer would be out of date."""
        if (ask := self._open.pop(uri, None)) is not None:
            ask.stop.set()
            ask.done.set()
