"""The real clock: calls are made in the order of their times, unless they are cancelled."""

from __future__ import annotations

import threading
import weakref

from midspan.server.router.alarm import Alarm

WAIT_S = 20


def test_calls_are_made_in_order_and_not_if_cancelled() -> None:
    alarm, made, over = Alarm(), list[str](), threading.Event()
    alarm.later(0.05, over.set)
    alarm.later(0.02, lambda: made.append("second"))
    alarm.later(0.03, lambda: made.append("cancelled")).cancel()
    alarm.later(0.0, lambda: made.append("first"))
    assert over.wait(WAIT_S)
    assert made == ["first", "second"]
    alarm.close()


def test_nothing_is_called_after_the_end() -> None:
    alarm, made = Alarm(), list[str]()
    alarm.later(0.01, lambda: made.append("late"))
    alarm.close()
    other, over = Alarm(), threading.Event()
    other.later(0.05, over.set)
    assert over.wait(WAIT_S)
    other.close()
    assert made == []


def test_what_is_cancelled_is_not_kept_and_a_sooner_call_is_made_in_time() -> None:
    alarm, over = Alarm(), threading.Event()
    rings = [alarm.later(3600.0, over.set) for _ in range(100)]
    kept = [weakref.ref(ring) for ring in rings]
    for ring in rings:
        ring.cancel()
    del ring, rings
    alarm.later(7200.0, over.set)
    assert [ref() for ref in kept] == [None] * 100
    alarm.later(0.0, over.set)
    assert over.wait(WAIT_S)
    alarm.close()
