"""People who type at engines of the tests: what they ask, take and let go by, and how they take turns at one engine.

Time passes on their loop when nothing else is to be done: an engine that answers at once is quicker than any key.
"""

from __future__ import annotations

import asyncio
import selectors
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from functools import cached_property

import pytest

from midspan.engine.api import Budget, Engine, Fill, Hole, OnFrame
from midspan.server.bench.load_requests import Tally, Turns, Watched
from midspan.server.bench.people import Person, Rhythm, Text, type_for
from tests.server.router.fakes import LINE_END, Clock, Fake, fill_of
from tests.server.scripted import ABOUT

# Keys far enough apart that none waits for the next one.
EVEN = Rhythm(key_s=0.2, key_spread=0.0, line_s=1.0, line_spread=0.0)
WAIT_S = 60.0


def person(text: str, engine: Engine, tally: Tally) -> Person:
    return Person(0, Text("python", text), Watched(engine, tally, elsewhere=False), tally, EVEN)


class Idle(selectors.DefaultSelector):
    """A selector that never waits: what it would have waited is added to `passed`."""

    passed = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """See selectors.BaseSelector."""
        found = super().select(0.0 if timeout is not None else None)
        if not found and timeout:
            self.passed += timeout
        return found


class Loop(asyncio.SelectorEventLoop):
    """A loop whose time passes when it is idle, at once."""

    def __init__(self) -> None:
        self._idle = Idle()
        super().__init__(self._idle)

    def time(self) -> float:
        """Seconds since it was made."""
        return self._idle.passed


class AtOnce:
    """An engine that answers within `fill`; `enough` is set after so many requests."""

    about = ABOUT

    def __init__(self, fill: Callable[[Hole], str], confidence: float, requests: int) -> None:
        self._fill, self._confidence, self._left = fill, confidence, requests
        self.enough = asyncio.Event()
        self.holes = list[Hole]()

    def fill(
        self, hole: Hole, budget: Budget, *, stop: threading.Event | None = None, on_frame: OnFrame | None = None
    ) -> Future[Fill]:
        """See midspan.engine.api.Engine."""
        self.holes.append(hole)
        if len(self.holes) == self._left:
            self.enough.set()
        future = Future[Fill]()
        try:
            future.set_result(replace(fill_of(self._fill(hole)), confidence=self._confidence))
        except RuntimeError as error:
            future.set_exception(error)
        return future

    def close(self) -> None:
        """Nothing."""


def typed(text: str, fill: Callable[[Hole], str], confidence: float = 0.9) -> tuple[Tally, list[Hole]]:
    """What comes of one person's typing of a text, with an engine that answers at once and is so sure."""
    with asyncio.Runner(loop_factory=Loop) as runner:
        return runner.run(_typed(text, AtOnce(fill, confidence, 40)))


async def _typed(text: str, engine: AtOnce) -> tuple[Tally, list[Hole]]:
    tally = Tally()
    run = asyncio.create_task(type_for(3600.0, [person(text, engine, tally).type_on()], tally))
    await engine.enough.wait()
    run.cancel()
    with suppress(asyncio.CancelledError):
        await run
    return tally, engine.holes


def line_of(hole: Hole) -> str:
    return hole.prefix.rpartition("\n")[2]


def test_exactly_the_rest_of_a_line_is_taken_with_one_key() -> None:
    tally, holes = typed("    ab = cd  \n", lambda hole: "ab = cd" if not line_of(hole).strip() else "")
    # Enter, the acceptance; after each the engine is asked.
    assert tally.keys - 2 * tally.lines in (-1, 0)
    assert len(tally.useful_ms) in (tally.lines, tally.lines - 1)
    assert {line_of(hole) for hole in holes} == {"    ", "    ab = cd"}
    assert {hole.language for hole in holes} == {"python"}


def test_what_runs_along_a_suggestion_asks_nobody() -> None:
    tally, holes = typed("abcd\n", lambda hole: "abcdef" if not line_of(hole) else "")
    # Longer than the line: it is typed along, and never taken.
    assert {line_of(hole) for hole in holes} == {""}
    assert tally.useful_ms == []
    assert tally.shown in (len(holes), len(holes) - 1)
    assert tally.keys > 4 * (tally.lines - 1)


