"""The router as the server sees it: who is asked, who answers, and what is recorded."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from midspan.engine.api import Budget, Fill, Frame, Hole, Line, RemoteError
from midspan.server.router.alarm import Ring
from midspan.server.router.asks import Wish
from midspan.server.router.members import Member
from midspan.server.router.policy import DEFAULT, Hedge, Policy
from midspan.server.router.race import LinkedStop
from midspan.server.router.router import ONLY, Router
from tests.server.router.fakes import BETWEEN, LINE_END, Clock, Fake, fill_of, local, means, member

SECOND = Budget(deadline_s=1.0)


def by_default(clock: Clock, *, here: Fake, there: Fake, policy: Policy = DEFAULT) -> Router:
    """An engine here, which comes first between lines, and one there, which comes first at a line's end."""
    return Router([local(here), member("there", there)], policy, means=means(clock))


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_single_engine_is_passed_through(clock: Clock) -> None:
    here, stop, frames = Fake(clock), threading.Event(), list[Frame]()
    router = Router([local(here)], means=means(clock))
    future = router.fill(LINE_END, SECOND, stop=stop, on_frame=frames.append)
    assert here.asked == [(LINE_END, SECOND, stop, frames.append)]
    clock.pass_by(0.25)
    here.answer()
    assert future is here.futures[0]
    assert router.about == here.about
    assert router.last is not None
    assert (router.last.choice.reason, router.last.answered_by, router.last.ms) == (ONLY, "diffusion", 250.0)


@pytest.mark.parametrize(
    ("hole", "by"),
    [
        (LINE_END, "there"),
        (replace(LINE_END, suffix=")\n"), "diffusion"),
        (BETWEEN, "diffusion"),
        (replace(BETWEEN, suffix=" \n"), "there"),
        (replace(BETWEEN, draft="a", strength=0.5), "diffusion"),
    ],
)
def test_the_gap_decides_who_is_asked(clock: Clock, hole: Hole, by: str) -> None:
    here, there = Fake(clock, takes_s=0.05), Fake(clock, takes_s=0.05)
    router = by_default(clock, here=here, there=there)
    future = router.fill(hole, SECOND)
    clock.pass_by(0.05)
    assert future.result(0).engine == by
    assert len(here.asked) + len(there.asked) == 1
    assert future.result(0).latency.total == pytest.approx(50)


def test_who_is_too_slow_for_the_deadline_comes_after_who_is_not(clock: Clock) -> None:
    here, there = Fake(clock, takes_s=0.05), Fake(clock, takes_s=0.5)
    router = by_default(clock, here=here, there=there, policy=Policy(hedge=Hedge(on=False)))
    for budget, by in ((Budget(deadline_s=2.0), "there"), (Budget(deadline_s=0.4), "diffusion")):
        future = router.fill(LINE_END, budget)
        clock.pass_by(1.0)
        assert future.result(0).engine == by
    assert router.last is not None
    # What has been measured of it is in the record, and it is quicker than its prior where nothing has.
    assert [round(1000 * one.p90_s) for one in router.last.choice.candidates] == [100, 500]


def test_an_explicit_request_takes_the_best(clock: Clock) -> None:
    here, there = Fake(clock, takes_s=0.1), Fake(clock, takes_s=0.1)
    router = by_default(clock, here=here, there=there, policy=Policy(quality={"there": 1.0}))
    for origin, by in (("typing", "diffusion"), ("invoked", "there")):
        future = router.wishing(Wish(origin=origin)).fill(BETWEEN, SECOND)  # type: ignore[arg-type]
        clock.pass_by(0.1)
        assert future.result(0).engine == by


def test_a_hedge_begins_past_p90_and_the_loser_is_stopped(clock: Clock) -> None:
    here, there = Fake(clock), Fake(clock, takes_s=0.2)
    router = by_default(clock, here=here, there=there)
    future = router.fill(BETWEEN, SECOND)
    clock.pass_by(0.099)
    assert not there.asked
    clock.pass_by(0.002)
    assert len(there.asked) == 1
    # It is asked for what is left of the deadline, less a margin.
    assert there.asked[0][1].deadline_s == pytest.approx(0.85)
    clock.pass_by(0.2)
    assert future.result(0).engine == "there"
    assert here.asked[0][2].is_set()
    here.answer()
    assert router.last is not None
    assert [(one.name, one.role, one.outcome) for one in router.last.attempts] == [
        ("diffusion", "first", "overtaken"),
        ("there", "hedge", "answered"),
    ]


