"""Whether a code action's edit was applied, and undone within a minute, read off the texts that its document becomes.

An editor makes an edit in as many changes as it likes. Once it is made, the document is exactly the old one with the
edit in it, and after an undo exactly the old one. Both are known by their hash.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from midspan.server.telemetry.events import Ended
from midspan.server.telemetry.regions import text_between
from midspan.server.telemetry.survival import Survival
from midspan.server.text.documents import Document, split_lines
from midspan.server.text.line_index import Place

UNDO_S = 60.0
# Edits that are watched in a document.
WATCHED = 8


class Sink(Protocol):
    """Who is told: the store, where telemetry is on."""

    def seen(self, id: str) -> None:
        """It has been on screen."""

    def taken(self, id: str) -> None:
        """It was applied."""

    def ended(self, id: str, how: Ended) -> None:
        """It ended otherwise."""


class _Text(NamedTuple):
    """What tells one text from another: two quick looks at it, and its hash."""

    size: int
    row: str
    digest: int

    def is_of(self, lines: Sequence[str], row: int) -> bool:
        """Whether it is that of these lines; all of them are read only where the quick looks say yes."""
        return len(lines) == self.size and lines[row] == self.row and hash("".join(lines)) == self.digest


@dataclass(slots=True, kw_only=True, eq=False)
class _Edit:
    """An edit that was made for a person: `old` is what it replaces by `text`, `at` when it was first applied."""

    id: str
    document: Document
    start: Place
    old: str
    text: str
    before: _Text
    after: _Text
    at: float | None = None
    stands: bool = False


class Applied:
    """The edits of code actions that may be applied or undone; used on the event loop only, in memory only."""

    def __init__(
        self, sink: Callable[[], Sink | None], survival: Survival, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._sink, self._survival, self._clock = sink, survival, clock
        self._watched: dict[str, list[_Edit]] = {}

    def offered(self, document: Document, id: str, span: tuple[Place, Place], text: str) -> None:
        """Watch an edit of the document as it is now: a text, in the document's line ends, replaces a span."""
        sink = self._sink()
        if sink is None:
            return
        (start, end), lines = span, document.lines
        head = text_between(lines, (0, 0), start)
        tail = text_between(lines, end, (len(lines) - 1, len(lines[-1])))
        before, after = (_text_of(each, start[0]) for each in (lines, split_lines(head + text + tail)))
        if before == after:
            return
        old = text_between(lines, start, end)
        watched = self._watched.setdefault(document.uri, [])
        watched.append(_Edit(id=id, document=document, start=start, old=old, text=text, before=before, after=after))
        for edit in watched[:-WATCHED]:
            _dismiss(sink, edit)
        del watched[:-WATCHED]

    def look(self, uri: str) -> None:
        """Look at a document as it is now, before its next edit or after its last one."""
        sink, watched = self._sink(), self._watched.get(uri)
        if not watched or sink is None:
            return
        now = self._clock()
        for edit in watched:
            if not edit.stands and edit.after.is_of(edit.document.lines, edit.start[0]):
                self._stands(sink, edit, now)
            elif edit.stands and edit.before.is_of(edit.document.lines, edit.start[0]):
                edit.stands = False
                sink.ended(edit.id, "undone")
        self._watched[uri] = [edit for edit in watched if edit.at is None or now - edit.at <= UNDO_S]

    def closed(self, uri: str) -> None:
        """A document was closed."""
        sink = self._sink()
        for edit in self._watched.pop(uri, ()):
            if sink is not None:
                _dismiss(sink, edit)

    def lose(self, uri: str) -> None:
        """A document's text is unknown."""
        self._watched.pop(uri, None)

    def clear(self) -> None:
        """Watch nothing any more."""
        self._watched.clear()

    def _stands(self, sink: Sink, edit: _Edit, now: float) -> None:
        """It was applied, or applied again after an undo."""
        if edit.at is None:
            edit.at = now
            sink.seen(edit.id)
        edit.stands = True
        sink.taken(edit.id)
        self._survival.begin(edit.document, edit.id, edit.start, edit.text, edit.old)


def _text_of(lines: Sequence[str], row: int) -> _Text:
    return _Text(len(lines), lines[row], hash("".join(lines)))


def _dismiss(sink: Sink, edit: _Edit) -> None:
    """Nobody can apply it any more."""
    if edit.at is None:
        sink.ended(edit.id, "dismissed")
