"""A request that follows an answer at once, as a repair does: it waits for no key, and says nothing of their pace."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from midspan.server.requests import Requests
from tests.server.test_requests import FILL, PATIENT, SlowEngine, ask, result


async def test_one_that_asks_again_begins_at_once_and_says_nothing_of_the_pace() -> None:
    now = 100.0
    requests, engine = Requests(clock=lambda: now), SlowEngine()
    first = await ask(requests, engine)
    now += 1.5
    engine.asked[0][0].set_result(FILL)
    assert await result(first) is FILL
    overtaken = await ask(requests, engine)
    requests.supersede("a")
    assert await result(overtaken) is None
    again = asyncio.create_task(requests.ask(engine, replace(PATIENT, again=True)))
    await asyncio.sleep(0)
    assert len(engine.asked) == 3
    now += 0.1
    engine.asked[2][0].set_result(FILL)
    assert await result(again) is FILL
    # The next one still waits, as fills take 1.5 s and one was overtaken.
    now += 1.0
    waits = asyncio.create_task(requests.ask(engine, PATIENT))
    await asyncio.sleep(0)
    assert len(engine.asked) == 3
    requests.supersede("a")
    assert await result(waits) is None