def test_no_hedge_begins_with_less_than_its_share_left(clock: Clock) -> None:
    here, there = Fake(clock), Fake(clock, takes_s=0.01)
    router = by_default(clock, here=here, there=there)
    future = router.fill(BETWEEN, Budget(deadline_s=0.14))
    clock.pass_by(0.2)
    assert future.result(0).stopped == "deadline"
    assert not there.asked


def test_the_first_engine_may_still_win_over_its_hedge(clock: Clock) -> None:
    here, there = Fake(clock, takes_s=0.15), Fake(clock)
    future = by_default(clock, here=here, there=there).fill(BETWEEN, SECOND)
    clock.pass_by(0.15)
    assert future.result(0).engine == "diffusion"
    assert there.asked[0][2].is_set()


@pytest.mark.parametrize("error", [RuntimeError("broken"), RemoteError("there: refused", status=500)])
def test_a_failed_engine_is_replaced_once(clock: Clock, error: Exception) -> None:
    here, there = Fake(clock, takes_s=0.05), Fake(clock, takes_s=0.05, error=error)
    router = by_default(clock, here=here, there=there)
    future = router.fill(LINE_END, SECOND)
    clock.pass_by(0.1)
    assert future.result(0).engine == "diffusion"
    assert router.last is not None
    assert [(one.role, one.outcome) for one in router.last.attempts] == [("first", "failed"), ("fallback", "answered")]
    here.error = RuntimeError("this one, too")
    future = router.fill(LINE_END, SECOND)
    clock.pass_by(0.1)
    assert isinstance(future.exception(0), RuntimeError | RemoteError)
    assert (len(here.asked), len(there.asked)) == (2, 2)


def test_no_engine_is_asked_that_cannot_be_in_time(clock: Clock) -> None:
    here, there = Fake(clock, takes_s=0.05), Fake(clock, takes_s=0.95, error=RuntimeError("broken"))
    router = by_default(clock, here=here, there=there, policy=Policy(hedge=Hedge(on=False)))
    future = router.fill(LINE_END, SECOND)
    clock.pass_by(1.0)
    assert isinstance(future.exception(0), RuntimeError)
    assert not here.asked


def test_what_is_not_valid_is_asked_of_another_engine_and_never_shown(clock: Clock) -> None:
    here, there = Fake(clock, text="a = (", takes_s=0.05), Fake(clock, text="a = 1", takes_s=0.05)
    said = lambda _, fill: "breaks the syntax" if "(" in fill.text else None  # noqa: E731
    router = Router([local(here), member("there", there)], means=means(clock), validate=said)
    future = router.fill(BETWEEN, SECOND)
    clock.pass_by(0.1)
    assert (future.result(0).text, future.result(0).engine) == ("a = 1", "there")
    assert router.last is not None
    assert "first diffusion: invalid (breaks the syntax)" in router.last.line()
    there.text = "b = ("
    future = router.fill(BETWEEN, SECOND)
    clock.pass_by(0.1)
    assert future.result(0).candidates == ()


@pytest.mark.parametrize("fails", [True, False])
def test_candidates_that_are_valid_are_the_answer_if_no_other_engine_has_one(clock: Clock, fails: bool) -> None:
    here = Fake(clock, text="a = (", others=("b", "c = (", "d"), takes_s=0.05)
    there = Fake(clock, text="", error=RuntimeError("broken") if fails else None, takes_s=0.05)
    said = lambda _, fill: "breaks the syntax" if "(" in fill.text else None  # noqa: E731
    router = Router([local(here), member("there", there)], means=means(clock), validate=said)
    future = router.fill(BETWEEN, SECOND)
    clock.pass_by(0.1)
    assert there.asked
    assert (future.result(0).text, future.result(0).engine) == ("b", "diffusion")
    assert [one.text for one in future.result(0).candidates] == ["b", "d"]
    assert router.last is not None
    assert (router.last.outcome, router.last.answered_by) == ("answered", "diffusion")


