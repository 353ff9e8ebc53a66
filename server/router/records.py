"""One decision of the router as one record: in the log, in the telemetry, in `midspan.why` and `fill --explain`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from midspan.server.router.asks import Ask
from midspan.server.router.choosing import Choice

Role = Literal["first", "hedge", "fallback"]
# `late`: nothing in time; `overtaken`: another one has answered meanwhile.
Outcome = Literal["open", "answered", "empty", "invalid", "failed", "late", "overtaken", "cancelled"]
# What came of a text that was held back: the engine's next candidate, its repair, or another engine's text is shown.
Remedy = Literal["next candidate", "repaired", "other engine", "nothing"]


@dataclass(slots=True, kw_only=True)
class Attempted:
    """One engine that was asked, and what came of it; `why` has the words for what went wrong."""

    name: str
    role: Role
    outcome: Outcome = "open"
    why: str = ""
    ms: float = 0.0

    def line(self) -> str:
        """It in one line."""
        return f"{self.role} {self.name}: {self.outcome}{self.why and f' ({self.why})'} after {self.ms:.0f} ms"


@dataclass(slots=True, kw_only=True)
class Record:
    """A decision: what was looked at, what was chosen and why, who was asked, and what came of it. It holds no code.

    `held_back` has the kinds of what validators objected to in the answer, and in those that were to take its place;
    `remedy` is what came of that, None where the answer could be shown.
    """

    ask: Ask
    choice: Choice
    attempts: list[Attempted] = field(default_factory=list)
    answered_by: str = ""
    outcome: Outcome = "open"
    ms: float = 0.0
    held_back: tuple[str, ...] = ()
    remedy: Remedy | None = None

    @property
    def fell_back(self) -> bool:
        """Whether another engine was asked after the first had failed."""
        return any(one.role == "fallback" for one in self.attempts)

    def line(self) -> str:
        """The whole record in one line."""
        parts = [f"{self.ask.task} ({self.ask.wish.origin}): {self.choice.reason}"]
        parts += [f"{one.name} left out by {one.out}" for one in self.choice.candidates if one.out]
        parts += [one.line() for one in self.attempts]
        parts.append(f"{self.outcome} by {self.answered_by}" if self.answered_by else self.outcome)
        if self.remedy is not None:
            parts.append(f"held back by {', '.join(dict.fromkeys(self.held_back))}: {self.remedy}")
        return "; ".join(parts)

    def as_json(self) -> dict[str, Any]:
        """The record as `fill --json --explain` prints it; times are milliseconds."""
        ask, candidates = self.ask, self.choice.candidates
        return {
            "task": ask.task,
            "origin": ask.wish.origin,
            "privacy": ask.tier,
            "chars": ask.chars,
            "deadline_ms": None if ask.deadline_s is None else 1000 * ask.deadline_s,
            "candidates": [{"name": one.name, "p90_ms": 1000 * one.p90_s, "out": one.out} for one in candidates],
            "order": [seat.member.name for seat in self.choice.order],
            "reason": self.choice.reason,
            "attempts": [asdict(one) for one in self.attempts],
            "answered_by": self.answered_by,
            "outcome": self.outcome,
            "held_back": list(self.held_back),
            "remedy": self.remedy,
            "ms": self.ms,
        }
