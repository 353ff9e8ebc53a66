"""What the server's own checks hold back: another engine's turn, the record, and what it means for the engine."""

from __future__ import annotations

import pytest

from midspan.engine.api import Budget
from midspan.server.router.asks import Wish
from midspan.server.router.router import Router
from tests.server.router.fakes import LINE_END, Clock, Fake, local, means, member

SECOND = Budget(deadline_s=1.0)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def two(clock: Clock, *, here_s: float = 0.05, there_s: float = 0.05) -> Router:
    """An engine here, and one there, which comes first at a line's end."""
    members = [local(Fake(clock, takes_s=here_s)), member("there", Fake(clock, takes_s=there_s))]
    return Router(members, means=means(clock))


def test_one_who_asks_again_gets_another_engine_if_that_can_be_in_time(clock: Clock) -> None:
    router = two(clock, there_s=0.5)
    again = router.wishing(Wish(tried=("diffusion",), once=True))
    for deadline_s, by in ((2.0, "there"), (0.4, ""), (2.0, "there")):
        future = again.fill(LINE_END, Budget(deadline_s=deadline_s))
        clock.pass_by(deadline_s)
        assert future.result(0).engine == by
        assert router.last is not None
        assert "diffusion left out by tried: its text was held back" in router.last.line()
        assert len(router.last.attempts) == bool(by)
        assert by or "none is expected within 400 ms" in router.last.line()


def test_what_came_of_an_answer_that_was_held_back_is_in_its_record(clock: Clock) -> None:
    router = two(clock)
    router.fill(LINE_END, SECOND)
    clock.pass_by(0.05)
    record = router.last
    assert record is not None
    assert (record.as_json()["held_back"], record.as_json()["remedy"]) == ([], None)
    router.held_back(record, ["name", "name", "parse"], "repaired")
    assert record.line().endswith("answered by there; held back by name, parse: repaired")
    assert (record.as_json()["held_back"], record.as_json()["remedy"]) == (["name", "name", "parse"], "repaired")


def test_an_engine_whose_fills_the_server_holds_back_leaves_automatic_use(clock: Clock) -> None:
    router, lines = two(clock), list[str]()
    for number in range(51):
        router.fill(LINE_END, SECOND)
        clock.pass_by(1.0)
        record = router.last
        assert record is not None
        assert record.answered_by == ("there" if number < 50 else "diffusion")
        router.held_back(record, ["name"], "nothing")
        lines.append(record.line())
    assert "rollback: 0 of its last 50 fills were valid, and 70% is its floor" in lines[-1]
