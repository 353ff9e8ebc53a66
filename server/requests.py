"""Questions to the engine: at most one a document, and the newest wins.

The engine keeps the newest question of all documents. One that somebody has asked for explicitly is not to be lost to
what an editor asks by itself in another document: that waits until it is answered.

While nothing is asked the engine may look ahead: one question that is likely to come is put to it before it comes.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from midspan.engine.api import About, Budget, Fill, Hole, OnFrame
from midspan.server.engine_errors import Unanswered

# Beyond the deadline, which the engine looks at between steps: so long may one step of a large model take on a CPU.
PATIENCE_S = 120.0
# The next key of a burst comes about when the last one did: somewhat later there is none.
BURST = 1.5
# A client that asks as soon as it has told of an edit does so well within this time.
AHEAD_S = 0.01
# How much the newest fill counts in what fills take.
SHARE = 0.3
# What asks: an editor by itself as somebody types, or somebody explicitly, for a completion or by a code action.
Origin = Literal["typing", "invoked", "action"]


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


@dataclass(slots=True, eq=False, kw_only=True)
class _Ask:
    hole: Hole
    budget: Budget
    origin: Origin
    stop: threading.Event = field(default_factory=threading.Event)
    done: asyncio.Event = field(default_factory=asyncio.Event)
    turn: asyncio.Event = field(default_factory=asyncio.Event)  # set when it may be another's turn
    future: Future[Fill] | None = None
    waiting: int = 0  # how many wait for the answer


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Ahead:
    uri: str
    hole: Hole
    budget: Budget
    stop: threading.Event
    future: Future[Fill]


class Pace:
    """How long a question waits for the next key, which would put it out of date.

    Not at all as long as fills are done before the next key comes. Where they take longer and a question was overtaken
    by a key, the next one waits until no further key has come for somewhat longer than the last one took, and never
    longer than the user allows.
    """

    def __init__(self) -> None:
        self._last = 0.0
        self._fill_s: float | None = None

    def took(self, fill_s: float) -> None:
        """A fill was waited for, so many seconds."""
        self._fill_s = fill_s if self._fill_s is None else self._fill_s + SHARE * (fill_s - self._fill_s)

    def wait_s(self, now_s: float, most_s: float, *, overtaken: bool) -> float:
        """Seconds to wait at most before the engine is asked; `most_s` is the user's bound."""
        since, self._last = now_s - self._last, now_s
        keeps_pace = self._fill_s is not None and self._fill_s < since
        return min(most_s, BURST * since) if overtaken and since < most_s and not keeps_pace else 0.0


