"""A circuit breaker: who fails several times in a row is left alone until a probe, never a keystroke, finds it well."""

from __future__ import annotations

from midspan.server.router.policy import Breaker


class Circuit:
    """Open or closed; it says after how many seconds it wants a probe, and is told what came of it."""

    def __init__(self, rule: Breaker, *, closed: bool, reason: str = "") -> None:
        self._rule = rule
        self._failures = 0
        self._wait_s = rule.first_s
        self.closed = closed
        self.reason = reason  # why it is open; empty while it is closed

    def succeeded(self) -> None:
        """It has answered. That does not close what is open: the answer may be older than the failures."""
        if self.closed:
            self._failures, self._wait_s = 0, self._rule.first_s

    def failed(self, reason: str) -> float | None:
        """It has failed. In how many seconds to probe, if that has opened the circuit."""
        if not self.closed:
            return None
        self._failures += 1
        if self._failures < self._rule.failures:
            return None
        self.closed, self.reason = False, reason
        return self._next()

    def probed(self, problem: str | None) -> float | None:
        """What a probe has found. In how many seconds to probe again, if it is not well."""
        if problem is None:
            # The next failure opens it again: only answers show that it is well.
            self.closed, self.reason, self._failures = True, "", max(0, self._failures - 1)
            return None
        self.reason = problem
        return self._next()

    def _next(self) -> float:
        wait_s, self._wait_s = self._wait_s, min(2 * self._wait_s, self._rule.most_s)
        return wait_s
