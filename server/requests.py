"""Pending engine requests: at most one per document, newest wins.

The engine itself keeps only the newest request of all documents. An explicit request must not be lost to an automatic
one in another document, so the automatic one waits for its answer.

While nothing is pending the engine may look ahead: it gets one request that is likely to come, before it comes.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Literal

from midspan.engine.api import Budget, Engine, Fill, Hole, OnFrame

# Beyond the deadline, which the engine checks between steps: one step of a large model may take this long on a CPU.
PATIENCE_S = 120.0
# The next key of a burst comes about when the last one did: somewhat later there is none.
BURST = 1.5
# A client that asks right after an edit does so well within this time.
AHEAD_S = 0.01
# The newest fill's weight in the running mean of fill times.
SHARE = 0.3
# Who asks: an editor by itself while somebody types, or a person, for a completion or by a code action.
Origin = Literal["typing", "invoked", "action"]


class Unanswered(Exception):
    """The engine has not come back from a request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the engine is asked about a document; `debounce_s` bounds the wait for the next key, see Pace.

    One that asks `again` follows an answer at once: no key stands behind it.
    """

    uri: str
    hole: Hole
    budget: Budget
    origin: Origin = "typing"
    debounce_s: float = 0.0
    again: bool = False


@dataclass(slots=True, eq=False, kw_only=True)
class _Pending:
    request: Request
    stop: threading.Event = field(default_factory=threading.Event)
    done: asyncio.Event = field(default_factory=asyncio.Event)
    turn: asyncio.Event = field(default_factory=asyncio.Event)  # set when it may be another's turn
    future: Future[Fill] | None = None
    waiting: int = 0  # how many wait for the answer


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Ahead:
    request: Request
    stop: threading.Event
    future: Future[Fill]


class Pace:
    """How long a request waits for the next key, which would put it out of date.

    It does not wait while fills are done before the next key comes. Where fills take longer and a key has overtaken a
    request, the next request waits somewhat longer than the last key took, and never longer than the user allows.
    """

    def __init__(self) -> None:
        self._last = 0.0
        self._fill_s: float | None = None

    def took(self, fill_s: float) -> None:
        """Note how long a fill took."""
        self._fill_s = fill_s if self._fill_s is None else self._fill_s + SHARE * (fill_s - self._fill_s)

    def wait_s(self, now_s: float, most_s: float, *, overtaken: bool) -> float:
        """Seconds to wait at most before the engine is asked; `most_s` is the user's bound."""
        since, self._last = now_s - self._last, now_s
        keeps_pace = self._fill_s is not None and self._fill_s < since
        return min(most_s, BURST * since) if overtaken and since < most_s and not keeps_pace else 0.0


