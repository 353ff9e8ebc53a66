"""How much of what was taken still stands 15 seconds to 10 minutes later, by tokens. The text is in memory only.

What is lost from its place but stands elsewhere as whole lines was moved, and is kept. A file that is closed keeps its
text; one that is opened with the same text under another name is the same file. Of a text that replaced another one,
what both have in common counts for neither: it was not brought, and an undo leaves nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from midspan.server.telemetry.regions import Region, keeps_lines, text_between
from midspan.server.telemetry.schema import HORIZONS
from midspan.server.text.documents import Document, end_of, split_lines
from midspan.server.text.line_index import Place, Range

TOKEN = re.compile(r"\w+|[^\w\s]")
# A line with fewer tokens stands in many places by chance.
LINE_TOKENS = 3
# Texts followed at a time.
FOLLOWED = 200
# Lines are counted this long after the acceptance, as no key shall wait for it.
COUNT_S = 1.0

Later = Callable[[float, Callable[[], None]], object]
"""(seconds, call) -> the call is made so many seconds later."""
Kept = Callable[[str, int, float], None]
"""(id, seconds since the acceptance, share kept)."""


@dataclass(slots=True, kw_only=True, eq=False)
class _Taken:
    """A text that was taken, and where it stands now; `counted` has how often each of its lines stood in the file.

    `common` counts its tokens that stood there before it, in the same order.
    """

    id: str
    text: str
    uri: str
    region: Region
    common: int = 0
    counted: dict[str, int] = field(default_factory=dict)


class Survival:
    """The texts that were taken in the last ten minutes; used on the event loop only."""

    def __init__(self, kept: Kept, later: Later) -> None:
        self._kept, self._later = kept, later
        self._followed: dict[str, _Taken] = {}
        self._open: dict[str, Document] = {}
        self._closed: dict[str, list[str]] = {}

    def begin(self, document: Document, id: str, start: Place, text: str, old: str = "") -> None:
        """Follow a text that was taken and stands there, in place of an old one, if it brings any token.

        More of the same suggestion replaces what was taken before.
        """
        tokens = TOKEN.findall(text)
        shared = common(TOKEN.findall(old), tokens)
        if shared == len(tokens):
            return
        region = Region(start, end_of(start, text))
        taken = _Taken(id=id, text=text, uri=document.uri, region=region, common=shared)
        self._followed.pop(id, None)
        self._followed[id] = taken
        self._open[document.uri] = document
        if len(self._followed) > FOLLOWED:
            del self._followed[next(iter(self._followed))]
        self._later(COUNT_S, partial(self._count, taken))
        for seconds in HORIZONS:
            self._later(float(seconds), partial(self._measure, taken, seconds))

    def follow(self, document: Document, span: Range, text: str) -> None:
        """Note an edit before it is made."""
        if not self._followed:
            return
        (first, _), (last, _), flat = *span, keeps_lines(span, text)
        for taken in self._followed.values():
            if taken.uri == document.uri:
                region = taken.region
                if first <= region.end[0] and not (flat and last < region.start[0]):
                    region.follow(document.lines, span, text)

    def opened(self, document: Document) -> None:
        """A document was opened: perhaps one that was closed, under its old name or a new one."""
        if document.uri in self._open:
            self.closed(document.uri)
        for uri, lines in list(self._closed.items()):
            if uri == document.uri or lines == document.lines:
                del self._closed[uri]
                for taken in self._in(uri):
                    if lines != document.lines:
                        whole = (0, 0), (len(lines) - 1, len(lines[-1]))
                        taken.region.follow(lines, whole, document.text)
                    taken.uri = document.uri
        if self._in(document.uri):
            self._open[document.uri] = document

    def closed(self, uri: str) -> None:
        """A document was closed: its text stays as it is."""
        document = self._open.pop(uri, None)
        if document is not None and self._in(uri):
            self._closed[uri] = list(document.lines)

    def lose(self, uri: str) -> None:
        """A document's text is unknown."""
        self._open.pop(uri, None)
        self._closed.pop(uri, None)
        for taken in self._in(uri):
            del self._followed[taken.id]

    def clear(self) -> None:
        """Follow nothing any more."""
        for place in (self._followed, self._open, self._closed):
            place.clear()

    def _in(self, uri: str) -> list[_Taken]:
        return [taken for taken in self._followed.values() if taken.uri == uri]

    def _lines(self, taken: _Taken) -> Sequence[str]:
        document = self._open.get(taken.uri)
        return self._closed.get(taken.uri, ()) if document is None else document.lines

    def _count(self, taken: _Taken) -> None:
        """Note how often its lines stand in the file, so that one that goes and comes elsewhere is found again."""
        if not (lines := self._lines(taken)) or not taken.region.known:
            return
        whole, standing = "".join(lines), text_between(lines, taken.region.start, taken.region.end)
        known = {line for line in map(str.strip, split_lines(taken.text)) if line in standing}
        taken.counted = {line: whole.count(line) for line in known if len(TOKEN.findall(line)) >= LINE_TOKENS}

    def _measure(self, taken: _Taken, seconds: int) -> None:
        if self._followed.get(taken.id) is not taken:
            return
        lines = self._lines(taken)
        if lines and taken.region.known:
            self._kept(taken.id, seconds, _share(taken, lines))
        if seconds == HORIZONS[-1]:
            del self._followed[taken.id]
            if not self._in(taken.uri):
                self._open.pop(taken.uri, None)
                self._closed.pop(taken.uri, None)


def _share(taken: _Taken, lines: Sequence[str]) -> float:
    """The share of its tokens that stand in its place in the same order, or elsewhere in lines that were moved."""
    standing = text_between(lines, taken.region.start, taken.region.end)
    tokens, there = TOKEN.findall(taken.text), TOKEN.findall(standing)
    kept = common(tokens, there)
    if kept < len(tokens):
        whole = "".join(lines)
        gone = {line for line in taken.counted if line not in standing}
        elsewhere = {line for line in gone if whole.count(line) >= taken.counted[line]}
        stayed = [line for line in split_lines(taken.text) if line.strip() not in elsewhere]
        left = TOKEN.findall("".join(stayed))
        kept = max(kept, common(left, there) + len(tokens) - len(left))
    return max(0.0, (kept - taken.common) / (len(tokens) - taken.common))


def common(one: Sequence[str], other: Sequence[str]) -> int:
    """The length of the longest common subsequence, a column of the table in the bits of a number."""
    where = dict[str, int]()
    for index, token in enumerate(one):
        where[token] = where.get(token, 0) | 1 << index
    full = (1 << len(one)) - 1
    column = full
    for token in other:
        met = column & where.get(token, 0)
        column = (column + met | column - met) & full
    return len(one) - column.bit_count()
