"""A document on a desk: suggestions in it, edits as editors send them, a clock that is moved, and what is told."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from itertools import count

from midspan.server.suggestions import Offered
from midspan.server.telemetry.aftermath import Aftermath
from midspan.server.telemetry.events import Ended
from midspan.server.text.documents import Document, Documents
from midspan.server.text.line_index import Place, Range

URI = "file:///desk.txt"
Event = tuple[object, ...]


class Clock:
    """Time that passes when it is told to, with the calls that are due then."""

    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()

    def __call__(self) -> float:
        return self.now

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        """Have a call made so many seconds later."""
        heapq.heappush(self._due, (self.now + seconds, next(self._numbers), call))

    def pass_by(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        while self._due and self._due[0][0] <= end:
            self.now, _, call = heapq.heappop(self._due)
            call()
        self.now = end


class Told:
    """Takes what the aftermath tells, in its order."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def seen(self, id: str) -> None:
        self.events.append(("seen", id))

    def taken(self, id: str) -> None:
        self.events.append(("taken", id))

    def partially_accepted(self, id: str, chars: int) -> None:
        self.events.append(("part", id, chars))

    def ended(self, id: str, how: Ended) -> None:
        self.events.append((how, id))

    def kept(self, id: str, seconds: int, share: float) -> None:
        self.events.append(("kept", id, seconds, round(share, 3)))

    def of(self, *kinds: str) -> list[Event]:
        """The events of these kinds."""
        return [event for event in self.events if event[0] in kinds]


class Desk:
    """One person's session with one document; `‸` in its first text marks the cursor."""

    def __init__(self, picture: str) -> None:
        self.told, self.clock, self.documents = Told(), Clock(), Documents()
        self.aftermath = Aftermath(lambda: self.told, self.clock.later, self.clock)
        before, _, behind = picture.partition("‸")
        self.uri, self.version = URI, 1
        self.open(before + behind)
        lines = before.split("\n")
        self.cursor: Place = len(lines) - 1, len(lines[-1])

    @property
    def document(self) -> Document:
        """The document that is open."""
        found = self.documents.get(self.uri)
        assert found is not None
        return found

    def open(self, text: str, uri: str = URI) -> None:
        """Open the document, perhaps under another name."""
        self.uri = uri
        self.aftermath.opened(self.documents.open(uri, "plaintext", self.version, text))

    def close(self) -> str:
        """Close it; returns its text."""
        text = self.document.text
        self.aftermath.closed(self.uri)
        self.documents.close(self.uri)
        return text

    def offer(self, *texts: str) -> None:
        """Offer suggestions at the cursor, with the ids "1", "2" and so on; then half a second passes."""
        offers = [Offered(id=str(number), text=text) for number, text in enumerate(texts, 1)]
        self.aftermath.offered(self.document, self.cursor, self.cursor, offers)
        self.clock.pass_by(0.5)

    def act(self, start: Place, end: Place, text: str, id: str = "1") -> None:
        """Make the edit of a code action, which nobody has applied yet; half a second passes."""
        self.aftermath.action(self.document, id, (start, end), text)
        self.clock.pass_by(0.5)

    def change(self, *edits: tuple[Range | None, str], keys: int = 1) -> None:
        """One change that a client sends: edits in their order, for so many quick keys."""
        self.version += keys
        self.documents.change(self.uri, self.version, edits, "utf-32", self.aftermath.edit)
        self.aftermath.settle(self.uri, keys)

    def insert(self, text: str, keys: int = 1) -> None:
        """Insert at the cursor, which then stands behind it."""
        self.change(((self.cursor, self.cursor), text), keys=keys)
        lines = text.split("\n")
        line, column = self.cursor
        self.cursor = line + len(lines) - 1, len(lines[-1]) + (column if len(lines) == 1 else 0)

    def type(self, keys: str) -> None:
        """Type, a change a key."""
        for key in keys:
            self.insert(key)

    def replace(self, start: Place, end: Place, text: str) -> None:
        """Replace a span in one edit."""
        self.change(((start, end), text))

    def whole(self, text: str) -> None:
        """Send the whole text, as clients without ranges do."""
        self.change((None, text))


def kept(told: Told) -> Sequence[float]:
    """The shares kept, in the order of their times."""
    return [float(str(event[3])) for event in told.of("kept")]
