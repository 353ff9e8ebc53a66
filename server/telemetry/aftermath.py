"""What the edits after a suggestion tell of it, where the client says nothing: seen, taken, typed, rejected, dismissed.

A suggestion has a place, and what stands there is compared with it after each change. What a key brings (one
character, a line end with its indent, a pair of brackets) is typing along; more of the suggestion at once was taken. A
client that sends quick keys as one change counts them in the version of its document.
Nothing is stored but the id and what became of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Protocol

from midspan.server.suggestions import AUTO_CLOSED, Offered, typed_after
from midspan.server.telemetry.applied import Applied
from midspan.server.telemetry.events import Ended
from midspan.server.telemetry.regions import keeps_lines, may_join_line_ends, moved
from midspan.server.telemetry.survival import Later, Survival
from midspan.server.text.documents import Document, column_of, end_of, units
from midspan.server.text.line_index import Place, Range

# Suggestions that are watched in a document.
WATCHED = 8
# What stood this long was seen: an editor draws it at once, and a person needs about that to notice.
SEEN_S = 0.2
PAIRS = frozenset(("()", "[]", "{}", "<>", '""', "''", "``", '""""""', "''''''"))


class Sink(Protocol):
    """Who is told: the store, where telemetry is on."""

    def seen(self, id: str) -> None:
        """It has been on screen."""

    def taken(self, id: str) -> None:
        """It was taken whole, or what was left of it."""

    def partially_accepted(self, id: str, chars: int) -> None:
        """So many UTF-16 units from its beginning were taken."""

    def ended(self, id: str, how: Ended) -> None:
        """It ended otherwise."""

    def kept(self, id: str, seconds: int, share: float) -> None:
        """So much of what was taken still stood later."""


@dataclass(slots=True, kw_only=True, eq=False)
class _Watch:
    """A suggestion that may still be taken.

    `reached` counts its characters that stood at its place, at most; `part` those that were taken in part, and
    `followed` those that are followed since. `edits` has what a change brings: whether it only inserts, and what.
    """

    id: str
    text: str
    document: Document
    start: Place
    typed: str
    first: bool
    at: float
    reached: int = 0
    part: int = 0
    followed: int = 0
    seen: bool = False
    told: bool = False
    broken: bool = False
    ended: Ended | None = None
    edits: list[tuple[bool, str]] = field(default_factory=list)

    def follow(self, span: Range, text: str) -> None:
        """Note an edit before it is made."""
        stop, flat = end_of(self.start, self.typed), keeps_lines(span, text)
        if span[1][0] < self.start[0]:
            self.start = self.start if flat else moved(self.start, span, text)
            return
        # An editor that compares lines may find new ones at the beginning of the next.
        if span[0][0] > stop[0] + (not flat):
            return
        typed = typed_after(self.document, self.start, self.typed, (span, text))
        if typed is not None and typed != self.typed:
            self.edits.append((span[0] == span[1], text))
            self.typed = typed
        elif typed is None and span[1] <= self.start:
            # An edit at another cursor: the place moves, and what stands there stays.
            self.start = moved(self.start, span, text)
        elif typed is None and span[0] < stop:
            self.broken = True

    @property
    def is_concerned(self) -> bool:
        """Whether a change tells anything new of it."""
        return bool(self.edits) or self.broken or self.ended is None

    @property
    def stands(self) -> int | None:
        """How many characters of it stand at its place; None where something else does."""
        if self.typed.startswith(self.text):
            return len(self.text)
        alike = 0
        while alike < len(self.typed) and self.typed[alike] == self.text[alike : alike + 1]:
            alike += 1
        behind = self.typed[alike:]
        return alike if AUTO_CLOSED.issuperset(behind) and self.text.endswith(behind) else None


class Aftermath:
    """The suggestions that were offered lately; used on the event loop only, in memory only."""

    def __init__(
        self, sink: Callable[[], Sink | None], later: Later, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._sink, self._clock = sink, clock
        self._watched: dict[str, list[_Watch]] = {}
        self._survival = Survival(self._kept, later)
        self._actions = Applied(sink, self._survival, clock)

    def action(self, document: Document, id: str, span: tuple[Place, Place], text: str) -> None:
        """Watch the edit of a code action: a text, in the document's line ends, in place of a span."""
        self._actions.offered(document, id, span, text)

    def offered(self, document: Document, start: Place, end: Place, offers: Sequence[Offered]) -> None:
        """Watch suggestions, the first of which is shown; each replaces a span. Those known already stay."""
        if self._sink() is None or may_join_line_ends(document.lines, start, ""):
            return
        watched = self._watched.setdefault(document.uri, [])
        known = {watch.id for watch in watched}
        typed = document.lines[start[0]][start[1] : end[1]]
        for number, offer in enumerate(offers):
            if offer.id not in known:
                watch = _Watch(
                    id=offer.id,
                    text=offer.text,
                    document=document,
                    start=start,
                    typed=typed,
                    first=not number,
                    at=self._clock(),
                )
                watch.reached = watch.stands or 0
                watched.append(watch)
        del watched[:-WATCHED]

    def edit(self, document: Document, span: Range, text: str) -> None:
        """Note an edit before it is made."""
        self._actions.look(document.uri)
        if may_join_line_ends(document.lines, span[0], text):
            self._watched.pop(document.uri, None)
        for watch in self._watched.get(document.uri, ()):
            watch.follow(span, text)
        self._survival.follow(document, span, text)

    def settle(self, uri: str, keys: int) -> None:
        """All edits of one change have been made: what do they tell? It may stand for so many quick keys."""
        self._actions.look(uri)
        sink, watched = self._sink(), self._watched.get(uri)
        if not watched or sink is None:
            return
        credited, concerned = set[Place](), [watch for watch in watched if watch.is_concerned]
        # What stands whole was taken, rather than another one that begins alike.
        concerned.sort(key=lambda watch: not watch.typed.startswith(watch.text))
        for watch in concerned:
            self._look(sink, watch)
            self._judge(sink, watch, keys, credited)
        if any(watch.ended == "accepted" or watch.broken for watch in concerned):
            self._watched[uri] = [watch for watch in watched if watch.ended != "accepted" and not watch.broken]

    def told(self, id: str) -> None:
        """The client has told that it was taken: its text stands, or will soon."""
        for watch in self._known(id):
            watch.told = True
            if watch.typed.startswith(watch.text):
                self._survival.begin(watch.document, id, watch.start, watch.text)

    def told_part(self, id: str, chars: int) -> None:
        """The client has told that its first UTF-16 units were taken: they stand, or will soon."""
        for watch in self._known(id):
            watch.part = max(watch.part, column_of(watch.text, chars, "utf-16"))
            self._follow_part(watch)

    def opened(self, document: Document) -> None:
        """A document was opened."""
        self._survival.opened(document)

    def closed(self, uri: str) -> None:
        """A document was closed."""
        sink = self._sink()
        for watch in self._watched.pop(uri, ()):
            if sink is not None:
                self._look(sink, watch)
                self._end(sink, watch, "dismissed")
        self._actions.closed(uri)
        self._survival.closed(uri)

    def lose(self, uri: str) -> None:
        """A document's text is unknown."""
        self._watched.pop(uri, None)
        self._actions.lose(uri)
        self._survival.lose(uri)

    def clear(self) -> None:
        """Watch nothing any more."""
        self._watched.clear()
        self._actions.clear()
        self._survival.clear()

    def _known(self, id: str) -> Iterator[_Watch]:
        return (watch for watch in chain.from_iterable(self._watched.values()) if watch.id == id)

    def _kept(self, id: str, seconds: int, share: float) -> None:
        if (sink := self._sink()) is not None:
            sink.kept(id, seconds, share)

    def _look(self, sink: Sink, watch: _Watch, *, taken: bool = False) -> None:
        """Whether it was seen: the change that has come takes it away, or moves it along."""
        long_enough = watch.first and watch.ended is None and self._clock() - watch.at >= SEEN_S
        if not watch.seen and (taken or long_enough):
            watch.seen = True
            sink.seen(watch.id)

    def _judge(self, sink: Sink, watch: _Watch, keys: int, credited: set[Place]) -> None:
        """What a change tells of one suggestion; at each place one is credited with it at most."""
        edits, watch.edits = watch.edits, []
        stands = watch.stands
        if watch.broken or (edits and stands is None):
            self._end(sink, watch, "rejected")
            return
        if not edits:
            self._end(sink, watch, "dismissed")
            return
        grown, watch.reached = (stands or 0) - watch.reached, max(watch.reached, stands or 0)
        by_keys = grown <= keys or all(_is_key(text) for _, text in edits)
        if stands == len(watch.text) and grown > 0:
            credited.add(watch.start)
            # Who has taken most of it by words takes its last mark, too.
            self._whole(sink, watch, by_keys=by_keys and 2 * watch.part < len(watch.text))
        elif not by_keys and watch.start not in credited and all(inserts for inserts, _ in edits):
            # A menu's entry replaces what was typed of it; the next words of a suggestion only come.
            credited.add(watch.start)
            watch.part, watch.ended = watch.reached, "part"
            self._look(sink, watch, taken=True)
            sink.partially_accepted(watch.id, units(watch.text[: watch.part], "utf-16"))
        self._follow_part(watch)

    def _whole(self, sink: Sink, watch: _Watch, *, by_keys: bool) -> None:
        """All of it stands: it was taken, or typed to its end."""
        if by_keys:
            self._end(sink, watch, "typed")
        else:
            watch.ended = "accepted"
            self._look(sink, watch, taken=True)
            sink.taken(watch.id)
        if watch.told or not by_keys:
            self._survival.begin(watch.document, watch.id, watch.start, watch.text)

    def _follow_part(self, watch: _Watch) -> None:
        """Follow what was taken in part, once it stands."""
        taken = watch.text[: watch.part]
        if watch.followed < watch.part < len(watch.text) and watch.typed.startswith(taken):
            watch.followed = watch.part
            self._survival.begin(watch.document, watch.id, watch.start, taken)

    def _end(self, sink: Sink, watch: _Watch, how: Ended) -> None:
        """It has ended so, unless it was taken in part or typed to its end; it may still come back and be taken."""
        if watch.ended not in (how, "part", "typed", "accepted"):
            watch.ended = how
            sink.ended(watch.id, how)


def _is_key(text: str) -> bool:
    """Whether one key may bring a text."""
    return len(text) <= 1 or text.isspace() or text in PAIRS
