"""Where lines begin in UTF-8 bytes, under edits; an edit's cost does not grow with the text."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate

# Lines that are summed at a time, when a place is looked up behind what is known.
AT_A_TIME = 1000

Place = tuple[int, int]
Range = tuple[Place, Place]


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """One replacement in UTF-8: bytes, and (line, byte in the line), of its start, its old end and its new end."""

    start: int
    old_end: int
    new_end: int
    start_point: Place
    old_end_point: Place
    new_end_point: Place


class Offsets:
    """Sizes of lines in bytes; prefix sums are kept up to the last edit, and remade on demand."""

    def __init__(self, sizes: Iterable[int]) -> None:
        self._sizes = list(sizes)
        self._sums = [0]  # of the first 0, 1, 2, ... lines
        self._known = 0  # up to here

    def __len__(self) -> int:
        return len(self._sizes)

    def __getitem__(self, line: int) -> int:
        return self._sizes[line]

    def before(self, line: int) -> int:
        """The bytes of all lines before this one, which may be one past the last."""
        if line > self._known:
            del self._sums[self._known + 1 :]
            more = accumulate(self._sizes[self._known : line], initial=self._sums.pop())
            self._sums.extend(more)
            self._known = line
        return self._sums[line]

    def line_at(self, offset: int) -> int:
        """The line that holds the byte at an offset; one past the last for an offset past the text."""
        while self._known < len(self._sizes) and self._sums[self._known] <= offset:
            self.before(min(len(self._sizes), self._known + AT_A_TIME))
        return bisect_right(self._sums, offset, hi=self._known + 1) - 1

    def replace(self, first: int, end: int, sizes: Iterable[int]) -> None:
        """Replace the lines [first, end)."""
        self._sizes[first:end] = sizes
        self._known = min(self._known, first)


def byte_length(text: str) -> int:
    """Bytes of UTF-8; a lone surrogate, which JSON can carry, counts three."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
