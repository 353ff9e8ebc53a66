"""Which files of an open folder are read: those of languages with definitions, nearest first; no links, nothing hidden,
nothing that the policy keeps out. A path that makes trouble is passed over."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from midspan.server.text.languages import BY_EXTENSION, language_of
from midspan.server.workspace.exclusion import Exclusion
from midspan.server.workspace.tags import has_tags

MAX_ENTRIES, MAX_DEPTH = 100_000, 24
# Folders that no rules name everywhere, and whose text is not the user's.
SKIPPED = frozenset(("node_modules", "__pycache__", "site-packages", "venv", "vendor"))


def walk(folder: str, exclusion: Exclusion, exclude: tuple[str, ...]) -> Iterator[str]:
    """The files below a folder."""
    entries = 0
    level = [folder]
    for _ in range(MAX_DEPTH):
        below: list[str] = []
        for each in level:
            for path, is_folder in _entries(each):
                entries += 1
                if entries > MAX_ENTRIES:
                    return
                if _is_passed_over(os.path.basename(path)):
                    continue
                if is_folder:
                    if not exclusion.ignored(path, folder=True):
                        below.append(path)
                elif is_read(path) and exclusion.reason_of_path(path, exclude) is None:
                    yield path
        level = below


def may_be_read(path: str, roots: Iterable[str], exclusion: Exclusion, exclude: tuple[str, ...]) -> bool:
    """Whether a walk through one of the folders would come to a path, were it there."""
    root = next((root for root in roots if path.startswith(root.rstrip(os.sep) + os.sep)), None)
    if root is None:
        return False
    at = root
    for part in os.path.relpath(path, root).split(os.sep):
        at = os.path.join(at, part)
        if _is_passed_over(part) or os.path.islink(at):
            return False
    return exclusion.reason_of_path(path, exclude) is None


def is_read(path: str) -> bool:
    """Whether a file's language has definitions, by its name."""
    language = BY_EXTENSION.get(os.path.splitext(path)[1].lower())
    return language is not None and has_tags(language_of(language))


def globs_of(lines: Iterable[str], *, definitions: bool) -> tuple[str, ...]:
    """The globs of files that are read for definitions, or for lines in languages; none where nothing is."""
    wanted = set(lines)
    return tuple(
        f"**/*{ending}"
        for ending, language in sorted(BY_EXTENSION.items())
        if has_tags(language_of(language)) and (definitions or language in wanted)
    )


def in_turn(walks: Iterable[Iterator[str]]) -> Iterator[str]:
    """The files of several walks, one of each at a time, so that a large folder does not crowd out the others."""
    left = list(walks)
    while left:
        for one in list(left):
            if (path := next(one, None)) is None:
                left.remove(one)
            else:
                yield path


def _is_passed_over(name: str) -> bool:
    return name.startswith(".") or name in SKIPPED


def _entries(folder: str) -> list[tuple[str, bool]]:
    """The folders and plain files in a folder by name; those that can be seen, where it can be read at all."""
    found = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if (is_folder := _is_folder(entry)) is not None:
                    found.append((entry.path, is_folder))
    except (OSError, ValueError):
        pass
    return sorted(found)


def _is_folder(entry: os.DirEntry[str]) -> bool | None:
    """None for what is neither a folder nor a plain file, or has just vanished."""
    try:
        if entry.is_symlink():
            return None
        return True if entry.is_dir() else False if entry.is_file() else None
    except OSError:
        return None
