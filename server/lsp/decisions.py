"""What was decided last in each document, in words: whoever sees no suggestion wants to know why.

They hold no code, but for a name or a key that a validator objects to; they are answered to the editor that asks, and
never logged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from midspan.engine.api import Fill
from midspan.server.router.records import Remedy
from midspan.server.validation.splice import Objection

# Documents whose last decision is kept.
KEPT = 100
NOTHING_FITS = "no fill can be right within the indent of a line, or behind a backslash at its end"
NOT_YET = "nothing has been asked for in this file yet; type in it"
INSTEAD: Mapping[Remedy, str] = {
    "next candidate": "the next best is shown",
    "repaired": "that part was written anew",
    "other engine": "another engine was asked",
}


class Decisions:
    """The last decision by document; used on the event loop only."""

    def __init__(self) -> None:
        self._last: dict[str, str] = {}

    def last(self, uri: str) -> str:
        """What was decided last in a document, one line."""
        return self._last.get(uri, NOT_YET)

    def note(self, uri: str, decision: str) -> None:
        """Keep a decision in place of the one before."""
        self._last.pop(uri, None)
        self._last[uri] = decision
        if len(self._last) > KEPT:
            del self._last[next(iter(self._last))]


def objected(objections: Sequence[Objection]) -> str | None:
    """Why nothing is shown, where validators objected to all that would have been; None where they did not."""
    if not objections:
        return None
    # What breaks the syntax is shown to nobody.
    fix = "" if objections[0].kind == "parse" else "; ask for a suggestion to see it"
    return f"what would be filled in {objections[0].words}{fix}"


def remedied(objections: Sequence[Objection], remedy: Remedy | None) -> str:
    """What became of a text that was objected to, behind the decision on what is shown in its place; empty for none."""
    instead = None if remedy is None else INSTEAD.get(remedy)
    return "" if instead is None else f"; what came first {objections[0].words}, so {instead}"


def decided(fill: Fill, threshold: float, deadline_ms: int, *, offered: int) -> str:
    """What became of a fill of which so many texts were offered; `threshold` is the confidence that was needed."""
    took = f"after {fill.latency.total:.0f} ms"
    if offered:
        return f"the last request was answered {took} by a suggestion that is {fill.confidence:.0%} sure"
    if fill.stopped == "deadline" and not fill.candidates:
        return f"too slow: nothing was ready within {deadline_ms} ms; raise `deadline_ms`, or take a smaller checkpoint"
    if not fill.candidates:
        return f"the model saw nothing likely enough here, and stopped {took}; ask for a suggestion to see its best"
    if fill.confidence < threshold:
        needed = f"the best suggestion was {fill.confidence:.0%} sure and {threshold:.0%} was needed"
        return f"{needed}; ask for a suggestion to see it, or lower `show_threshold`"
    return "what would be filled in stands there already, or is a single character"
