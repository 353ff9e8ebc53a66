"""The router: an Engine that hands each request to the right one of several, and is told what became of it."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import partial

from midspan.engine.api import About, Budget, Engine, Fill, Hole, OnFrame, RemoteError
from midspan.server.router.alarm import Alarm
from midspan.server.router.asks import AUTO, Ask, Wish, ask_of
from midspan.server.router.choosing import Candidate, Choice, choose
from midspan.server.router.members import Member
from midspan.server.router.policy import DEFAULT, Policy
from midspan.server.router.race import Given, Later, Race, Rules, Validate, empty
from midspan.server.router.records import Attempted, Outcome, Record
from midspan.server.router.seats import Seat

log = logging.getLogger(__name__)

RECORDS, OFFERS = 100, 1000
ANYBODY = Wish()
ONLY = "the only engine"


def in_background(call: Callable[[], None]) -> None:
    """Make a call that may take long on a thread of its own."""
    threading.Thread(target=call, name="midspan-probe", daemon=True).start()


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """Time and threads, and who is told: `tell` of what a user must fix, `changed` when an engine comes or goes."""

    clock: Callable[[], float] = time.perf_counter
    later: Later | None = None
    background: Callable[[Callable[[], None]], None] = in_background
    tell: Callable[[str], object] = field(default=log.warning)
    changed: Callable[[], object] = field(default=lambda: None)


class Router:
    """Several engines as one. The first member must be in this process, or connected before anything is asked.

    With a single member, in this process, it passes requests through. Engines elsewhere are connected
    and probed in the background.
    """

    def __init__(
        self,
        members: Sequence[Member],
        policy: Policy = DEFAULT,
        *,
        means: Means | None = None,
        validate: Validate | None = None,
    ) -> None:
        self.policy, self._means = policy, means or Means()
        self.records: deque[Record] = deque(maxlen=RECORDS)
        self._alarm = Alarm()
        self._lock = threading.Lock()
        self._closed = False
        self._seats = [Seat(member, policy) for member in members]
        self._offers: OrderedDict[str, Seat] = OrderedDict()
        later = self._means.later or self._alarm.later
        self._rules = Rules(
            policy=policy,
            clock=self._means.clock,
            later=later,
            validate=validate,
            learn=self._learn,
            finished=self._finished,
        )
        for seat in self._seats:
            if not seat.member.here:
                self._means.background(partial(self._probe, seat))

    # An engine, to whoever asks.

    @property
    def about(self) -> About:
        """The first engine's, with the languages and the context of all that are connected."""
        first = self.about_of("")
        if len(self._seats) == 1:
            return first
        known = [seat.engine.about for seat in self._seats if seat.engine is not None]
        return replace(
            first,
            languages=tuple(dict.fromkeys(language for about in known for language in about.languages)),
            context_tokens=max(about.context_tokens for about in known),
            reads_other_lines=any(about.reads_other_lines for about in known),
            actions=tuple(dict.fromkeys(action for about in known for action in about.actions)),
        )

    def about_of(self, name: str) -> About:
        """What the engine of this name has loaded; the first engine's for one that is not known, or gone."""
        named = (seat.engine for seat in self._seats if seat.member.name == name)
        engine = next(filter(None, named), None) or self._seats[0].engine
        assert engine is not None
        return engine.about

    def fill(
        self, hole: Hole, budget: Budget, *, stop: threading.Event | None = None, on_frame: OnFrame | None = None
    ) -> Future[Fill]:
        """Begin a fill for nobody in particular."""
        return self.route(Given(hole=hole, budget=budget, stop=stop or threading.Event(), on_frame=on_frame), ANYBODY)

    def wishing(self, wish: Wish) -> Engine:
        """The router, as one who wishes so sees it."""
        return _Wishing(self, wish)

    def close(self) -> None:
        """End every engine."""
        self._closed = True
        self._alarm.close()
        for seat in self._seats:
            if seat.engine is not None:
                seat.engine.close()

    # A request.

    def route(self, given: Given, wish: Wish) -> Future[Fill]:
        """Choose, ask, and record it. The future fails as the engine did if no other one could answer."""
        ask = ask_of(given.hole, given.budget, wish, self.policy.privacy)
        first = self._seats[0].member
        # What may be sent elsewhere is for the filters to say, even where there is no choice.
        if len(self._seats) == 1 and first.here and wish.engine in (AUTO, first.name):
            return self._pass_through(given, ask)
        with self._lock:
            choice = choose(ask, self._seats, self.policy, self._means.clock())
        record = Record(ask=ask, choice=choice)
        if not choice.order:
            record.outcome = "empty"
            self._finished(record)
            nothing = Future[Fill]()
            nothing.set_result(empty("empty"))
            return nothing
        return Race(given, record, self._rules).start()

    def _pass_through(self, given: Given, ask: Ask) -> Future[Fill]:
        seat, began = self._seats[0], self._means.clock()
        assert seat.engine is not None
        candidate = Candidate(name=seat.member.name, p90_s=seat.latencies.p90(ask.chars) or 0.0)
        record = Record(ask=ask, choice=Choice(candidates=(candidate,), order=(seat,), reason=ONLY))
        noted = Attempted(name=seat.member.name, role="first")
        record.attempts.append(noted)
        future = seat.engine.fill(given.hole, given.budget, stop=given.stop, on_frame=given.on_frame)

        def ended(done: Future[Fill]) -> None:
            noted.ms = record.ms = 1000 * (self._means.clock() - began)
            fill = None if done.cancelled() or done.exception() is not None else done.result()
            noted.outcome = record.outcome = "failed" if fill is None else _outcome(fill)
            record.answered_by = noted.name if noted.outcome == "answered" else ""
            self._finished(record)

        future.add_done_callback(ended)
        return future

    def _finished(self, record: Record) -> None:
        self.records.append(record)
        if self.chooses:
            log.info("%s", record.line())

    @property
    def chooses(self) -> bool:
        """Whether there is more than one engine."""
        return len(self._seats) > 1

    def last_for(self, uri: str) -> Record | None:
        """The last decision that is done about a document."""
        return next((one for one in reversed(list(self.records)) if one.ask.wish.uri == uri), None)

    @property
    def last(self) -> Record | None:
        """The last decision that is done."""
        return self.records[-1] if self.records else None

    # What is learnt.

    def offered(self, id: str, name: str) -> None:
        """A suggestion of this engine is shown under an id; it counts as gone by unless it is kept."""
        seat = next((one for one in self._seats if one.member.name == name), None)
        if seat is not None and len(self._seats) > 1:
            with self._lock:
                self._offers[id] = seat
                seat.shown(id)
                if len(self._offers) > OFFERS:
                    self._offers.popitem(last=False)

    def kept(self, id: str) -> None:
        """The user has taken a suggestion."""
        with self._lock:
            if (seat := self._offers.pop(id, None)) is not None:
                seat.keep(id)

    def _learn(self, seat: Seat, record: Record, noted: Attempted, error: BaseException | None) -> None:
        ask, probe_s, was_refused = record.ask, None, seat.refused
        with self._lock:
            p90_s = seat.latencies.p90(ask.chars) or 0.0
            if noted.outcome in ("answered", "empty", "invalid", "late") or (
                noted.outcome == "overtaken" and noted.ms > 1000 * p90_s
            ):
                seat.latencies.note(ask.chars, noted.ms / 1000)
            if error is not None:
                probe_s = seat.failed(error, ask.task, self._means.clock())
            elif noted.outcome == "late" and not seat.member.here:
                probe_s = seat.circuit.failed("no answer in time")
            elif noted.outcome in ("answered", "empty", "invalid"):
                seat.circuit.succeeded()
                if noted.outcome != "empty":
                    seat.judged(valid=noted.outcome == "answered")
        self._probe_later(seat, probe_s)
        self._tell_of_refusal(seat, was_refused)

    def _tell_of_refusal(self, seat: Seat, before: str) -> None:
        if seat.refused and not before:
            self._means.tell(f"{seat.member.name}: {seat.refused}")

    # Health, never on a request's path.

    def _probe_later(self, seat: Seat, seconds: float | None) -> None:
        if seconds is not None and not self._closed:
            self._rules.later(seconds, lambda: self._means.background(partial(self._probe, seat)))
            self._means.changed()

    def _probe(self, seat: Seat) -> None:
        """Connect an engine if it is not yet, and ask how it is."""
        if self._closed:
            return
        engine, problem, failed = seat.engine, None, None
        try:
            engine = engine or seat.member.connect()
            problem = seat.member.probe()
        except RemoteError as error:
            failed = error
        with self._lock:
            was_refused, seat.engine = seat.refused, engine
            again_s = seat.probed(failed, problem)
        self._tell_of_refusal(seat, was_refused)
        if self._closed and engine is not None:
            engine.close()
        self._probe_later(seat, again_s)
        if again_s is None:
            self._means.changed()

    def troubles(self) -> list[str]:
        """A line for each engine that is not asked, or not by itself, at the moment."""
        with self._lock:
            found = [(seat.member.name, seat.trouble(self._means.clock())) for seat in self._seats]
        return [f"the engine {name} is left out: {trouble}" for name, trouble in found if trouble]

    @property
    def seats(self) -> Sequence[Seat]:
        """Every engine's state, to be shown."""
        return self._seats


@dataclass(frozen=True, slots=True)
class _Wishing:
    """The router for one wish."""

    router: Router
    wish: Wish

    @property
    def about(self) -> About:
        return self.router.about

    def fill(
        self, hole: Hole, budget: Budget, *, stop: threading.Event | None = None, on_frame: OnFrame | None = None
    ) -> Future[Fill]:
        given = Given(hole=hole, budget=budget, stop=stop or threading.Event(), on_frame=on_frame)
        return self.router.route(given, self.wish)

    def close(self) -> None:
        self.router.close()


def _outcome(fill: Fill) -> Outcome:
    if fill.candidates:
        return "answered"
    return "cancelled" if fill.stopped == "cancelled" else "late" if fill.stopped == "deadline" else "empty"
