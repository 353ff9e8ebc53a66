"""One request on its way: the first engine, at most one hedge, at most one fallback, and exactly one answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial

from midspan.engine.api import Budget, Fill, Frame, Hole, Latency, OnFrame, Stopped
from midspan.server.router.alarm import Ring
from midspan.server.router.choosing import filtered, p90_of
from midspan.server.router.policy import Failing, Policy
from midspan.server.router.records import Attempted, Outcome, Record, Role
from midspan.server.router.seats import Seat, line_of

# Engines are given somewhat less than is left, so that what they have by then is in time.
MARGIN, MOST_MARGIN_S = 0.1, 0.05
POLL_S = 0.01
Later = Callable[[float, Callable[[], object]], Ring]
Validate = Callable[[Hole, Fill], str | None]
"""(hole, fill) -> why the fill may not be shown, a few words without code; None if it may."""


class LinkedStop(threading.Event):
    """An engine's own stop, which is set with the request's as well."""

    def __init__(self, request: threading.Event) -> None:
        super().__init__()
        self._request = request

    def is_set(self) -> bool:
        """Whether the engine or the whole request is stopped."""
        return super().is_set() or self._request.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for either."""
        end = None if timeout is None else time.monotonic() + timeout
        while not self.is_set() and (end is None or time.monotonic() < end):
            super().wait(POLL_S if end is None else min(POLL_S, max(0.0, end - time.monotonic())))
        return self.is_set()


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What an engine is asked."""

    hole: Hole
    budget: Budget
    stop: threading.Event
    on_frame: OnFrame | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a race goes by.

    `learn` is told of each attempt's end, and of its error; `finished` of the record before the answer, and `answered`
    behind it: nobody waits for that.
    """

    policy: Policy
    clock: Callable[[], float]
    later: Later
    validate: Validate | None
    learn: Callable[[Seat, Record, Attempted, BaseException | None], None]
    finished: Callable[[Record], None]
    answered: Callable[[Record], None]


@dataclass(slots=True, eq=False, kw_only=True)
class _Attempt:
    seat: Seat
    noted: Attempted
    began: float
    stop: LinkedStop

    @property
    def running(self) -> bool:
        return self.noted.outcome == "open"

    def end(self, outcome: Outcome, now: float, why: str = "") -> None:
        self.noted.outcome, self.noted.why, self.noted.ms = outcome, why, 1000 * (now - self.began)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Result:
    """What an attempt has come to. It ends the race unless it is `failing`; `fill` is the answer if none is better."""

    outcome: Outcome
    fill: Fill | None = None
    error: BaseException | None = None
    failing: Failing | None = None
    why: str = ""

    @property
    def worth(self) -> tuple[bool, bool, bool]:
        """Which of two results is the better answer: one with a text, one that ends the race, one without an error."""
        return self.fill is not None and bool(self.fill.candidates), self.failing is None, self.fill is not None


