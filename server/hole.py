"""(document, position or selection) -> Hole: the text near the gap, with LF line ends, and what sort of gap it is."""

from __future__ import annotations

from midspan.engine.api import GapKind, Hole
from midspan.server.documents import Document, Place, byte_length

PREFIX_CHARS, SUFFIX_CHARS = 6000, 2000
# The prefix begins at a multiple of these, so that a keystroke does not move its beginning.
ANCHOR_LINES, ANCHOR_CHARS = 32, 1024
CLOSERS = frozenset(")]}\"'`,;: \t")


def build_hole(document: Document, start: Place, end: Place | None = None, selected: str = "") -> Hole:
    """The hole at a place, or in place of a span; `selected` is a menu entry that stands before the gap."""
    end = start if end is None else end
    prefix, suffix = _before(document, start) + selected, _after(document, end)
    kind = _kind(document, start, end, selected)
    return Hole(prefix=prefix, suffix=suffix, kind=kind, language=document.language_id)


def _kind(document: Document, start: Place, end: Place, selected: str) -> GapKind:
    line, column = start
    before, after = document.lines[line][:column] + selected, document.content(end[0])[end[1] :]
    if start != end and not selected:
        return "span"
    if document.syntax is not None:
        offset = sum(document.sizes[:line]) + byte_length(document.lines[line][:column])
        around = document.syntax.surroundings(offset)
        if around != "code":
            return around
    if not before.strip() and not after.strip():
        return "line"
    return "rest_of_line"


def _before(document: Document, place: Place) -> str:
    """At most PREFIX_CHARS and at least half of that, or all there is, from an anchored line on."""
    line, column = place
    here = document.lines[line][:column]
    if len(here) > PREFIX_CHARS:
        return here[-(-(len(here) - PREFIX_CHARS) // ANCHOR_CHARS) * ANCHOR_CHARS :]
    first, chars = line, len(here)
    while first and chars + len(document.lines[first - 1]) <= PREFIX_CHARS:
        first -= 1
        chars += len(document.lines[first])
    anchored = -(-first // ANCHOR_LINES) * ANCHOR_LINES if first else 0
    kept = document.lines[anchored:line]
    if anchored > line or sum(map(len, kept)) + len(here) < PREFIX_CHARS // 2:
        kept = document.lines[first:line]
    return _lf("".join([*kept, here]))


def _after(document: Document, place: Place) -> str:
    """At most SUFFIX_CHARS of what stands behind a place, cut at a line's end where a line fits."""
    line, column = place
    parts = [document.lines[line][column:]]
    chars = len(parts[0])
    if chars > SUFFIX_CHARS:
        return _lf(parts[0][:SUFFIX_CHARS])
    for following in document.lines[line + 1 :][:SUFFIX_CHARS]:
        chars += len(following)
        if chars > SUFFIX_CHARS:
            break
        parts.append(following)
    return _lf("".join(parts))


def _lf(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text
