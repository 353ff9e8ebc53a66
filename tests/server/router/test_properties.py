"""What holds whatever engines do: privacy, one answer, the deadline, circuits, one hedge and one fallback."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace

from hypothesis import given
from hypothesis import strategies as st

from midspan.engine.api import Budget, Fill, Hole, OnFrame, RemoteError
from midspan.server.router.asks import TIERS, Origin, Tier, Wish
from midspan.server.router.policy import Policy
from midspan.server.router.router import Router
from midspan.server.router.seats import Seat
from tests.server.router.fakes import BETWEEN, LINE_END, Clock, Fake, local, means, member

DEADLINE_S = 1.0
ERRORS = (
    None,
    RuntimeError("broken"),
    *(RemoteError("refused", status=status) for status in (0, 400, 401, 500, 503)),
    RemoteError("busy", status=429, retry_after_s=5.0),
)


@dataclass(frozen=True)
class Behaviour:
    """How one engine takes its requests, one after the other; None for one that is never answered."""

    tier: Tier
    takes_s: Sequence[float | None]
    errors: Sequence[Exception | None]
    texts: Sequence[str]


@dataclass(frozen=True)
class Key:
    """One request: which gap, who asks, how public its text is, and when it is stopped and the next one comes.

    It is asked `once` where the gap has had an answer before, by those that were `tried`.
    """

    hole: Hole
    origin: Origin
    tier: Tier
    stop_s: float | None
    next_s: float
    tried: tuple[str, ...]
    once: bool


def sized(of: st.SearchStrategy[object]) -> st.SearchStrategy[list[object]]:
    return st.lists(of, min_size=1, max_size=4)


BEHAVIOURS = st.builds(
    Behaviour,
    tier=st.sampled_from(TIERS[1:]),
    takes_s=sized(st.sampled_from([0.0, 0.01, 0.2, 0.6, 3.0, None])),
    errors=sized(st.sampled_from(ERRORS)),
    texts=sized(st.sampled_from(["a = 1", "", "("])),
)
HOLES = (
    LINE_END,
    BETWEEN,
    replace(BETWEEN, draft="a", strength=0.5),
    replace(LINE_END, draft="a", wrong=((0, 1),)),
)
KEYS = st.builds(
    Key,
    hole=st.sampled_from(HOLES),
    origin=st.sampled_from(["typing", "invoked", "action", "background"]),
    tier=st.sampled_from(TIERS),
    stop_s=st.sampled_from([None, 0.0, 0.1, 0.5]),
    next_s=st.sampled_from([0.05, 0.3, 2.0, 40.0]),
    tried=st.sampled_from([(), (), ("diffusion",), ("far 0",)]),
    once=st.booleans(),
)


class Moody(Fake):
    """A Fake that behaves anew at each request, and may answer at once, from within `fill`."""

    def __init__(self, clock: Clock, behaviour: Behaviour) -> None:
        super().__init__(clock)
        self.behaviour = behaviour
        self.seat: Seat | None = None
        self.held_back_when_asked: list[bool] = []
        self._plans: dict[Future[Fill], tuple[Exception | None, str]] = {}

    def fill(
        self, hole: Hole, budget: Budget, *, stop: threading.Event | None = None, on_frame: OnFrame | None = None
    ) -> Future[Fill]:
        turn, behaviour = len(self.asked), self.behaviour
        assert self.seat is not None
        self.held_back_when_asked.append(not self.seat.circuit.closed or self.clock.now < self.seat.not_before)
        took = behaviour.takes_s[turn % len(behaviour.takes_s)]
        self.takes_s = took or None
        future = super().fill(hole, budget, stop=stop, on_frame=on_frame)
        error = behaviour.errors[turn % len(behaviour.errors)]
        self._plans[future] = error, behaviour.texts[turn % len(behaviour.texts)]
        if took == 0.0:
            self.answer(future)
        return future

    def answer(self, future: Future[Fill] | None = None) -> None:
        assert future is not None
        self.error, self.text = self._plans[future]
        super().answer(future)


@dataclass
class Asked:
    """One request on its way, and what was seen of it."""

    key: Key
    began: float
    stop: threading.Event
    answers: list[float]


def invalid(_: Hole, fill: Fill) -> str | None:
    return "breaks the syntax" if "(" in fill.text else None


def play(behaviours: Sequence[Behaviour], keys: Sequence[Key], privacy: Tier) -> tuple[Router, Clock, list[Asked]]:
    """Type the keys; the first engine is in this process."""
    clock = Clock()
    engines = [Moody(clock, one) for one in behaviours]
    members = [local(engines[0])]
    for number, (engine, one) in enumerate(zip(engines[1:], behaviours[1:], strict=True)):
        members.append(member(f"far {number}", engine, one.tier, "autoregressive" if number % 2 else "diffusion"))
    router = Router(members, Policy(privacy=privacy), means=means(clock), validate=invalid)
    for engine, seat in zip(engines, router.seats, strict=True):
        engine.seat = seat
    requests = []
    for key in keys:
        asked = Asked(key=key, began=clock.now, stop=threading.Event(), answers=[])
        wish = Wish(origin=key.origin, tier=key.tier, tried=key.tried, once=key.once)
        future = router.wishing(wish).fill(key.hole, Budget(deadline_s=DEADLINE_S), stop=asked.stop)
        future.add_done_callback(noting(asked, clock))
        requests.append(asked)
        if key.stop_s is not None:
            clock.later(key.stop_s, asked.stop.set)
        clock.pass_by(key.next_s)
    clock.pass_by(10.0)
    return router, clock, requests


def noting(asked: Asked, clock: Clock) -> Callable[[object], None]:
    return lambda _: asked.answers.append(clock.now - asked.began)


def games(test: Callable[..., None]) -> Callable[..., None]:
    """Let hypothesis play some games; each types up to a dozen keys."""
    played = given(
        behaviours=st.lists(BEHAVIOURS, min_size=2, max_size=4),
        keys=st.lists(KEYS, min_size=1, max_size=12),
        privacy=st.sampled_from(TIERS),
    )
    return played(test)


@games
def test_a_request_gets_exactly_one_answer_within_its_deadline(
    behaviours: list[Behaviour], keys: list[Key], privacy: Tier
) -> None:
    router, _, requests = play(behaviours, keys, privacy)
    assert [len(asked.answers) for asked in requests] == [1] * len(keys)
    assert max(asked.answers[0] for asked in requests) <= DEADLINE_S + 1e-9
    assert len(router.records) == len(keys)
    assert all(record.outcome != "open" for record in router.records)


@games
def test_no_text_reaches_an_engine_beyond_its_privacy_tier(
    behaviours: list[Behaviour], keys: list[Key], privacy: Tier
) -> None:
    router, _, _ = play(behaviours, keys, privacy)
    tiers = {seat.member.name: seat.member.tier for seat in router.seats}
    for record in router.records:
        most = min(record.ask.wish.tier, privacy, key=TIERS.index)
        assert all(TIERS.index(tiers[one.name]) <= TIERS.index(most) for one in record.attempts)


@games
def test_there_is_at_most_one_hedge_and_one_fallback(
    behaviours: list[Behaviour], keys: list[Key], privacy: Tier
) -> None:
    router, _, _ = play(behaviours, keys, privacy)
    for record in router.records:
        roles = [one.role for one in record.attempts]
        assert roles[:1] in ([], ["first"])
        assert len(set(roles)) == len(roles)
        assert len({one.name for one in record.attempts}) == len(roles)
        assert not record.ask.wish.once or roles in ([], ["first"])
        assert not {one.name for one in record.attempts} & set(record.ask.wish.tried)


@games
def test_no_keystroke_tries_an_open_circuit(behaviours: list[Behaviour], keys: list[Key], privacy: Tier) -> None:
    router, _, _ = play(behaviours, keys, privacy)
    for seat in router.seats:
        assert isinstance(seat.engine, Moody)
        assert not any(seat.engine.held_back_when_asked)


@games
def test_nothing_invalid_is_answered_and_losers_are_stopped(
    behaviours: list[Behaviour], keys: list[Key], privacy: Tier
) -> None:
    router, _, _ = play(behaviours, keys, privacy)
    for record in router.records:
        if record.outcome == "answered":
            assert [one.name for one in record.attempts if one.outcome == "answered"] == [record.answered_by]
    for seat in router.seats:
        engine = seat.engine
        assert isinstance(engine, Moody)
        assert all(
            future.done() or asked[2].is_set() for future, asked in zip(engine.futures, engine.asked, strict=True)
        )