def test_each_key_that_goes_against_what_is_shown_asks_again() -> None:
    tally, holes = typed("abc\n\nabc\n", lambda _: "xyz")
    assert [line_of(hole) for hole in holes[:5]] == ["", "a", "ab", "abc", ""]
    assert tally.useful_ms == []


@pytest.mark.parametrize(("text", "confidence"), [("b", 0.9), (" bcd", 0.2), ("", 0.9)])
def test_what_is_not_sure_or_as_quickly_typed_is_not_shown(text: str, confidence: float) -> None:
    tally, holes = typed(f"a{text}\n", lambda hole: text if line_of(hole) == "a" else "", confidence)
    assert {line_of(hole) for hole in holes} > {"", "a"} or not text
    assert (tally.shown, tally.useful_ms) == (0, [])


def test_an_engine_that_crashes_is_asked_again_by_the_next_key() -> None:
    def crash(hole: Hole) -> str:
        raise RuntimeError("out of memory")

    tally, holes = typed("abc\n", crash)
    assert [line_of(hole) for hole in holes[:4]] == ["", "a", "ab", "abc"]
    assert {(one.outcome, one.error) for one in tally.asked} == {("failed", "RuntimeError")}


class Held(Fake):
    """An engine that answers when the test says so; `begun` is set when it is asked."""

    @cached_property
    def begun(self) -> asyncio.Event:
        return asyncio.Event()

    def fill(
        self, hole: Hole, budget: Budget, *, stop: threading.Event | None = None, on_frame: OnFrame | None = None
    ) -> Future[Fill]:
        self.begun.set()
        return super().fill(hole, budget, stop=stop, on_frame=on_frame)


async def test_the_run_waits_for_what_it_has_stopped_and_counts_it_no_more() -> None:
    engine, tally = Held(Clock()), Tally()
    run = asyncio.create_task(type_for(WAIT_S, [person("abc\n", engine, tally).type_on()], tally))
    await asyncio.wait_for(engine.begun.wait(), WAIT_S)
    run.cancel()
    await asyncio.wait({run}, timeout=0.1)
    assert not run.done()
    assert engine.asked[-1][2].is_set()
    for future in engine.futures:
        if not future.done():
            # It was too late to stop.
            future.set_result(fill_of("abc"))
    await asyncio.wait({run}, timeout=WAIT_S)
    assert run.cancelled()
    assert {one.outcome for one in tally.asked} == {"cancelled"}
    assert 0.0 < tally.ended < tally.asked[-1].ended
    assert tally.under_way == set()


def ask(engine: Turns, budget: Budget | None = None) -> tuple[Future[Fill], threading.Event]:
    stop = threading.Event()
    return engine.fill(LINE_END, budget or Budget(), stop=stop), stop


def test_people_take_turns_at_one_engine() -> None:
    engine = Fake(Clock())
    turns = Turns(engine)
    (one, _), (two, stop), (three, _) = (ask(turns) for _ in range(3))
    assert len(engine.asked) == 1
    stop.set()
    engine.answer()
    assert one.result(0).text == "a = 1"
    # The one that nobody waits for any more is not begun.
    assert (two.result(0).stopped, len(engine.asked)) == ("cancelled", 2)
    assert not three.done()
    engine.error = RuntimeError("broken")
    engine.answer()
    assert isinstance(three.exception(0), RuntimeError)
    turns.close()
    assert engine.closed


def test_a_deadline_counts_while_one_waits() -> None:
    engine = Fake(Clock())
    turns = Turns(engine)
    ask(turns, Budget(deadline_s=60.0))
    late, _ = ask(turns, Budget(deadline_s=0.0))
    ask(turns, Budget(deadline_s=60.0))
    engine.answer()
    assert late.result(0).stopped == "deadline"
    deadlines = [budget.deadline_s for _, budget, _, _ in engine.asked]
    assert len(deadlines) == 2
    assert all(deadline is not None and 0 < deadline < 60.0 for deadline in deadlines)