class Asks:
    """The unanswered questions by document; used on the event loop only."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._open: dict[str, _Ask] = {}
        self._clock = clock
        self._overtaken = False
        self._ahead: _Ahead | None = None
        self._planned: tuple[str, asyncio.TimerHandle] | None = None
        self._pace = Pace()

    @property
    def busy(self) -> bool:
        """Whether anybody waits for an answer."""
        return bool(self._open)

    async def ask(
        self,
        uri: str,
        engine: Engine,
        hole: Hole,
        budget: Budget,
        on_frame: OnFrame | None = None,
        *,
        origin: Origin = "typing",
        debounce_s: float = 0.0,
    ) -> Fill | None:
        """The engine's fill, or None as soon as the question is out of date; `debounce_s`: see Pace.

        Raises what the engine raised, and Unanswered when it has not come back long after the deadline.
        """
        if (same := self._same(uri, hole, budget, origin)) is not None:
            return await self._answer(uri, same)
        ahead = self._take_ahead(hole, budget)
        self.supersede(uri)
        ask = self._open[uri] = _Ask(hole=hole, budget=budget, origin=origin)
        began = self._clock()
        wait_s = self._pace.wait_s(began, debounce_s, overtaken=self._overtaken)
        self._overtaken = False
        if ahead is not None:
            ask.stop, ask.future = ahead.stop, ahead.future
            fill = await self._answer(uri, ask)
            return fill and _waited(fill, self._clock() - began)
        with self._waiting(uri, ask):
            if (wait_s and await _over(ask, wait_s)) or not await self._turn(uri, ask):
                return None
            began = self._clock()
            ask.future = engine.fill(hole, budget, stop=ask.stop, on_frame=on_frame)
            fill = await self._answer(uri, ask)
        if fill is not None:
            self._pace.took(self._clock() - began)
        return fill

    def _same(self, uri: str, hole: Hole, budget: Budget, origin: Origin) -> _Ask | None:
        """The code action that is computed already: each of its alternatives is resolved by a request of its own."""
        ask = self._open.get(uri)
        if ask is None or ask.future is None or not origin == ask.origin == "action":
            return None
        return ask if _is_same(ask.hole, hole) and ask.budget == budget else None

    async def _answer(self, uri: str, ask: _Ask) -> Fill | None:
        """What the engine says to a question that it has; None if it is out of date by then."""
        assert ask.future is not None
        with self._waiting(uri, ask):
            await _answered(ask, ask.future, ask.budget)
        return None if ask.stop.is_set() else ask.future.result()

    @contextmanager
    def _waiting(self, uri: str, ask: _Ask) -> Iterator[None]:
        """While somebody waits for an answer; the question ends with the last who does."""
        ask.waiting += 1
        try:
            yield
        except (asyncio.CancelledError, Unanswered):
            if ask.waiting == 1:
                ask.stop.set()
            raise
        finally:
            ask.waiting -= 1
            if not ask.waiting:
                if self._open.get(uri) is ask:
                    del self._open[uri]
                for other in self._open.values():
                    other.turn.set()

    async def _turn(self, uri: str, ask: _Ask) -> bool:
        """Wait until the engine may have the question without another one's loss; whether it is still wanted then."""
        while not ask.stop.is_set() and ask.origin == "typing" and self._is_explicit_elsewhere(uri):
            ask.turn.clear()
            await ask.turn.wait()
        return not ask.stop.is_set()

    def _is_explicit_elsewhere(self, uri: str) -> bool:
        return any(other.origin != "typing" for at, other in self._open.items() if at != uri)

    def plan_ahead(self, uri: str, look: Callable[[], None]) -> None:
        """Look ahead in a document a moment later, by `look`, unless something is asked or edited there till then.

        An engine that begins at once takes a core from the client's own question, which is often on its way.
        """
        self._stop_ahead()
        self._planned = uri, asyncio.get_running_loop().call_later(AHEAD_S, look)

    def look_ahead(self, uri: str, engine: Engine, hole: Hole, budget: Budget) -> None:
        """Put a question to the engine that is likely to come; not while another one is open, which would suffer."""
        if self._open:
            return
        self._stop_ahead()
        stop = threading.Event()
        future = engine.fill(hole, budget, stop=stop)
        self._ahead = _Ahead(uri=uri, hole=hole, budget=budget, stop=stop, future=future)

    def _take_ahead(self, hole: Hole, budget: Budget) -> _Ahead | None:
        """What was asked ahead, if this is the question and all is well; else it is stopped."""
        self._unplan()
        ahead, self._ahead = self._ahead, None
        if ahead is None:
            return None
        if _is_same(ahead.hole, hole) and ahead.budget == budget:
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
        """Stop every question."""
        self._stop_ahead()
        for uri in list(self._open):
            self.supersede(uri)

    def supersede(self, uri: str) -> None:
        """Stop the question about this document, if there is one: its answer would be out of date."""
        if self._planned is not None and self._planned[0] == uri:
            self._unplan()
        if self._ahead is not None and self._ahead.uri == uri:
            self._stop_ahead()
        if (ask := self._open.pop(uri, None)) is not None:
            self._overtaken = True
            ask.stop.set()
            ask.done.set()
            ask.turn.set()


async def _answered(ask: _Ask, future: Future[Fill], budget: Budget) -> None:
    """Wait until the engine is done or the question is out of date. Raises Unanswered."""
    loop = asyncio.get_running_loop()
    future.add_done_callback(lambda _: loop.call_soon_threadsafe(ask.done.set))
    try:
        async with asyncio.timeout(PATIENCE_S + (budget.deadline_s or 0.0)):
            await ask.done.wait()
    except TimeoutError as error:
        raise Unanswered(f"the engine has not answered for {PATIENCE_S:.0f} s") from error


async def _over(ask: _Ask, wait_s: float) -> bool:
    """Whether the question goes out of date within so many seconds."""
    with suppress(TimeoutError):
        async with asyncio.timeout(wait_s):
            await ask.done.wait()
    return ask.done.is_set()


def _is_same(one: Hole, other: Hole) -> bool:
    """Whether two holes are one gap; what comes from elsewhere may have grown between them, as the index does."""
    return replace(one, context=other.context, elsewhere=other.elsewhere) == other


def _waited(fill: Fill, seconds: float) -> Fill:
    """A fill that was asked for ahead: the engine's part is what a request has waited for it."""
    return replace(fill, latency=replace(fill.latency, total=1000 * seconds))
