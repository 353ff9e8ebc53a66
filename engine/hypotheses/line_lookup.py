"""Look up lines of other files that begin like the gap's line, or follow a line like the one above it.

Lines are kept sorted, so that a lookup costs a few binary searches, however many files there are.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from itertools import chain

from midspan.engine.api import Hole, Line

# The most lines kept in all. Shorter lines than MIN_CHARS are brackets, longer ones than MAX_CHARS are data.
MAX_LINES, MIN_CHARS, MAX_CHARS = 40_000, 3, 200
# How many lines with the same beginning are returned, and how many on either side of a line are compared.
ALIKE, BESIDE = 64, 24
# Two lines are alike if so many first characters are equal.
MIN_COMMON = 6
LAST = "\U0010ffff"

# As in Line, but plain tuples of text, which the garbage collector does not have to visit.
_Entry = tuple[str, str, str]


class LineIndex:
    """The lines of some files, sorted; a changed file's lines are put in again."""

    def __init__(self, shares: int = 1) -> None:
        """It keeps MAX_LINES lines, divided by how many there are of its kind."""
        self._most = MAX_LINES // shares
        self._files: dict[str, Sequence[str]] = {}
        self._keys: dict[_Entry, tuple[str, ...]] = {}  # a line's files, each as often as the line stands in it
        self._sorted: dict[str, list[_Entry]] = {}  # by their first character
        self._count = 0

    def __len__(self) -> int:
        """The number of lines in all."""
        return self._count

    def put(self, key: str, lines: Sequence[str]) -> None:
        """Replace a file's lines (no indents, no blank lines); beyond MAX_LINES the file is left out.

        Apart from finding what has changed, the cost grows with the changed lines only.
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
        """Remove a file."""
        self.put(key, ())

    def near(self, hole: Hole, key: str) -> tuple[Line, ...]:
        """Lines of files other than `key` that begin like the gap's line.

        Also lines that follow a line like the one above the gap, which is all there is for an empty line.
        """
        before, _, stem = hole.prefix.rpartition("\n")
        stem, above = stem.lstrip(), before.rstrip().rpartition("\n")[2].strip()
        found = dict[Line, None]()
        for line in self._begun(stem) if stem else ():
            if self._is_in_another_file(line, key):
                found[Line(*line)] = None
        for line in self._beside(above) if len(above) >= MIN_COMMON else ():
            text, _, below = line
            if below.startswith(stem) and len(below) > len(stem) and self._is_in_another_file(line, key):
                found[Line(below, text, "")] = None
        return tuple(found)

    def _is_in_another_file(self, line: _Entry, key: str) -> bool:
        return any(other != key for other in self._keys[line])

    def _begun(self, stem: str) -> Iterator[_Entry]:
        """Lines longer than a stem that begin with it, evenly spaced if there are many."""
        lines = self._sorted.get(stem[0], [])
        first, last = bisect_left(lines, (stem + "\0",)), bisect_left(lines, (stem + LAST,))
        step = max(1, -(-(last - first) // ALIKE))
        return (lines[at] for at in range(first, last, step))

    def _beside(self, text: str) -> Iterator[_Entry]:
        """Lines that begin like a text, equal ones first."""
        lines = self._sorted.get(text[0], [])
        at = bisect_left(lines, (text,))
        after, before = range(at, min(len(lines), at + BESIDE)), range(at - 1, max(-1, at - 1 - BESIDE), -1)
        common = text[:MIN_COMMON]
        return (lines[number] for number in chain(after, before) if lines[number][0].startswith(common))

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
    """A text's non-blank lines, without indents."""
    return tuple(bare for line in text.split("\n") if (bare := line.strip()))


def _changed(old: Sequence[str], new: Sequence[str]) -> tuple[int, int]:
    """How many first and last lines are unchanged and have unchanged neighbours."""
    shorter = min(len(old), len(new))
    first = next((at for at in range(shorter) if old[at] != new[at]), shorter)
    last = next((at for at in range(shorter - first) if old[-1 - at] != new[-1 - at]), shorter - first)
    return max(0, first - 1), max(0, last - 1)


def _entries(lines: Sequence[str], first: int, end: int) -> Iterator[_Entry]:
    """The lines [first, end) of a file with the lines above and below; too short and too long ones are left out."""
    for at in range(first, end):
        if MIN_CHARS <= len(lines[at]) <= MAX_CHARS:
            above, below = lines[at - 1] if at else "", lines[at + 1] if at + 1 < len(lines) else ""
            yield lines[at], above[:MAX_CHARS], below[:MAX_CHARS]
