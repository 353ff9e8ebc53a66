"""Where the user has edited lately: regions of lines in open documents, newest last, without their text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from midspan.server.text.line_index import Range

KEPT = 16
# An edit so near to a region, in lines, widens it.
NEAR_LINES = 3
MAX_LINES = 12


@dataclass(frozen=True, slots=True)
class Region:
    """Lines [first, last] of a document."""

    uri: str
    first: int
    last: int


class Edits:
    """A ring of recently edited regions; a region moves when lines are added or deleted above it."""

    def __init__(self) -> None:
        self._regions: list[Region] = []

    def note(self, uri: str, span: Range | None, text: str) -> None:
        """An edit as the client sent it; one of the whole text says nothing of where."""
        if span is None:
            self.forget(uri)
            return
        (first, _), (last, _) = sorted(span)
        added = text.count("\n") + text.count("\r") - text.count("\r\n")
        moved = [_moved(region, first, last, added) if region.uri == uri else region for region in self._regions]
        here = Region(uri, first, first + added)
        kept = []
        for region in moved:
            if region is None:
                continue
            if _touch(region, here):
                here = Region(uri, min(region.first, here.first), max(region.last, here.last))
            else:
                kept.append(region)
        # The lines of a long region that were edited last are what counts.
        here = Region(uri, max(here.first, first + added - MAX_LINES), min(here.last, first + added + MAX_LINES))
        self._regions = [*kept, here][-KEPT:]

    def forget(self, uri: str) -> None:
        """A document was closed or replaced."""
        self._regions = [region for region in self._regions if region.uri != uri]

    def newest(self) -> Iterator[Region]:
        """The regions, newest first."""
        return reversed(self._regions)


def _moved(region: Region, first: int, last: int, added: int) -> Region | None:
    """A region after lines [first, last] became `added` + 1 lines; None for one that lay within lines deleted."""
    shift = added - (last - first)
    if region.last < first:
        return region
    if region.first > last:
        return Region(region.uri, region.first + shift, region.last + shift)
    if first < region.first and region.last < last:
        return None
    return Region(region.uri, min(region.first, first), max(region.last, last) + shift)


def _touch(one: Region, other: Region) -> bool:
    return one.uri == other.uri and one.first <= other.last + NEAR_LINES and other.first <= one.last + NEAR_LINES
