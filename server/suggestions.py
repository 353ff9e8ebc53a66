"""Suggestions already offered in each open document. Typing along one needs no engine.

A suggestion has a place. `typed` is what stands there now: nothing at first, then what the user types, and nothing
again once that is deleted. A suggestion holds as long as the text around it does not change. Clients describe the same
edit in many ways, so an edit is judged by the text that it leaves.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from midspan.server.text.documents import Document, end_of
from midspan.server.text.line_index import Place, Range

OFFERS_REMEMBERED = 1000
SPOTS = 16  # places remembered in a document
BACK = 40  # characters that one may type beyond a suggestion and still come back
NEAR, NEAR_LINES = 2000, 50  # an edit that reaches further from the place than this is another edit
# Each suggestion typed past on a line multiplies the odds that the next one there needs.
WARIER = 2.0
# The factor within a word: at its beginning nothing, or something else, was sure enough.
WITHIN_A_WORD = 1.5
WORD = re.compile(r"\w")
AUTO_CLOSED = frozenset(")]}>\"'`")  # what editors put behind the cursor by themselves


@dataclass(frozen=True, slots=True, kw_only=True)
class Offered:
    """A suggestion: `text` goes in place of a span, in the document's line ends; `there` is its beginning, typed."""

    id: str
    text: str
    there: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recalled:
    """What is left of earlier suggestions, best first; `complete` if an explicit request needs no more."""

    offers: tuple[Offered, ...]
    complete: bool


@dataclass(slots=True, kw_only=True)
class _Spot:
    """Suggestions for one place, and what stands there now."""

    start: Place
    typed: str
    offers: tuple[Offered, ...]
    invoked: bool

    def stop(self) -> Place:
        """Where the typed text ends."""
        return end_of(self.start, self.typed)

    def follow(self, document: Document, span: Range, text: str) -> bool:
        """Note an edit before it is made; returns whether the suggestions still hold."""
        typed = typed_after(document, self.start, self.typed, (span, text))
        if typed is None:
            return False
        self.typed = typed
        longest = max((len(offer.text) for offer in self.offers), default=0)
        # A lone CR could become half of a line end, and the places behind it others.
        return len(self.typed) <= longest + BACK and "\r" not in self.typed.replace("\r\n", "\n")

    @property
    def contradicted(self) -> bool:
        """Whether the typed text contradicts every suggestion."""
        return bool(self.offers) and not any(
            offer.text.startswith(self.typed) or self.typed.startswith(offer.text) for offer in self.offers
        )

    def rest(self, document: Document, start: Place, end: Place, selected: str) -> tuple[Offered, ...] | None:
        """What is left of the suggestions at a cursor, or for the span of a menu entry; None if nothing."""
        before, replaced = _between(document, self.start, start), _between(document, start, end)
        if before is None or replaced is None or not self.typed.startswith(before + replaced):
            return None
        behind = self.typed[len(before) + len(replaced) :]
        if not AUTO_CLOSED.issuperset(behind):
            return None
        if not self.offers:
            return None if self.typed or selected else ()
        head = before + selected
        left = tuple(
            Offered(
                id=offer.id, text=offer.text[len(before) : len(offer.text) - len(behind)], there=offer.there + before
            )
            for offer in self.offers
            # What was put behind the cursor must be what the suggestion ends with.
            if len(offer.text) > len(head + behind) and offer.text.startswith(head) and offer.text.endswith(behind)
        )
        return left or None


