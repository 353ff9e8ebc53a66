"""Engines that fail are left alone, and come back by a probe."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from midspan.engine.api import Budget, Engine, RemoteError
from midspan.server.router.circuit import Circuit
from midspan.server.router.members import Member
from midspan.server.router.policy import Breaker, Hedge, Policy
from midspan.server.router.router import Router
from tests.server.router.fakes import BETWEEN, LINE_END, Clock, Fake, local, means, member

ALONE = Policy(hedge=Hedge(on=False))


@dataclass
class Far:
    """An engine elsewhere, whose probe says what the test wants."""

    engine: Fake
    problem: str | None = None
    refuses: bool = False
    status: int = 0
    probes: list[float] = field(default_factory=list)

    def connect(self) -> Engine:
        if self.refuses:
            raise RemoteError("far: nobody listens there; start the server")
        return self.engine

    def probe(self) -> str | None:
        self.probes.append(self.engine.clock.now)
        if self.status:
            raise RemoteError(self.problem or "", status=self.status)
        return self.problem

    def member(self) -> Member:
        return replace(member("far", self.engine), connect=self.connect, probe=self.probe)


def failing(clock: Clock, error: Exception) -> tuple[Router, Far, list[str]]:
    far, told = Far(Fake(clock, takes_s=0.01, error=error)), list[str]()
    router = Router([local(Fake(clock, takes_s=0.01)), far.member()], ALONE, means=means(clock, told))
    return router, far, told


def type_a_key(router: Router, clock: Clock, count: int = 1) -> str:
    """So many requests; the last record in a line."""
    for _ in range(count):
        future = router.fill(LINE_END, Budget(deadline_s=1.0))
        clock.pass_by(1.0)
        assert future.result(0).engine in ("diffusion", "far")
    assert router.last is not None
    return router.last.line()


def test_a_circuit_doubles_its_wait_up_to_a_limit_and_begins_anew_after_an_answer() -> None:
    circuit = Circuit(Breaker(), closed=True)
    assert [circuit.failed("broken") for _ in range(4)] == [None, None, 30.0, None]
    assert [circuit.probed("refused") for _ in range(5)] == [60.0, 120.0, 240.0, 300.0, 300.0]
    assert (circuit.closed, circuit.reason) == (False, "refused")
    assert circuit.probed(None) is None
    assert circuit.closed
    # A probe that is answered is no answer to a request: the next failure opens the circuit again.
    assert circuit.failed("broken") == 300.0
    circuit.probed(None)
    circuit.succeeded()
    assert [circuit.failed("broken") for _ in range(3)] == [None, None, 30.0]


def test_three_failures_open_the_circuit_and_no_keystroke_closes_it() -> None:
    clock = Clock()
    router, far, _ = failing(clock, RemoteError("far: broken", status=500))
    type_a_key(router, clock, 3)
    assert len(far.engine.asked) == 3
    far.problem = "far: still broken"
    line = type_a_key(router, clock, 25)
    assert len(far.engine.asked) == 3
    assert "far left out by circuit: far: broken" in line
    opened = far.probes[0] + 2.01
    clock.pass_by(200)
    # The first probe connects; each one that fails doubles the wait.
    assert far.probes == pytest.approx([0.0, opened + 30, opened + 90, opened + 210])
    far.problem, far.engine.error = None, None
    clock.pass_by(300)
    assert "answered by far" in type_a_key(router, clock)


def test_an_engine_is_connected_in_the_background_and_again_if_nobody_listens() -> None:
    clock, far = Clock(), Far(Fake(Clock()), refuses=True)
    far.engine = Fake(clock, takes_s=0.01)
    router = Router([local(Fake(clock, takes_s=0.01)), far.member()], ALONE, means=means(clock))
    assert "far left out by circuit: far: nobody listens there; start the server" in type_a_key(router, clock)
    far.refuses = False
    clock.pass_by(30)
    assert "answered by far" in type_a_key(router, clock)


def test_what_an_engine_refuses_is_not_asked_of_it_again() -> None:
    clock = Clock()
    router, far, told = failing(clock, RemoteError("far: takes no suffix", status=400))
    line = type_a_key(router, clock, 2)
    assert len(far.engine.asked) == 1
    assert "far left out by capability: far: takes no suffix" in line
    far.engine.error = None
    future = router.fill(replace(BETWEEN, suffix=""), Budget(deadline_s=1.0))
    clock.pass_by(1.0)
    assert future.result(0).engine == "far"
    assert told == []
    assert "far left out" in type_a_key(router, clock)
    clock.pass_by(300)
    assert "answered by far" in type_a_key(router, clock)
    assert router.troubles() == []


def test_a_prompt_that_is_too_long_says_nothing_of_the_next() -> None:
    clock = Clock()
    router, far, _ = failing(clock, RemoteError("far: the prompt is too long", status=413))
    type_a_key(router, clock, 5)
    assert len(far.engine.asked) == 5
    far.engine.error = None
    assert "answered by far" in type_a_key(router, clock)


@pytest.mark.parametrize("status", [401, 403])
def test_a_key_that_is_refused_is_told_once(status: int) -> None:
    clock = Clock()
    router, far, told = failing(clock, RemoteError("the key in FAR_KEY is refused; set another", status=status))
    type_a_key(router, clock, 5)
    clock.pass_by(1000)
    assert len(far.engine.asked) == 1
    assert told == ["far: the key in FAR_KEY is refused; set another"]


@pytest.mark.parametrize("status", [401, 403])
def test_a_key_that_the_first_probe_finds_missing_is_told_once_and_probed_no_more(status: int) -> None:
    clock, told = Clock(), list[str]()
    far = Far(Fake(clock), problem="FAR_KEY is not set; set it", status=status)
    router = Router([local(Fake(clock, takes_s=0.01)), far.member()], ALONE, means=means(clock, told))
    clock.pass_by(1000)
    assert told == ["far: FAR_KEY is not set; set it"]
    assert far.probes == [0.0]
    assert "far left out by circuit: FAR_KEY is not set; set it" in type_a_key(router, clock)


@pytest.mark.parametrize("status", [429, 503])
def test_a_server_that_is_busy_is_left_alone_for_as_long_as_it_asks(status: int) -> None:
    clock = Clock()
    router, far, _ = failing(clock, RemoteError("far: busy", status=status, retry_after_s=20.0))
    line = type_a_key(router, clock, 15)
    assert len(far.engine.asked) == 1
    assert "far left out by circuit: asks to be left alone for 6 s" in line
    far.engine.error = None
    assert "answered by far" in type_a_key(router, clock, 7)


def test_a_server_that_never_answers_counts_as_failing() -> None:
    clock = Clock()
    router, far, _ = failing(clock, RuntimeError("unused"))
    far.engine.takes_s = None
    for _ in range(3):
        router.fill(LINE_END, Budget(deadline_s=1.0))
        clock.pass_by(1.0)
    # A deadline that it never keeps puts it behind, and a circuit out of use.
    assert "circuit: no answer in time" in type_a_key(router, clock) or len(far.engine.asked) < 3


def test_a_failing_engine_of_this_process_has_no_circuit() -> None:
    clock = Clock()
    here = Fake(clock, takes_s=0.01, error=RuntimeError("broken"))
    router = Router([local(here), member("far", Fake(clock, takes_s=0.01))], ALONE, means=means(clock))
    for _ in range(5):
        router.fill(BETWEEN, Budget(deadline_s=1.0))
        clock.pass_by(1.0)
    assert len(here.asked) == 5