class Race:
    """Begin it once with `start`; `future` gets the answer."""

    def __init__(self, given: Given, record: Record, rules: Rules) -> None:
        self.future = Future[Fill]()
        self._given, self._record, self._rules = given, record, rules
        self._attempts: list[_Attempt] = []
        self._rings: list[Ring] = []
        self._lock = threading.Lock()
        self._best: tuple[_Result, str] | None = None
        self._over = False
        self._began = rules.clock()

    def start(self) -> Future[Fill]:
        """Ask the first engine of the order, and set the clocks. There must be one."""
        order, ask, policy = self._record.choice.order, self._record.ask, self._rules.policy
        with self._lock:
            first = self._reserve(order[0], "first")
        if ask.deadline_s is not None:
            self._rings.append(self._rules.later(ask.deadline_s, self._give_up))
            p90_s = p90_of(order[0], ask, policy)
            may_hedge = policy.hedge.on and len(order) > 1 and not ask.wish.once
            if may_hedge and ask.deadline_s - p90_s >= policy.hedge.left * ask.deadline_s:
                self._rings.append(self._rules.later(p90_s, self._hedge))
        self._begin(first)
        return self.future

    def _left_s(self) -> float | None:
        deadline_s = self._record.ask.deadline_s
        return None if deadline_s is None else deadline_s - (self._rules.clock() - self._began)

    def _reserve(self, seat: Seat, role: Role) -> _Attempt:
        """Note that an engine is asked; the lock is held."""
        noted, stop = Attempted(name=seat.member.name, role=role), LinkedStop(self._given.stop)
        attempt = _Attempt(seat=seat, noted=noted, began=self._rules.clock(), stop=stop)
        self._attempts.append(attempt)
        self._record.attempts.append(noted)
        return attempt

    def _begin(self, attempt: _Attempt) -> None:
        """Ask the engine."""
        budget, left_s, given, engine = self._given.budget, self._left_s(), self._given, attempt.seat.engine
        assert engine is not None  # what is not connected is filtered
        sure = budget.min_confidence
        if sure and self._record.ask.wish.own_threshold and attempt.seat.member.tier != "in_process":
            sure = engine.about.show_threshold
        if left_s is not None:
            left_s = max(0.001, left_s - min(MOST_MARGIN_S, MARGIN * left_s))
        budget = replace(budget, deadline_s=left_s, min_confidence=sure)
        hole = given.hole
        if attempt.seat.member.exclude:
            # Snippets do not say which file they are of.
            hole = replace(hole, context=(), other_lines=())
        shows = given.on_frame is not None and attempt.noted.role != "hedge"
        on_frame = partial(self._frame, attempt) if shows else None
        try:
            future = engine.fill(hole, budget, stop=attempt.stop, on_frame=on_frame)
        except (RuntimeError, ValueError) as error:
            # It is closed, or refuses the hole.
            future = Future()
            future.set_exception(error)
        future.add_done_callback(partial(self._ended, attempt))

    def _frame(self, attempt: _Attempt, frame: Frame) -> None:
        if attempt.running and self._given.on_frame is not None:
            self._given.on_frame(frame)

    def _ended(self, attempt: _Attempt, future: Future[Fill]) -> None:
        """An engine is done: answer, wait for another one that runs, or fall back."""
        result, fallback = self._result(attempt, future), None
        with self._lock:
            # The deadline may have come: who has set `_over` ends what still runs.
            if self._over or not attempt.running:
                return
            attempt.end(result.outcome, self._rules.clock(), result.why)
            if self._best is None or result.worth > self._best[0].worth:
                self._best = result, attempt.noted.name
            wait = result.failing is not None and any(one.running for one in self._attempts)
            if result.failing is not None and not wait and (seat := self._another(result.failing)) is not None:
                fallback = self._reserve(seat, "fallback")
            self._over = over = not wait and fallback is None
        if over:
            # Whoever waits need not wait for what is learnt of it.
            self._answer()
        self._rules.learn(attempt.seat, self._record, attempt.noted, result.error)
        if fallback is not None:
            self._begin(fallback)

    def _result(self, attempt: _Attempt, future: Future[Fill]) -> _Result:
        """What an engine's outcome is worth."""
        if future.cancelled():
            return _Result(outcome="cancelled", fill=empty("cancelled"), failing="failed")
        if (error := future.exception()) is not None:
            return _Result(outcome="failed", error=error, failing="failed", why=line_of(error))
        fill = future.result()
        if fill.stopped == "cancelled":
            # Without a stop it was given up for a newer request.
            return _Result(outcome="cancelled", fill=fill, failing=None if attempt.stop.is_set() else "failed")
        if not fill.candidates and fill.stopped == "deadline":
            return _Result(outcome="late", fill=fill, failing="failed")
        if not fill.candidates:
            failing: Failing | None = "empty" if "empty" in self._rules.policy.fall_back else None
            return _Result(outcome="empty", fill=fill, failing=failing)
        if (wrong := self._wrong(fill)) is not None:
            return _Result(outcome="invalid", fill=self._valid_part(fill), failing="invalid", why=wrong)
        return _Result(outcome="answered", fill=fill)

    def _wrong(self, fill: Fill) -> str | None:
        return None if self._rules.validate is None else self._rules.validate(self._given.hole, fill)

    def _valid_part(self, fill: Fill) -> Fill:
        """The candidates that may be shown, where the best one may not: the answer if no other engine has one."""
        alone = (replace(fill, text=one.text, candidates=(one,)) for one in fill.candidates[1:])
        kept = tuple(one.candidates[0] for one in alone if self._wrong(one) is None)
        if not kept:
            return empty("empty")
        return replace(fill, text=kept[0].text, confidence=kept[0].confidence, candidates=kept)

    def _another(self, failing: Failing) -> Seat | None:
        """Who may still be asked: once, in time, and not after a stop; the lock is held."""
        over = self._record.ask.wish.once or self._record.fell_back
        if over or failing not in self._rules.policy.fall_back or self._given.stop.is_set():
            return None
        return self._next_in_time()

    def _next_in_time(self) -> Seat | None:
        left_s, tried, rules, ask = self._left_s(), [one.seat for one in self._attempts], self._rules, self._record.ask
        for seat in self._record.choice.order:
            in_time = left_s is None or p90_of(seat, ask, rules.policy) <= left_s
            # Since the choice was made its circuit may have opened.
            if seat not in tried and in_time and not filtered(seat, ask, rules.policy, rules.clock()):
                return seat
        return None

    def _hedge(self) -> None:
        """The first engine has passed its p90: ask the next one beside it, if that can be in time."""
        with self._lock:
            alone = not self._over and len(self._attempts) == 1 and self._attempts[0].running
            seat = self._next_in_time() if alone and not self._given.stop.is_set() else None
            # Two readings of one checkpoint share its worker: the second would end the first.
            if seat is None or (seat.member.here and self._attempts[0].seat.member.here):
                return
            hedge = self._reserve(seat, "hedge")
        self._begin(hedge)

    def _give_up(self) -> None:
        """The deadline has come: answer with nothing."""
        with self._lock:
            if self._over:
                return
            self._over = True
        self._answer("late")

    def _answer(self, left: Outcome = "overtaken") -> None:
        """Stop whoever still works, close the record, and answer; only who has set `_over` comes here."""
        for ring in self._rings:
            ring.cancel()
        with self._lock:
            working = [one for one in self._attempts if one.running]
            for one in working:
                one.end(left, self._rules.clock())
                one.stop.set()
        for one in working:
            self._rules.learn(one.seat, self._record, one.noted, None)
        result, name = self._best or (_Result(outcome="late", fill=empty("deadline")), "")
        record, total = self._record, 1000 * (self._rules.clock() - self._began)
        # What is left of a fill whose best candidate is not valid is an answer, too.
        answered = result.worth[0]
        record.ms, record.outcome = total, "answered" if answered else result.outcome
        record.answered_by = name if answered else ""
        self._rules.finished(record)
        if result.fill is None:
            assert result.error is not None
            self.future.set_exception(result.error)
        else:
            latency = replace(result.fill.latency, total=total)
            self.future.set_result(replace(result.fill, engine=name, latency=latency))
        self._rules.answered(record)


def empty(stopped: Stopped) -> Fill:
    """A fill that inserts nothing."""
    latency = Latency(total=0.0, encode=0.0, denoise=0.0, rank=0.0)
    return Fill(text="", confidence=0.0, candidates=(), steps=0, stopped=stopped, latency=latency)