class Suggestions:
    """The suggestions by document; costs by what is typed, not by the text."""

    def __init__(self) -> None:
        self._spots: dict[str, list[_Spot]] = {}

    def remember(
        self, document: Document, start: Place, end: Place, offers: Sequence[Offered], *, invoked: bool
    ) -> None:
        """Keep suggestions that replace a span of the document; no offers if nothing was worth showing."""
        typed = _between(document, start, end)
        at_lone_cr = start[0] > 0 and start[1] == 0 and document.lines[start[0] - 1].endswith("\r")
        if typed is None or at_lone_cr or (typed and not offers):
            return
        spots = [spot for spot in self._spots.get(document.uri, ()) if (spot.start, spot.typed) != (start, typed)]
        spots.append(_Spot(start=start, typed=typed, offers=tuple(offers), invoked=invoked))
        self._spots[document.uri] = spots[-SPOTS:]

    def recall(self, document: Document, start: Place, end: Place, selected: str = "") -> Recalled | None:
        """The newest suggestions that hold here, as texts that begin with `selected` and replace the span.

        No offers if nothing is known to be worth showing; None if nothing is known.
        """
        for spot in reversed(self._spots.get(document.uri, ())):
            left = spot.rest(document, start, end, selected)
            if left is not None:
                return Recalled(offers=left, complete=spot.invoked and len(left) == len(spot.offers))
        return None

    def follow(self, document: Document, span: Range, text: str) -> None:
        """Note an edit before it is made: `text` replaces a span."""
        spots = self._spots.pop(document.uri, None)
        if spots:
            self._spots[document.uri] = [spot for spot in spots if spot.follow(document, span, text)]

    def wary(self, threshold: float, document: Document, place: Place) -> float:
        """The confidence that an automatic suggestion needs at a place.

        It is higher after suggestions were typed past in the line, and within a word: a model that was wrong in a line
        is likely wrong again, and who has read two wrong suggestions wants no third.
        """
        line, column = place
        past = sum(spot.contradicted for spot in self._spots.get(document.uri, ()) if spot.start[0] == line)
        before = document.lines[line][max(0, column - 1) : column]
        odds = WARIER**past * (WITHIN_A_WORD if WORD.fullmatch(before) else 1.0)
        return threshold * odds / (1 + threshold * (odds - 1))

    def taken(self, uri: str) -> Place | None:
        """Where a suggestion ends whose whole text stands in the document; None if there is none."""
        for spot in reversed(self._spots.get(uri, ())):
            if any(offer.text == spot.typed for offer in spot.offers):
                return spot.stop()
        return None

    def forget(self, uri: str) -> None:
        """The document was closed, or its text is unknown."""
        self._spots.pop(uri, None)

    def clear(self) -> None:
        """Forget all: other suggestions would be made from now on."""
        self._spots.clear()


def typed_after(document: Document, start: Place, typed: str, edit: tuple[Range, str]) -> str | None:
    """What stands at a place, where `typed` stands now, once an edit is made; None if the text around it changes."""
    ((begin, end), text), stop = edit, end_of(start, typed)
    first, last = min(begin, start), max(end, stop)
    before, after = _between(document, first, start), _between(document, stop, last)
    head, tail = _between(document, first, begin), _between(document, end, last)
    if before is None or after is None or head is None or tail is None:
        return None
    new = head + text + tail
    if len(new) < len(before) + len(after) or not (new.startswith(before) and new.endswith(after)):
        return None
    return new[len(before) : len(new) - len(after)]


def _between(document: Document, start: Place, end: Place) -> str | None:
    """The text between two places; None if they are far apart or in the wrong order."""
    if start > end or end[0] - start[0] > NEAR_LINES:
        return None
    if start[0] == end[0]:
        return None if end[1] - start[1] > NEAR else document.lines[start[0]][start[1] : end[1]]
    size = len(document.lines[start[0]]) - start[1] + end[1] + sum(map(len, document.lines[start[0] + 1 : end[0]]))
    if size > NEAR:
        return None
    kept = [document.lines[start[0]][start[1] :], *document.lines[start[0] + 1 : end[0]]]
    return "".join(kept) + document.lines[end[0]][: end[1]]


class OfferedIds:
    """The ids of the newest offers, and how many UTF-16 units of each were typed when its latest item was made."""

    def __init__(self) -> None:
        self._there: dict[str, int] = {}

    def __contains__(self, id: object) -> bool:
        return id in self._there

    def add(self, id: str, there: int = 0) -> None:
        """An item was made of this offer."""
        self._there.pop(id, None)
        self._there[id] = there
        if len(self._there) > OFFERS_REMEMBERED:
            del self._there[next(iter(self._there))]

    def there(self, id: str) -> int:
        """See the class. Raises KeyError for an unknown id."""
        return self._there[id]
