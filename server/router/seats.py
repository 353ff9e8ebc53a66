"""What the router knows of each engine: whether it may be asked, how quick it is, and what becomes of its fills."""

from __future__ import annotations

from collections import deque

from midspan.engine.api import Engine
from midspan.server.router.asks import Task
from midspan.server.router.circuit import Circuit
from midspan.server.router.latency import Latencies
from midspan.server.router.members import Member
from midspan.server.router.policy import Floors, Policy

NOT_CONNECTED = "not connected yet"
CAPABILITY, KEY, BUSY = (400, 404, 405, 413, 422, 501), (401, 403), (429, 503)
# Whatever a server says: longer than that it is not waited for.
MOST_RETRY_S = 3600.0


class Seat:
    """One engine's state; its owner, the router, holds a lock around every call."""

    def __init__(self, member: Member, policy: Policy) -> None:
        self.member = member
        self.engine: Engine | None = member.connect() if member.here else None
        self.circuit = Circuit(policy.circuit, closed=member.here, reason="" if member.here else NOT_CONNECTED)
        self.latencies = Latencies()
        self.off: dict[Task, str] = {}  # what it has refused, and why
        self.refused = ""  # why it takes nothing at all
        self.not_before = 0.0  # the time that it has asked to be left alone until
        self.asked = 0
        self._floors = policy.floors
        self._valid: deque[bool] = deque(maxlen=policy.floors.over)
        self._kept: deque[bool] = deque(maxlen=policy.floors.over)

    def judged(self, *, valid: bool) -> None:
        """One of its fills has passed validation, or not."""
        self._valid.append(valid)

    def shown(self, *, kept: bool) -> None:
        """One of its suggestions has been kept or gone by."""
        self._kept.append(kept)

    @property
    def fallen(self) -> str:
        """Why it has left automatic use; empty if it has not."""
        for name, shares, floor in (
            ("valid", self._valid, self._floors.validated),
            ("kept", self._kept, self._floors.kept),
        ):
            if len(shares) == shares.maxlen and sum(shares) / len(shares) < floor:
                return f"{sum(shares)} of its last {len(shares)} fills were {name}, and {floor:.0%} is its floor"
        return ""

    def failed(self, error: BaseException, task: Task, now: float) -> float | None:
        """Note an error by its HTTP status, if it has one. In how many seconds to probe, if that opened the circuit."""
        if self.member.here:
            return None
        status, reason = status_of(error), line_of(error)
        if status in CAPABILITY:
            self.off[task] = reason
        elif status in KEY:
            self.refused = reason
        elif status in BUSY and (retry_s := retry_after_of(error)) is not None:
            self.not_before = now + min(retry_s, MOST_RETRY_S)
        else:
            return self.circuit.failed(reason)
        return None


def status_of(error: BaseException) -> int | None:
    """The HTTP status that an engine far away has answered with; None if there was none."""
    status = getattr(error, "status", None)
    return status if isinstance(status, int) else None


def retry_after_of(error: BaseException) -> float | None:
    """The seconds that an engine far away has asked to be left alone."""
    seconds = getattr(error, "retry_after_s", None)
    return float(seconds) if isinstance(seconds, int | float) else None


def line_of(error: BaseException) -> str:
    """What an error says if it was made to be read: any other one's words may quote code."""
    made_for_users = hasattr(error, "status") or type(error).__name__ in ("CheckpointError", "DeviceError")
    return " ".join(str(error).split())[:200] if made_for_users else type(error).__name__
