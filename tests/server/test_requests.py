"""Requests for fills: superseding, cancelling, debouncing and look-ahead, with an engine that the test controls."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from dataclasses import replace

import pytest

import midspan.server.requests
from midspan.engine.api import Budget, Fill, Hole, Latency, OnFrame
from midspan.server.requests import Origin, Pace, Request, Requests
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
    """An engine whose fills end when the test ends them; it ignores `stop`."""

    def __init__(self) -> None:
        self.about = ABOUT
        self.asked: list[tuple[Future[Fill], threading.Event]] = []
        self.heard = asyncio.Event()

    def fill(
        self, hole: Hole, budget: Budget, *, stop: threading.Event | None = None, on_frame: OnFrame | None = None
    ) -> Future[Fill]:
        """See midspan.engine.Engine.fill."""
        assert stop is not None
        self.asked.append((Future(), stop))
        self.heard.set()
        return self.asked[-1][0]

    def close(self) -> None:
        """See midspan.engine.Engine.close."""


async def ask(
    requests: Requests, engine: SlowEngine, uri: str = "a", origin: Origin = "typing", prefix: str = ""
) -> asyncio.Task[Fill | None]:
    """A request that has reached the engine, unless it has to wait."""
    task = asyncio.create_task(
        requests.ask(engine, Request(uri=uri, hole=Hole(prefix=prefix, suffix=""), budget=Budget(), origin=origin))
    )
    await asyncio.sleep(0)
    return task


async def result(task: asyncio.Task[Fill | None]) -> Fill | None:
    return await asyncio.wait_for(task, WAIT_S)


async def test_the_answer_is_the_engines_fill() -> None:
    requests, engine = Requests(), SlowEngine()
    task = await ask(requests, engine)
    [(future, stop)] = engine.asked
    threading.Thread(target=future.set_result, args=(FILL,)).start()
    assert await result(task) is FILL
    assert not stop.is_set()


async def test_a_superseded_request_is_answered_at_once_and_its_fill_is_stopped() -> None:
    requests, engine = Requests(), SlowEngine()
    task = await ask(requests, engine)
    requests.supersede("a")
    assert await result(task) is None
    assert engine.asked[0][1].is_set()


async def test_a_newer_request_supersedes_the_older_one_of_its_document_only() -> None:
    requests, engine = Requests(), SlowEngine()
    old, other, new = await ask(requests, engine), await ask(requests, engine, "b"), await ask(requests, engine)
    assert await result(old) is None
    assert [stop.is_set() for _, stop in engine.asked] == [True, False, False]
    for future, _ in engine.asked:
        future.set_result(FILL)
    assert await result(other) is FILL
    assert await result(new) is FILL


async def test_an_answer_that_arrives_with_the_edit_is_out_of_date() -> None:
    requests, engine = Requests(), SlowEngine()
    task = await ask(requests, engine)
    engine.asked[0][0].set_result(FILL)
    requests.supersede("a")
    assert await result(task) is None


async def test_cancelling_stops_the_engine_and_leaves_its_future_alone() -> None:
    requests, engine = Requests(), SlowEngine()
    task = await ask(requests, engine)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await result(task)
    [(future, stop)] = engine.asked
    assert stop.is_set()
    assert not future.cancelled()


async def test_an_exception_of_the_engine_is_raised_and_the_next_request_works() -> None:
    requests, engine = Requests(), SlowEngine()
    task = await ask(requests, engine)
    engine.asked[0][0].set_exception(RuntimeError("broken"))
    with pytest.raises(RuntimeError, match="broken"):
        await result(task)
    task = await ask(requests, engine)
    engine.asked[1][0].set_result(FILL)
    assert await result(task) is FILL


HOLE, BUDGET = Hole(prefix="", suffix=""), Budget()
REQUEST = Request(uri="a", hole=HOLE, budget=BUDGET)
PATIENT = replace(REQUEST, debounce_s=60.0)


async def test_a_burst_of_keys_does_not_start_a_fill_at_every_key() -> None:
    now = 100.0
    requests, engine = Requests(clock=lambda: now), SlowEngine()
    tasks = [await ask(requests, engine)]
    for _ in range(5):
        now += 1.0
        tasks.append(asyncio.create_task(requests.ask(engine, PATIENT)))
        await asyncio.sleep(0)
    # The first request had overtaken no other, so it did not wait; `ask` sends the last one without debouncing.
    assert len(engine.asked) == 1
    last = await ask(requests, engine)
    assert len(engine.asked) == 2
    engine.asked[1][0].set_result(FILL)
    assert await result(last) is FILL
    assert [await result(task) for task in tasks] == [None] * 6


async def test_a_fill_starts_at_the_end_of_a_burst_of_keys() -> None:
    now = 100.0
    requests, engine = Requests(clock=lambda: now), SlowEngine()
    first = await ask(requests, engine)
    now += 0.01
    engine.heard.clear()
    task = asyncio.create_task(requests.ask(engine, PATIENT))
    await asyncio.wait_for(engine.heard.wait(), WAIT_S)
    engine.asked[1][0].set_result(FILL)
    assert await result(task) is FILL
    assert await result(first) is None


@pytest.mark.parametrize(
    ("since", "most", "overtaken", "waits"),
    [(0.1, 0.2, True, 0.15), (0.15, 0.2, True, 0.2), (0.3, 0.2, True, 0), (0.1, 0.2, False, 0), (0.1, 0, True, 0)],
)
def test_how_long_a_request_waits_for_the_next_key(since: float, most: float, overtaken: bool, waits: float) -> None:
    pace = Pace()
    pace.wait_s(100.0, 0.2, overtaken=False)
    assert pace.wait_s(100.0 + since, most, overtaken=overtaken) == pytest.approx(waits)


async def test_no_request_waits_while_fills_end_before_the_next_key() -> None:
    for fill_s, fills in ((0.5, 3), (1.5, 2)):
        now = 100.0
        requests, engine = Requests(clock=lambda: now), SlowEngine()  # noqa: B023 - used within its turn
        first = await ask(requests, engine)
        now += fill_s
        engine.asked[0][0].set_result(FILL)
        assert await result(first) is FILL
        overtaken = await ask(requests, engine)
        now += 1.0
        task = asyncio.create_task(requests.ask(engine, PATIENT))
        await asyncio.sleep(0)
        assert len(engine.asked) == fills
        requests.supersede("a")
        assert [await result(overtaken), await result(task)] == [None, None]


def test_the_estimated_time_of_fills_follows_the_newest() -> None:
    pace = Pace()
    pace.took(0.05)
    for _ in range(20):
        pace.took(0.15)
    pace.wait_s(100.0, 0.2, overtaken=False)
    assert pace.wait_s(100.1, 0.2, overtaken=True) == pytest.approx(0.15)


async def test_a_request_that_a_look_ahead_has_answered_needs_no_fill() -> None:
    now = 100.0
    requests, engine = Requests(clock=lambda: now), SlowEngine()
    requests.look_ahead(engine, REQUEST)
    engine.asked[0][0].set_result(FILL)
    fill = await result(await ask(requests, engine))
    assert fill is not None
    assert (fill.text, fill.latency.total) == (FILL.text, 0)
    assert len(engine.asked) == 1
    # The next request reaches the engine again.
    await ask(requests, engine)
    assert len(engine.asked) == 2


async def test_a_look_ahead_starts_with_a_delay_and_a_request_replaces_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    requests, engine = Requests(), SlowEngine()

    def plan(uri: str) -> None:
        requests.plan_ahead(uri, lambda: requests.look_ahead(engine, replace(REQUEST, uri=uri)))

    async def timers() -> None:
        # A timer that is set later fires later.
        over = asyncio.Event()
        asyncio.get_running_loop().call_later(0, over.set)
        await asyncio.wait_for(over.wait(), WAIT_S)

    monkeypatch.setattr(midspan.server.requests, "AHEAD_S", 0.0)
    plan("a")
    task = await ask(requests, engine)
    await timers()
    assert len(engine.asked) == 1
    engine.asked[0][0].set_result(FILL)
    assert await result(task) is FILL
    for uri in ("a", None):
        plan("a")
        requests.supersede_all() if uri is None else requests.supersede(uri)
        await timers()
        assert len(engine.asked) == 1
    plan("a")
    requests.supersede("b")
    await timers()
    assert [stop.is_set() for _, stop in engine.asked] == [False, False]


async def test_a_request_waits_for_a_running_look_ahead_and_can_be_superseded() -> None:
    requests, engine = Requests(), SlowEngine()
    requests.look_ahead(engine, REQUEST)
    task = await ask(requests, engine)
    assert len(engine.asked) == 1
    engine.asked[0][0].set_result(FILL)
    assert (await result(task) or FILL).text == FILL.text
    requests.look_ahead(engine, REQUEST)
    task = await ask(requests, engine)
    requests.supersede("a")
    assert await result(task) is None
    assert [stop.is_set() for _, stop in engine.asked] == [False, True]


async def test_another_request_or_an_edit_stops_the_look_ahead() -> None:
    requests, engine = Requests(), SlowEngine()
    requests.look_ahead(engine, replace(REQUEST, hole=Hole(prefix="x", suffix="")))
    task = await ask(requests, engine, "b")
    assert [stop.is_set() for _, stop in engine.asked] == [True, False]
    requests.look_ahead(engine, REQUEST)
    assert len(engine.asked) == 2
    engine.asked[1][0].set_result(FILL)
    await result(task)
    requests.look_ahead(engine, REQUEST)
    requests.supersede("b")
    assert not engine.asked[-1][1].is_set()
    requests.supersede("a")
    assert engine.asked[-1][1].is_set()
    requests.look_ahead(engine, REQUEST)
    requests.supersede_all()
    assert engine.asked[-1][1].is_set()


@pytest.mark.parametrize("bad", [RuntimeError("broken"), replace(FILL, stopped="cancelled")])
async def test_a_request_after_a_failed_look_ahead_starts_a_new_fill(bad: Fill | Exception) -> None:
    requests, engine = Requests(), SlowEngine()
    requests.look_ahead(engine, REQUEST)
    if isinstance(bad, Exception):
        engine.asked[0][0].set_exception(bad)
    else:
        engine.asked[0][0].set_result(bad)
    task = await ask(requests, engine)
    engine.asked[1][0].set_result(FILL)
    assert await result(task) is FILL


EXPLICIT: tuple[Origin, ...] = ("invoked", "action")


@pytest.mark.parametrize("origin", EXPLICIT)
async def test_typing_in_another_document_waits_for_explicit_requests(origin: Origin) -> None:
    requests, engine = Requests(), SlowEngine()
    explicit = await ask(requests, engine, "a", origin)
    first, typed = await ask(requests, engine, "b", prefix="x"), await ask(requests, engine, "b")
    assert await result(first) is None
    assert len(engine.asked) == 1
    engine.heard.clear()
    engine.asked[0][0].set_result(FILL)
    assert await result(explicit) is FILL
    await asyncio.wait_for(engine.heard.wait(), WAIT_S)
    engine.asked[1][0].set_result(FILL)
    assert await result(typed) is FILL
    assert not requests.busy


async def test_waiting_requests_can_be_superseded_and_cancelled() -> None:
    requests, engine = Requests(), SlowEngine()
    explicit = await ask(requests, engine, "a", "action")
    edited, cancelled = await ask(requests, engine, "b"), await ask(requests, engine, "c")
    requests.supersede("b")
    assert await result(edited) is None
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await result(cancelled)
    off = await ask(requests, engine, "b")
    requests.supersede_all()
    assert [await result(task) for task in (off, explicit)] == [None, None]
    assert len(engine.asked) == 1
    assert not requests.busy


@pytest.mark.parametrize("how", ["cancelled", "failed", "edited"])
async def test_waiting_requests_start_however_the_explicit_request_ends(how: str) -> None:
    requests, engine = Requests(), SlowEngine()
    explicit, typed = await ask(requests, engine, "a", "action"), await ask(requests, engine, "b")
    assert len(engine.asked) == 1
    if how == "cancelled":
        explicit.cancel()
    elif how == "failed":
        engine.asked[0][0].set_exception(RuntimeError("broken"))
    else:
        requests.supersede("a")
    engine.heard.clear()
    await asyncio.wait_for(engine.heard.wait(), WAIT_S)
    engine.asked[1][0].set_result(FILL)
    assert await result(typed) is FILL
    await asyncio.gather(explicit, return_exceptions=True)


async def test_explicit_requests_never_wait_and_typing_in_their_document_supersedes_them() -> None:
    requests, engine = Requests(), SlowEngine()
    action, invoked = await ask(requests, engine, "a", "action"), await ask(requests, engine, "b", "invoked")
    assert len(engine.asked) == 2
    engine.asked[1][0].set_result(FILL)
    assert await result(invoked) is FILL
    typed = await ask(requests, engine, "a")
    assert await result(action) is None
    engine.asked[2][0].set_result(FILL)
    assert await result(typed) is FILL


async def test_several_requests_for_one_action_share_a_fill() -> None:
    requests, engine = Requests(), SlowEngine()
    tasks = [await ask(requests, engine, "a", "action") for _ in range(3)]
    [(future, stop)] = engine.asked
    for task in tasks[:2]:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await result(task)
    assert requests.busy
    assert not stop.is_set()
    future.set_result(FILL)
    assert await result(tasks[2]) is FILL
    assert not requests.busy


async def test_a_shared_fill_is_stopped_with_its_last_request() -> None:
    requests, engine = Requests(), SlowEngine()
    tasks = [await ask(requests, engine, "a", "action") for _ in range(3)]
    for task in reversed(tasks):
        assert not engine.asked[0][1].is_set()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await result(task)
    assert engine.asked[0][1].is_set()
    assert not requests.busy
    tasks = [await ask(requests, engine, "a", "action") for _ in range(2)]
    other = await ask(requests, engine, "a", "action", prefix="x")
    assert [await result(task) for task in tasks] == [None, None]
    engine.asked[2][0].set_exception(RuntimeError("broken"))
    with pytest.raises(RuntimeError, match="broken"):
        await result(other)
