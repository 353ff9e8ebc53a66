"""typing_demand.py: people who type at an engine that takes its time."""

from __future__ import annotations

import threading

from benchmarks.typing_demand import Later, demand
from midspan.engine.api import Budget, Hole
from midspan.server.bench.people import Rhythm

HOLE = Hole(prefix="a = ", suffix="\n")
WAIT_S = 20.0


def test_an_engine_answers_after_its_time_or_when_it_is_stopped() -> None:
    quick, slow = Later(0.0), Later(3600.0)
    assert quick.fill(HOLE, Budget()).result(WAIT_S).stopped == "empty"
    stop = threading.Event()
    begun, other = slow.fill(HOLE, Budget(), stop=stop), slow.fill(HOLE, Budget())
    stop.set()
    assert begun.result(WAIT_S).stopped == "cancelled"
    assert not other.done()
    quick.close()
    slow.close()


def test_the_slower_an_answer_the_more_are_under_way() -> None:
    rhythm = Rhythm(key_s=0.2, line_s=0.1)
    quick, slow = (demand(delay_ms, 2.0, people=2, rhythm=rhythm) for delay_ms in (0.0, 3_600_000.0))
    assert quick["keys_per_minute"] > 60
    assert quick["answers_per_s"] > 0
    assert slow["answers_per_s"] == 0
    assert slow["cancelled"] == 1.0
    assert slow["at_once"] > quick["at_once"] > 0