class CancelledInBetween(Ring):
    """Something else happens just as it is cancelled."""

    def __init__(self, call: Callable[[], object], happens: list[Callable[[], object]]) -> None:
        super().__init__(call)
        self._happens = happens

    def cancel(self) -> None:
        super().cancel()
        if self._happens:
            self._happens.pop(0)()


def test_what_ends_while_the_deadline_is_answered_changes_nothing(clock: Clock) -> None:
    here, there, calls, happens = Fake(clock), Fake(clock), list[Callable[[], object]](), list[Callable[[], object]]()

    def later(seconds: float, call: Callable[[], object]) -> Ring:
        calls.append(call)
        return CancelledInBetween(call, happens)

    router = Router([local(here), member("there", there)], means=replace(means(clock), later=later))
    future = router.fill(BETWEEN, SECOND)
    give_up, hedge = calls
    happens += [hedge, here.answer]
    give_up()
    assert future.result(0).stopped == "deadline"
    assert not there.asked


def test_an_empty_fill_is_an_answer_unless_the_policy_says_otherwise(clock: Clock) -> None:
    for fall_back, by in ((DEFAULT.fall_back, "diffusion"), (("empty",), "there")):
        here, there = Fake(clock, text="", takes_s=0.01), Fake(clock, takes_s=0.01)
        router = by_default(clock, here=here, there=there, policy=Policy(fall_back=fall_back))
        future = router.fill(BETWEEN, SECOND)
        clock.pass_by(0.05)
        assert future.result(0).engine == by


def test_the_deadline_holds_even_if_an_engine_hangs(clock: Clock) -> None:
    here, there = Fake(clock), Fake(clock)
    router = by_default(clock, here=here, there=there)
    future = router.fill(BETWEEN, SECOND)
    clock.pass_by(0.999)
    assert not future.done()
    clock.pass_by(0.001)
    assert future.result(0).stopped == "deadline"
    assert all(stop.is_set() for _, _, stop, _ in (*here.asked, *there.asked))
    here.answer()
    there.answer()


def test_a_stop_reaches_every_engine(clock: Clock) -> None:
    here, there, stop = Fake(clock), Fake(clock), threading.Event()
    future = by_default(clock, here=here, there=there).fill(BETWEEN, SECOND, stop=stop)
    clock.pass_by(0.2)
    stop.set()
    assert here.asked[0][2].is_set()
    assert there.asked[0][2].is_set()
    here.answer()
    assert future.result(0).stopped == "cancelled"
    there.answer()


def test_whoever_waits_for_a_stop_is_woken_by_the_requests_own() -> None:
    stop = threading.Event()
    linked = LinkedStop(stop)
    assert not linked.wait(0.001)
    timer = threading.Timer(0.02, stop.set)
    timer.start()
    assert linked.wait(10)
    timer.join()


def test_an_engine_that_took_a_newer_request_is_replaced(clock: Clock) -> None:
    here, there = Fake(clock), Fake(clock, takes_s=0.05)
    future = by_default(clock, here=here, there=there).fill(BETWEEN, SECOND)
    here.futures[0].set_result(replace(fill_of(""), stopped="cancelled"))
    clock.pass_by(0.05)
    assert future.result(0).engine == "there"


def test_frames_come_from_one_engine_and_not_after_the_answer(clock: Clock) -> None:
    here, there, frames = Fake(clock), Fake(clock, takes_s=0.1), list[Frame]()
    frame = Frame(step=1, steps=2, text="a", cells=(), settled=False)
    by_default(clock, here=here, there=there).fill(BETWEEN, SECOND, on_frame=frames.append)
    clock.pass_by(0.1)
    on_frame = here.asked[0][3]
    assert on_frame is not None
    assert there.asked[0][3] is None
    on_frame(frame)
    clock.pass_by(0.1)
    on_frame(frame)
    assert frames == [frame]


def test_languages_and_context_are_those_of_all_engines(clock: Clock) -> None:
    here, there = Fake(clock, takes_s=0.01), Fake(clock, takes_s=0.01)
    there.about = replace(there.about, languages=("go", "python"), context_tokens=500, checkpoint="far away")
    router = by_default(clock, here=here, there=there)
    assert router.about == replace(here.about, languages=("python", "go"), context_tokens=500)
    assert (router.about_of("there").checkpoint, router.about_of("").checkpoint) == ("far away", "scripted")
    # Whoever was trained on a language comes first for it.
    future = router.fill(replace(BETWEEN, language="go"), SECOND)
    clock.pass_by(0.01)
    assert future.result(0).engine == "there"


