"""Where a piece of a document stands after an edit."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from midspan.server.text.documents import end_of, split_lines, unchanged
from midspan.server.text.line_index import Place, Range

# A rewrite of more lines than this is not compared line by line.
MOST_LINES = 2000


@dataclass(slots=True)
class Region:
    """A span of a document. What is typed right before it or right behind it is not part of it.

    It is not `known` any more after an edit in which a lone CR may become half of another line end.
    """

    start: Place
    end: Place
    known: bool = True

    def follow(self, lines: Sequence[str], span: Range, text: str) -> None:
        """Note an edit before it is made in these lines: `text` replaces a span."""
        begin, stop = span
        if may_join_line_ends(lines, begin, text):
            self.known = False
        if not self.known:
            return
        if self.start == self.end == begin == stop:
            # What was cut comes back where it was, as by an undo.
            self.end = end_of(begin, text)
        elif stop <= self.start:
            self.start, self.end = (moved(place, span, text) for place in (self.start, self.end))
        elif begin < self.end:
            self._overlap(lines, span, text)

    def _overlap(self, lines: Sequence[str], span: Range, text: str) -> None:
        """Follow an edit within the region, or over a boundary of it."""
        begin, stop = span
        old = "" if self.start <= begin and stop <= self.end else text_between(lines, begin, stop)
        start = self.start
        if begin < self.start:
            inside = _mapped(old, text, len(text_between(lines, begin, self.start)), forward=True)
            start = end_of(begin, text[:inside])
        if stop <= self.end:
            self.end = moved(self.end, span, text)
        else:
            inside = _mapped(old, text, len(text_between(lines, begin, self.end)), forward=False)
            self.end = end_of(begin, text[:inside])
        # Of nothing both ends are one place, whatever blanks come there.
        self.start = min(start, self.end)


def may_join_line_ends(lines: Sequence[str], begin: Place, text: str) -> bool:
    """Whether a lone CR may become half of a CRLF once a text stands at a place: lines behind it are others then."""
    return "\r" in text.replace("\r\n", "") or (begin[0] > 0 == begin[1] and lines[begin[0] - 1].endswith("\r"))


def keeps_lines(span: Range, text: str) -> bool:
    """Whether an edit is within one line, so that lines above and below stay as they are."""
    return span[0][0] == span[1][0] and "\n" not in text and "\r" not in text


def moved(place: Place, span: Range, text: str) -> Place:
    """A place at or behind the end of a span, once a text replaces the span."""
    stop, new = span[1], end_of(span[0], text)
    if place[0] == stop[0]:
        return new[0], new[1] + place[1] - stop[1]
    return place[0] + new[0] - stop[0], place[1]


def text_between(lines: Sequence[str], start: Place, end: Place) -> str:
    """The text between two places of these lines, in order."""
    if start[0] == end[0]:
        return lines[start[0]][start[1] : end[1]]
    return "".join((lines[start[0]][start[1] :], *lines[start[0] + 1 : end[0]], lines[end[0]][: end[1]]))


def _mapped(old: str, new: str, offset: int, *, forward: bool) -> int:
    """The offset in a new text that stands for one in the old; `forward` for the beginning of something.

    Exact where only blanks differ, as after a formatter, and where the lines around it stay.
    """
    if _bare(old) == _bare(new):
        return _after_marks(new, len(_bare(old[:offset])), forward=forward)
    head, tail = unchanged(old, new)
    if offset <= head:
        return offset
    if offset >= len(old) - tail:
        return len(new) - (len(old) - offset)
    return _by_lines(split_lines(old), split_lines(new), offset, forward=forward)


def _bare(text: str) -> str:
    return "".join(text.split())


def _after_marks(text: str, count: int, *, forward: bool) -> int:
    """The offset behind so many characters that are no blanks; `forward` over the blanks that follow."""
    at = 0
    while count:
        count -= not text[at].isspace()
        at += 1
    while forward and at < len(text) and text[at].isspace():
        at += 1
    return at


def _by_lines(old: Sequence[str], new: Sequence[str], offset: int, *, forward: bool) -> int:
    """The offset by the lines that both texts have; without one, all that is new belongs to the region."""
    line, before = 0, 0
    while line < len(old) - 1 and before + len(old[line]) <= offset:
        before += len(old[line])
        line += 1
    alike = []
    if max(len(old), len(new)) <= MOST_LINES:
        bare, bare_new = ([one.strip() for one in lines] for lines in (old, new))
        alike = difflib.SequenceMatcher(None, bare, bare_new, autojunk=False).get_matching_blocks()
    for first, other, size in alike:
        if first <= line < first + size:
            there = other + line - first
            marks = len(_bare(old[line][: offset - before]))
            return sum(map(len, new[:there])) + _after_marks(new[there], marks, forward=forward)
    if forward:
        there = max((other + size for first, other, size in alike if first + size <= line), default=0)
    else:
        there = min((other for first, other, _ in alike if first > line), default=len(new))
    return sum(map(len, new[:there]))
