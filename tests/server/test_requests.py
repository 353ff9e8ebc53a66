"""Questions to an engine that answers only when the test says so."""

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
    """Every fill waits for the test; it does not look at `stop`."""

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
    """A question that the engine has got, unless it has to wait."""
    task = asyncio.create_task(
        requests.ask(engine, Request(uri=uri, hole=Hole(prefix=prefix, suffix=""), budget=Budget(), origin=origin))
    )
    await asyncio.sleep(0)
    return task


async def result(task: asyncio.Task[Fill | None]) -> Fill | None:
    return await asyncio.wait_for(task, WAIT_S)


async def test_the_answer_is_the_engines() -> None:
    requests, engine = Requests(), SlowEngine()
    task = await ask(requests, engine)
    [(future, stop)] = engine.asked
    threading.Thread(target=future.set_result, args=(FILL,)).start()
    assert await result(task) is FILL
    assert not stop.is_set()


async def test_a_superseded_question_is_answered_at_once_and_stopped() -> None:
    requests, engine = Requests(), SlowEngine()
    task = await ask(requests, engine)
    requests.supersede("a")
    assert await result(task) is None
    assert engine.asked[0][1].is_set()


async def test_a_newer_question_supersedes_the_older_of_its_document_only() -> None:
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


async def test_what_the_engine_raises_is_raised_and_the_next_question_works() -> None:
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


async def test_a_burst_of_keys_does_not_start_a_fill_a_key() -> None:
    now = 100.0
    requests, engine = Requests(clock=lambda: now), SlowEngine()
    tasks = [await ask(requests, engine)]
    for _ in range(5):
        now += 1.0
        tasks.append(asyncio.create_task(requests.ask(engine, PATIENT)))
        await asyncio.sleep(0)
    # Nothing was overtaken at first, and the last one is asked for explicitly.
    assert len(engine.asked) == 1
    last = await ask(requests, engine)
    assert len(engine.asked) == 2
    engine.asked[1][0].set_result(FILL)
    assert await result(last) is FILL
    assert [await result(task) for task in tasks] == [None] * 6


async def test_at_a_bursts_end_the_engine_is_asked() -> None:
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
def test_how_long_a_question_waits_for_the_next_key(since: float, most: float, overtaken: bool, waits: float) -> None:
    pace = Pace()
    pace.wait_s(100.0, 0.2, overtaken=False)
    assert pace.wait_s(100.0 + since, most, overtaken=overtaken) == pytest.approx(waits)


async def test_no_question_waits_while_fills_are_done_before_the_next_key() -> None:
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


def test_what_fills_take_follows_the_newest() -> None:
    pace = Pace()
    pace.took(0.05)
    for _ in range(20):
        pace.took(0.15)
    pace.wait_s(100.0, 0.2, overtaken=False)
    assert pace.wait_s(100.1, 0.2, overtaken=True) == pytest.approx(0.15)


async def test_a_question_that_was_looked_ahead_for_is_not_asked_again() -> None:
    now = 100.0
    requests, engine = Requests(clock=lambda: now), SlowEngine()
    requests.look_ahead(engine, REQUEST)
    engine.asked[0][0].set_result(FILL)
    fill = await result(await ask(requests, engine))
    assert fill is not None
    assert (fill.text, fill.latency.total) == (FILL.text, 0)
    assert len(engine.asked) == 1
    # It is asked afresh the next time.
    await ask(requests, engine)
    assert len(engine.asked) == 2


async def test_a_look_ahead_begins_a_moment_later_and_the_client_s_own_question_takes_its_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    requests, engine = Requests(), SlowEngine()

    def plan(uri: str) -> None:
        requests.plan_ahead(uri, lambda: requests.look_ahead(engine, replace(REQUEST, uri=uri)))

    async def timers() -> None:
        # One that is set later comes later.
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


async def test_a_look_ahead_that_still_runs_is_waited_for_and_can_be_superseded() -> None:
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


async def test_another_question_or_an_edit_stops_the_look_ahead() -> None:
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
async def test_a_look_ahead_that_came_to_nothing_is_asked_afresh(bad: Fill | Exception) -> None:
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
async def test_typing_in_another_document_waits_for_what_was_asked_for_explicitly(origin: Origin) -> None:
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


async def test_what_waits_goes_out_of_date_and_can_be_cancelled_as_ever() -> None:
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
async def test_what_waits_is_asked_however_the_explicit_question_ends(how: str) -> None:
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


async def test_what_is_asked_for_explicitly_waits_for_nothing_and_the_documents_own_typing_overtakes_it() -> None:
    requests, engine = Requests(), SlowEngine()
    action, invoked = await ask(requests, engine, "a", "action"), await ask(requests, engine, "b", "invoked")
    assert len(engine.asked) == 2
    engine.asked[1][0].set_result(FILL)
    assert await result(invoked) is FILL
    typed = await ask(requests, engine, "a")
    assert await result(action) is None
    engine.asked[2][0].set_result(FILL)
    assert await result(typed) is FILL


async def test_one_action_that_is_asked_for_several_times_is_one_question() -> None:
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


async def test_an_action_ends_with_the_last_who_waits_for_it() -> None:
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
