"""Questions to an engine that answers only when the test says so."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future

import pytest

from midspan.engine.api import Budget, Fill, Hole, Latency, OnFrame
from midspan.server.asks import Asks
from tests.server.raw_client import WAIT_S
from tests.server.scripted import ABOUT

FILL = Fill(
    text="x",
    confidence=1.0,
    candidates=(),
    steps=1,
    stopped="settled",
    latency=Latency(total=0, encode=0, denoise=0, rank=0),
)


class SlowEngine:
    """Every fill waits for the test; it does not look at `stop`."""

    def __init__(self) -> None:
        self.about = ABOUT
        self.asked: list[tuple[Future[Fill], threading.Event]] = []

    def fill(
        self, hole: Hole, budget: Budget, *, stop: threading.Event | None = None, on_frame: OnFrame | None = None
    ) -> Future[Fill]:
        """See midspan.engine.Engine.fill."""
        assert stop is not None
        self.asked.append((Future(), stop))
        return self.asked[-1][0]

    def close(self) -> None:
        """See midspan.engine.Engine.close."""


async def ask(asks: Asks, engine: SlowEngine, uri: str = "a") -> asyncio.Task[Fill | None]:
    """A question that the engine has got."""
    task = asyncio.create_task(asks.ask(uri, engine, Hole(prefix="", suffix=""), Budget()))
    await asyncio.sleep(0)
    return task


async def result(task: asyncio.Task[Fill | None]) -> Fill | None:
    return await asyncio.wait_for(task, WAIT_S)


async def test_the_answer_is_the_engines() -> None:
    asks, engine = Asks(), SlowEngine()
    task = await ask(asks, engine)
    [(future, stop)] = engine.asked
    threading.Thread(target=future.set_result, args=(FILL,)).start()
    assert await result(task) is FILL
    assert not stop.is_set()


async def test_a_superseded_question_is_answered_at_once_and_stopped() -> None:
    asks, engine = Asks(), SlowEngine()
    task = await ask(asks, engine)
    asks.supersede("a")
    assert await result(task) is None
    assert engine.asked[0][1].is_set()


async def test_a_newer_question_supersedes_the_older_of_its_document_only() -> None:
    asks, engine = Asks(), SlowEngine()
    old, other, new = await ask(asks, engine), await ask(asks, engine, "b"), await ask(asks, engine)
    assert await result(old) is None
    assert [stop.is_set() for _, stop in engine.asked] == [True, False, False]
    for future, _ in engine.asked:
        future.set_result(FILL)
    assert await result(other) is FILL
    assert await result(new) is FILL


async def test_an_answer_that_arrives_with_the_edit_is_out_of_date() -> None:
    asks, engine = Asks(), SlowEngine()
    task = await ask(asks, engine)
    engine.asked[0][0].set_result(FILL)
    asks.supersede("a")
    assert await result(task) is None


async def test_cancelling_stops_the_engine_and_leaves_its_future_alone() -> None:
    asks, engine = Asks(), SlowEngine()
    task = await ask(asks, engine)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await result(task)
    [(future, stop)] = engine.asked
    assert stop.is_set()
    assert not future.cancelled()


async def test_what_the_engine_raises_is_raised_and_the_next_question_works() -> None:
    asks, engine = Asks(), SlowEngine()
    task = await ask(asks, engine)
    engine.asked[0][0].set_exception(RuntimeError("broken"))
    with pytest.raises(RuntimeError, match="broken"):
        await result(task)
    task = await ask(asks, engine)
    engine.asked[1][0].set_result(FILL)
    assert await result(task) is FILL
