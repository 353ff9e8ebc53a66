"""What to ask for in place of a text that a validator objects to: its repair, then another engine's; once each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from midspan.engine.api import Hole
from midspan.server.router.asks import Wish
from midspan.server.router.records import Record, Remedy
from midspan.server.router.router import Router
from midspan.server.validation.splice import Objection

# With less time left than this nothing more is asked.
LEAST_S = 0.02
# The best repair may meet an objection as well.
CANDIDATES = 3
NEXT: Remedy = "next candidate"
NOTHING: Remedy = "nothing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Again:
    """One more request about a gap: the `remedy` that its answer would be, and which engines had their turn."""

    remedy: Remedy
    hole: Hole
    tried: tuple[str, ...] = ()

    def wish(self, before: Wish) -> Wish:
        """The wish of the request before, for this one."""
        return replace(before, tried=self.tried, once=True)


def ways_out(router: Router, record: Record, hole: Hole, draft: str, objection: Objection) -> Iterator[Again]:
    """What to ask, one after the other until a text passes, where `draft` was the best and is objected to.

    First its repair, where it is known what is wrong and an engine can renoise that. Then another engine, unless the
    request has had its fallback; those that were asked by the `record` have had their turn.
    """
    if objection.spans and router.repairs:
        yield Again(remedy="repaired", hole=replace(hole, draft=draft, wrong=objection.spans))
    if router.chooses and not record.fell_back and "invalid" in router.policy.fall_back:
        yield Again(remedy="other engine", hole=hole, tried=tuple(one.name for one in record.attempts))
