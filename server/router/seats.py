"""What the router knows of each engine: whether it may be asked, how quick it is, and what becomes of its fills."""

from __future__ import annotations

from collections import OrderedDict, deque

from midspan.engine.api import CheckpointError, DeviceError, Engine, RemoteError
from midspan.server.router.asks import Task
from midspan.server.router.circuit import Circuit
from midspan.server.router.latency import Latencies
from midspan.server.router.members import Member
from midspan.server.router.policy import Policy

NOT_CONNECTED = "not connected yet"
CAPABILITY, KEY, BUSY = (400, 404, 405, 422, 501), (401, 403), (429, 503)
# One prompt was too long: that says nothing of the next.
TOO_LONG = 413
# A server may be given another model, or its model another template: what it has refused is tried again after this.
OFF_S = 300.0
# Whatever a server says: longer than that it is not waited for.
MOST_RETRY_S = 3600.0


class Seat:
    """One engine's state; its owner, the router, holds a lock around every call."""

    def __init__(self, member: Member, policy: Policy) -> None:
        self.member = member
        self.engine: Engine | None = member.connect() if member.here else None
        self.circuit = Circuit(policy.circuit, closed=member.here, reason="" if member.here else NOT_CONNECTED)
        self.latencies = Latencies()
        self._off: dict[Task, tuple[str, float]] = {}  # what it has refused, why, and until when it is not asked again
        self.refused = ""  # why it takes nothing at all
        self.not_before = 0.0  # the time that it has asked to be left alone until
        self._floors = policy.floors
        self._valid: deque[bool] = deque(maxlen=policy.floors.over)
        self._kept: OrderedDict[str, bool] = OrderedDict()

    def judged(self, *, valid: bool) -> None:
        """One of its fills has passed validation, or not."""
        self._valid.append(valid)

    def held_back(self) -> None:
        """The last fill that was judged is not valid after all, by what the server knows of its document."""
        if self._valid:
            self._valid[-1] = False

    def shown(self, id: str) -> None:
        """One of its suggestions is shown; it has gone by unless it is kept."""
        self._kept[id] = False
        if len(self._kept) > self._floors.over:
            self._kept.popitem(last=False)

    def keep(self, id: str) -> None:
        """The user has taken one."""
        if id in self._kept:
            self._kept[id] = True

    @property
    def fallen(self) -> str:
        """Why it has left automatic use; empty if it has not, as ever for an engine of this process: others may go."""
        if self.member.here:
            return ""
        for name, shares, floor in (
            ("valid", self._valid, self._floors.validated),
            ("kept", self._kept.values(), self._floors.kept),
        ):
            if len(shares) == self._floors.over and sum(shares) / len(shares) < floor:
                return f"{sum(shares)} of its last {len(shares)} fills were {name}, and {floor:.0%} is its floor"
        return ""

    def unwell(self, now: float) -> str:
        """Why nobody may ask it now; empty if all may."""
        if self.refused:
            return self.refused
        if self.engine is None or not self.circuit.closed:
            return self.circuit.reason
        return f"asks to be left alone for {self.not_before - now:.0f} s" if now < self.not_before else ""

    def cannot(self, task: Task, now: float) -> str:
        """What it said when it refused such a task; empty if it has not, or that was long ago."""
        reason, until = self._off.get(task, ("", 0.0))
        return reason if now < until else ""

    def probed(self, error: RemoteError | None, problem: str | None) -> float | None:
        """Note what a probe has found. In how many seconds to probe again, if it is not well; not with a bad key."""
        if error is not None and error.status in KEY:
            self.refused = line_of(error)
            return None
        return self.circuit.probed(problem if error is None else line_of(error))

    def trouble(self, now: float) -> str:
        """What keeps it from some requests at least; empty if nothing does."""
        off = "; ".join(f"{task}: {reason}" for task in self._off if (reason := self.cannot(task, now)))
        return self.unwell(now) or self.fallen or off

    def failed(self, error: BaseException, task: Task, now: float) -> float | None:
        """Note an error. In how many seconds to probe, if that has opened the circuit."""
        if self.member.here:
            return None
        if isinstance(error, RemoteError):
            if error.status in CAPABILITY:
                self._off[task] = line_of(error), now + OFF_S
                return None
            if error.status == TOO_LONG:
                return None
            if error.status in KEY:
                self.refused = line_of(error)
                return None
            if error.status in BUSY and error.retry_after_s is not None:
                self.not_before = now + min(error.retry_after_s, MOST_RETRY_S)
                return None
        return self.circuit.failed(line_of(error))


def line_of(error: BaseException) -> str:
    """What an error says if it was made to be read: any other one's words may quote code."""
    made_for_users = isinstance(error, RemoteError | CheckpointError | DeviceError)
    return " ".join(str(error).split())[:200] if made_for_users else type(error).__name__
