"""(document, position or selection) -> Hole: the text near the gap, with LF line ends, and what sort of gap it is."""

from __future__ import annotations

from midspan.engine.api import GapKind, Hole
from midspan.server.text.documents import Document
from midspan.server.text.languages import literals_of
from midspan.server.text.line_index import Place, byte_length
from midspan.server.text.syntax import Syntax

PREFIX_CHARS, SUFFIX_CHARS = 6000, 2000
LONG_LINE = 2000
BLANK_LINES = 20  # above the cursor, at most, between a block's first line and the gap
# The prefix begins at a multiple of these, so that a keystroke does not move its beginning: of the coarsest that fits.
ANCHOR_LINES, ANCHOR_CHARS = (32, 16, 8, 4, 2, 1), 1024


def build_hole(document: Document, start: Place, end: Place | None = None, selected: str = "") -> Hole:
    """The hole at a place, or in place of a span; `selected` is a menu entry that stands before the gap."""
    end, selected = start if end is None else end, lf(selected)
    prefix, suffix = _before(document, start) + selected, _after(document, end)
    kind = _kind(document, start, end, selected)
    return Hole(prefix=prefix, suffix=suffix, kind=kind, language=document.language_id)


def _kind(document: Document, start: Place, end: Place, selected: str) -> GapKind:
    line, column = start
    before, after = document.lines[line][:column] + selected, document.content(end[0])[end[1] :]
    if start != end and not selected:
        return "span"
    blank = not before.strip() and not after.strip()
    if document.syntax is not None:
        offset = document.offset(start)
        around = document.syntax.surroundings(offset)
        if around != "code":
            return around
        if blank and _alone_in_block(document, document.syntax, line, offset):
            return "block"
    return "line" if blank else "rest_of_line"


def _alone_in_block(document: Document, syntax: Syntax, line: int, offset: int) -> bool:
    """Whether a blank line and the comments above it are all there is of a block; `offset` is a place in the line."""
    above = line - 1
    marks = syntax.language.line_comments
    while above > max(0, line - BLANK_LINES) and _says_nothing(document.content(above), marks):
        above -= 1
    if above < 0:
        return False
    code = document.content(above)
    code = _without_comment(code, syntax).rstrip() if len(code) < LONG_LINE else code
    return syntax.in_empty_block(offset, document.offsets.before(above) + byte_length(code))


def _says_nothing(content: str, marks: tuple[str, ...]) -> bool:
    return not content.strip() or content.lstrip().startswith(marks)


def _without_comment(content: str, syntax: Syntax) -> str:
    """A line without the comment at its end, literals left alone."""
    marks = syntax.language.line_comments
    for found in literals_of(syntax.language).finditer(content):
        if found[0].startswith(marks):
            return content[: found.start()]
    return content


def _before(document: Document, place: Place) -> str:
    """At most PREFIX_CHARS and at least half of that, or all there is, from an anchored line on."""
    line, column = place
    here = document.lines[line][:column]
    if len(here) > PREFIX_CHARS:
        return _end(here, PREFIX_CHARS)
    first, chars = line, len(here)
    while first and chars + len(document.lines[first - 1]) <= PREFIX_CHARS:
        first -= 1
        chars += len(document.lines[first])
    if first and chars < PREFIX_CHARS // 2:
        kept = [_end(document.lines[first - 1], PREFIX_CHARS - chars), *document.lines[first:line]]
    else:
        kept = document.lines[_anchored(document, first, line, len(here)) : line]
    return lf("".join([*kept, here]))


def _anchored(document: Document, first: int, line: int, here: int) -> int:
    """The first line at or after `first` that stands at an anchor and leaves half of PREFIX_CHARS."""
    for step in ANCHOR_LINES:
        anchor = -(-first // step) * step
        if sum(map(len, document.lines[anchor:line])) + here >= PREFIX_CHARS // 2:
            return anchor
    return first


def _end(text: str, room: int) -> str:
    """The end of a text that is longer than the room, from an anchored character on."""
    return text[-(-(len(text) - room) // ANCHOR_CHARS) * ANCHOR_CHARS :]


def _after(document: Document, place: Place) -> str:
    """At most SUFFIX_CHARS of what stands behind a place, cut at a line's end unless that leaves less than half."""
    line, column = place
    kept: list[str] = []
    room = SUFFIX_CHARS
    for text in (document.lines[line][column:], *document.lines[line + 1 : line + 1 + SUFFIX_CHARS]):
        if len(text) > room:
            kept.append(text[:room] if room > SUFFIX_CHARS // 2 else "")
            break
        kept.append(text)
        room -= len(text)
    return lf("".join(kept))


def lf(text: str) -> str:
    """The text with LF line ends."""
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def encodable(text: str) -> str:
    """Halves of a surrogate pair joined, a lone one replaced: an editor may send it, no tokenizer takes it."""
    return text if text.isascii() else text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