class Requests:
    """The pending requests by document; used on the event loop only."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._pending: dict[str, _Pending] = {}
        self._clock = clock
        self._overtaken = False
        self._ahead: _Ahead | None = None
        self._planned: tuple[str, asyncio.TimerHandle] | None = None
        self._pace = Pace()

    @property
    def busy(self) -> bool:
        """Whether anybody waits for an answer."""
        return bool(self._pending)

    async def ask(self, engine: Engine, request: Request, on_frame: OnFrame | None = None) -> Fill | None:
        """The engine's fill, or None as soon as the request is out of date.

        Raises what the engine raised, and Unanswered when it has not come back long after the deadline.
        """
        if (same := self._same_action(request)) is not None:
            return await self._answer(same)
        ahead = self._take_ahead(request)
        self.supersede(request.uri)
        pending = self._pending[request.uri] = _Pending(request=request)
        began = self._clock()
        wait_s = 0.0
        if not request.again:
            wait_s = self._pace.wait_s(began, request.debounce_s, overtaken=self._overtaken)
            self._overtaken = False
        if ahead is not None:
            pending.stop, pending.future = ahead.stop, ahead.future
            fill = await self._answer(pending)
            return fill and _waited(fill, self._clock() - began)
        with self._waiting(pending):
            if (wait_s and await _superseded_within(pending, wait_s)) or not await self._turn(pending):
                return None
            began = self._clock()
            pending.future = engine.fill(request.hole, request.budget, stop=pending.stop, on_frame=on_frame)
            fill = await self._answer(pending)
        if fill is not None and not request.again:
            self._pace.took(self._clock() - began)
        return fill

    def _same_action(self, request: Request) -> _Pending | None:
        """The code action that is computed already: a client resolves each of its alternatives by a request."""
        pending = self._pending.get(request.uri)
        if pending is None or pending.future is None or not request.origin == pending.request.origin == "action":
            return None
        return pending if _is_same(pending.request, request) else None

    async def _answer(self, pending: _Pending) -> Fill | None:
        """What the engine answers to a request that it has; None if the request is out of date by then."""
        assert pending.future is not None
        with self._waiting(pending):
            await _answered(pending, pending.future)
        return None if pending.stop.is_set() else pending.future.result()

    @contextmanager
    def _waiting(self, pending: _Pending) -> Iterator[None]:
        """While somebody waits for an answer; the request ends with the last who does."""
        pending.waiting += 1
        try:
            yield
        except (asyncio.CancelledError, Unanswered):
            if pending.waiting == 1:
                pending.stop.set()
            raise
        finally:
            pending.waiting -= 1
            if not pending.waiting:
                if self._pending.get(pending.request.uri) is pending:
                    del self._pending[pending.request.uri]
                for other in self._pending.values():
                    other.turn.set()

    async def _turn(self, pending: _Pending) -> bool:
        """Wait until the engine may have the request without another one's loss; whether it is still wanted then."""
        while not pending.stop.is_set() and pending.request.origin == "typing" and self._explicit_elsewhere(pending):
            pending.turn.clear()
            await pending.turn.wait()
        return not pending.stop.is_set()

    def _explicit_elsewhere(self, pending: _Pending) -> bool:
        others = (other for other in self._pending.values() if other is not pending)
        return any(other.request.origin != "typing" for other in others)

    def plan_ahead(self, uri: str, look: Callable[[], None]) -> None:
        """Look ahead in a document a moment later, by `look`, unless something is asked or edited there till then.

        An engine that begins at once takes a core from the client's own request, which is often on its way.
        """
        self._stop_ahead()
        self._planned = uri, asyncio.get_running_loop().call_later(AHEAD_S, look)

    def look_ahead(self, engine: Engine, request: Request) -> None:
        """Begin a request that is likely to come; not while another one is pending, which would suffer."""
        if self._pending:
            return
        self._stop_ahead()
        stop = threading.Event()
        future = engine.fill(request.hole, request.budget, stop=stop)
        self._ahead = _Ahead(request=request, stop=stop, future=future)

    def _take_ahead(self, request: Request) -> _Ahead | None:
        """What was begun ahead, if this is the request and all is well; else it is stopped."""
        self._unplan()
        ahead, self._ahead = self._ahead, None
        if ahead is None:
            return None
        if _is_same(ahead.request, request):
            future = ahead.future
            if not future.done() or (future.exception() is None and future.result().stopped != "cancelled"):
                return ahead
        ahead.stop.set()
        return None

    def _unplan(self) -> None:
        if self._planned is not None:
            self._planned[1].cancel()
            self._planned = None

    def _stop_ahead(self) -> None:
        self._unplan()
        if self._ahead is not None:
            self._ahead.stop.set()
            self._ahead = None

    def supersede_all(self) -> None:
        """Stop every request."""
        self._stop_ahead()
        for uri in list(self._pending):
            self.supersede(uri)

    def supersede(self, uri: str) -> None:
        """Stop the request about this document, if there is one: its answer would be out of date."""
        if self._planned is not None and self._planned[0] == uri:
            self._unplan()
        if self._ahead is not None and self._ahead.request.uri == uri:
            self._stop_ahead()
        if (pending := self._pending.pop(uri, None)) is not None:
            self._overtaken = True
            pending.stop.set()
            pending.done.set()
            pending.turn.set()


async def _answered(pending: _Pending, future: Future[Fill]) -> None:
    """Wait until the engine is done or the request is out of date. Raises Unanswered."""
    loop = asyncio.get_running_loop()
    future.add_done_callback(lambda _: loop.call_soon_threadsafe(pending.done.set))
    try:
        async with asyncio.timeout(PATIENCE_S + (pending.request.budget.deadline_s or 0.0)):
            await pending.done.wait()
    except TimeoutError as error:
        raise Unanswered(f"the engine has not answered for {PATIENCE_S:.0f} s") from error


async def _superseded_within(pending: _Pending, wait_s: float) -> bool:
    """Whether the request goes out of date within so many seconds."""
    with suppress(TimeoutError):
        async with asyncio.timeout(wait_s):
            await pending.done.wait()
    return pending.done.is_set()


def _is_same(one: Request, other: Request) -> bool:
    """Whether two requests are about one gap; other files' text may have grown between them, as the index does."""
    hole = replace(one.hole, context=other.hole.context, other_lines=other.hole.other_lines)
    return hole == other.hole and one.budget == other.budget


def _waited(fill: Fill, seconds: float) -> Fill:
    """A fill that was begun ahead: the engine's part is what a request has waited for it."""
    return replace(fill, latency=replace(fill.latency, total=1000 * seconds))