def test_closing_ends_every_engine(clock: Clock) -> None:
    here, there = Fake(clock), Fake(clock)
    by_default(clock, here=here, there=there).close()
    assert here.closed
    assert there.closed


def answers(router: Router, clock: Clock, count: int, hole: Hole = LINE_END) -> Sequence[Fill]:
    """So many requests, one after the other."""
    found = []
    for _ in range(count):
        future = router.fill(hole, SECOND)
        clock.pass_by(1.0)
        found.append(future.result(0))
    return found


def test_an_engine_whose_fills_are_not_valid_leaves_automatic_use(clock: Clock) -> None:
    here, there = Fake(clock, takes_s=0.01), Fake(clock, text="(", takes_s=0.01)
    said = lambda _, fill: "breaks the syntax" if "(" in fill.text else None  # noqa: E731
    router = Router([local(here), member("there", there)], means=means(clock), validate=said)
    answers(router, clock, 50)
    assert len(there.asked) == 50
    answers(router, clock, 1)
    assert len(there.asked) == 50
    assert router.last is not None
    assert "rollback: 0 of its last 50 fills were valid, and 70% is its floor" in router.last.line()
    router.wishing(Wish(origin="invoked", engine="there")).fill(LINE_END, SECOND)
    assert len(there.asked) == 51


def test_an_engine_whose_suggestions_nobody_keeps_leaves_automatic_use(clock: Clock) -> None:
    here, there = Fake(clock, takes_s=0.01), Fake(clock, takes_s=0.01)
    router = by_default(clock, here=here, there=there)
    for number in range(50):
        router.offered(f"id {number}", "there")
    router.kept("id 7")
    answers(router, clock, 1)
    assert len(there.asked) == 1
    for number in range(50, 58):
        router.offered(f"id {number}", "there")
    [fill] = answers(router, clock, 1)
    assert fill.engine == "diffusion"
    # The engine of this process stays: it is the last resort.
    for number in range(60):
        router.offered(f"own {number}", "diffusion")
    [fill] = answers(router, clock, 1)
    assert fill.engine == "diffusion"


def members_named(*names: str) -> list[Member]:
    clock = Clock()
    return [local(Fake(clock)), *(member(name, Fake(clock)) for name in names)]


def test_an_engine_that_is_chosen_and_unknown_is_named(clock: Clock) -> None:
    router = Router(members_named(), means=means(clock))
    future = router.wishing(Wish(engine="big")).fill(LINE_END, SECOND)
    assert future.result(0).candidates == ()
    assert router.last is not None
    assert router.last.line().startswith("line_end (typing): no engine is named big; midspan backends lists")


def test_two_readings_of_one_checkpoint_are_not_asked_at_once(clock: Clock) -> None:
    canvases, beams = Fake(clock, takes_s=0.5), Fake(clock, takes_s=0.1)
    other = member("autoregressive", beams, "in_process")
    router = Router([local(canvases), other], means=means(clock))
    future = router.fill(BETWEEN, SECOND)
    clock.pass_by(0.5)
    assert future.result(0).engine == "diffusion"
    assert not beams.asked


def test_an_engine_sees_no_file_that_is_excluded_for_it_nor_snippets_that_may_be_of_one(clock: Clock) -> None:
    here, there = Fake(clock, takes_s=0.01), Fake(clock, takes_s=0.01)
    router = Router([local(here), replace(member("there", there), exclude=("*.sql",))], means=means(clock))
    hole = replace(LINE_END, context=("SELECT 1",), other_lines=(Line("a", "b", "c"),))
    for uri in ("file:///project/a.sql", "file:///project/a.py"):
        router.wishing(Wish(uri=uri)).fill(hole, SECOND)
        clock.pass_by(0.01)
    assert [asked[0] for asked in here.asked] == [hole]
    assert [asked[0] for asked in there.asked] == [LINE_END]
    record = router.last_for("file:///project/a.sql")
    assert record is not None
    assert "there left out by exclusion: its pattern names this file" in record.line()
