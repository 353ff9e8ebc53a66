"""Lines of other files that may be what the gap's line is to become: those that begin like it, or follow one like the
line above it. Kept sorted, so that a question costs a few searches by halves, however many files there are."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from itertools import chain

from midspan.engine.api import Hole, Line

# What is kept in all, and which lines of a file: a bracket says nothing, and a long line is data.
MAX_LINES, LEAST_CHARS, MOST_CHARS = 40_000, 3, 200
# So many that begin alike are looked at, and so many on either side of where the line above would stand.
ALIKE, BESIDE = 64, 24
# So many characters two lines must begin with for one to stand for the other.
LEAST_ALIKE = 6
LAST = "\U0010ffff"

# As Line has them; plain tuples of text, which the garbage collector need not look at.
_Entry = tuple[str, str, str]


class Elsewhere:
    """The lines of some files, by what they begin with; a file's text is given afresh when it has changed."""

    def __init__(self, shares: int = 1) -> None:
        """It keeps MAX_LINES lines, divided by how many there are of its kind."""
        self._most = MAX_LINES // shares
        self._files: dict[str, Sequence[str]] = {}
        self._keys: dict[_Entry, tuple[str, ...]] = {}  # of the files that a line stands in, as often as it does
        self._sorted: dict[str, list[_Entry]] = {}  # by their first character
        self._count = 0

    def __len__(self) -> int:
        """How many lines there are in all."""
        return self._count

    def put(self, key: str, lines: Sequence[str]) -> None:
        """What a file holds now, without indents and blank lines; nothing of it where there is no room left.

        Costs by what has changed, but for finding that out.
        """
        old = self._files.pop(key, ())
        if self._count - len(old) + len(lines) > self._most:
            lines = ()
        self._count += len(lines) - len(old)
        if lines:
            self._files[key] = lines
        first, last = _changed(old, lines)
        for line in _entries(old, first, len(old) - last):
            self._remove(line, key)
        for line in _entries(lines, first, len(lines) - last):
            self._add(line, key)

    def drop(self, key: str) -> None:
        """A file is no more."""
        self.put(key, ())

    def near(self, hole: Hole, key: str) -> tuple[Line, ...]:
        """Lines of other files than `key` that the line of a gap may become, by what stands before the gap in it.

        Where there is nothing yet, those that follow a line like the one above.
        """
        before, _, stem = hole.prefix.rpartition("\n")
        stem, above = stem.lstrip(), before.rstrip().rpartition("\n")[2].strip()
        found = dict[Line, None]()
        for line in self._begun(stem) if stem else ():
            if self._is_elsewhere(line, key):
                found[Line(*line)] = None
        for line in self._beside(above) if len(above) >= LEAST_ALIKE else ():
            text, _, below = line
            if below.startswith(stem) and len(below) > len(stem) and self._is_elsewhere(line, key):
                found[Line(below, text, "")] = None
        return tuple(found)

    def _is_elsewhere(self, line: _Entry, key: str) -> bool:
        return any(other != key for other in self._keys[line])

    def _begun(self, stem: str) -> Iterator[_Entry]:
        """Lines that go on behind a stem, drawn evenly from among them where there are many."""
        lines = self._sorted.get(stem[0], [])
        first, last = bisect_left(lines, (stem + "\0",)), bisect_left(lines, (stem + LAST,))
        step = max(1, -(-(last - first) // ALIKE))
        return (lines[at] for at in range(first, last, step))

    def _beside(self, text: str) -> Iterator[_Entry]:
        """Lines that begin like a text, those that are it first."""
        lines = self._sorted.get(text[0], [])
        at = bisect_left(lines, (text,))
        after, before = range(at, min(len(lines), at + BESIDE)), range(at - 1, max(-1, at - 1 - BESIDE), -1)
        least = text[:LEAST_ALIKE]
        return (lines[number] for number in chain(after, before) if lines[number][0].startswith(least))

    def _add(self, line: _Entry, key: str) -> None:
        keys = self._keys.get(line, ())
        self._keys[line] = (*keys, key)
        if not keys:
            insort(self._sorted.setdefault(line[0][0], []), line)

    def _remove(self, line: _Entry, key: str) -> None:
        keys = list(self._keys[line])
        keys.remove(key)
        if keys:
            self._keys[line] = tuple(keys)
            return
        del self._keys[line]
        lines = self._sorted[line[0][0]]
        del lines[bisect_left(lines, line)]


def bare_lines(text: str) -> tuple[str, ...]:
    """A text's lines without indents and blank ones."""
    return tuple(bare for line in text.split("\n") if (bare := line.strip()))


def _changed(old: Sequence[str], new: Sequence[str]) -> tuple[int, int]:
    """How many lines from the beginning and then from the end are as they were, and stand beside one that is too."""
    least = min(len(old), len(new))
    first = next((at for at in range(least) if old[at] != new[at]), least)
    last = next((at for at in range(least - first) if old[-1 - at] != new[-1 - at]), least - first)
    return max(0, first - 1), max(0, last - 1)


def _entries(lines: Sequence[str], first: int, end: int) -> Iterator[_Entry]:
    """The lines [first, end) of a file with their neighbours, but for those that are too short or too long."""
    for at in range(first, end):
        if LEAST_CHARS <= len(lines[at]) <= MOST_CHARS:
            above, below = lines[at - 1] if at else "", lines[at + 1] if at + 1 < len(lines) else ""
            yield lines[at], above[:MOST_CHARS], below[:MOST_CHARS]
