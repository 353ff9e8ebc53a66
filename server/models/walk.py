"""Files below folders of other programs: so many, so deep, in a fixed order, and no folder twice."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

MOST_FILES, MOST_DEPTH = 2000, 6
Note = Callable[[str], None]


def files_below(folder: Path, note: Note) -> Iterator[Path]:
    """Every regular file, links to files too. Links to folders are followed once. `note` is told what is left out."""
    for count, path in enumerate(_below(folder, MOST_DEPTH, set(), note)):
        if count == MOST_FILES:
            note(f"{folder}: has more than {MOST_FILES} files; the others are not listed")
            return
        yield path


def _below(folder: Path, depth: int, seen: set[tuple[int, int]], note: Note) -> Iterator[Path]:
    try:
        state = folder.stat()
        if (state.st_dev, state.st_ino) in seen:
            return
        seen.add((state.st_dev, state.st_ino))
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
    except FileNotFoundError:
        return
    except OSError as error:
        note(f"{folder}: {error.strerror}; not looked into")
        return
    for entry in found:
        path = folder / entry.name
        # For a link that leads round, or to where nobody may look, these say no.
        if os.path.isfile(path):
            yield path
        elif os.path.isdir(path) and depth > 1:
            yield from _below(path, depth - 1, seen, note)
