"""Which file defines a name and which lines there are: what the indexer found in the workspace and in open documents,
in memory only."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Sequence
from functools import lru_cache
from pathlib import PurePath
from urllib.parse import urlsplit
from urllib.request import url2pathname

from msgspec.structs import replace

from midspan.engine import Elsewhere
from midspan.engine.api import Hole, Line
from midspan.server.text.languages import name_of
from midspan.server.workspace.indexer import Finding, Found, Gone
from midspan.server.workspace.tags import Definition

MAX_DEFINITIONS = 60_000
# A name that more files than these define says nothing of which one is meant.
MAX_FILES_A_NAME = 8
# Languages whose files use each other's names.
FAMILIES = {"tsx": "typescript", "javascript": "typescript", "cpp": "c"}
WORDS = re.compile(r"\w+")
FAR = 4


def key_of(uri: str) -> str:
    """What a document is called in the index: its path, or the URI of one that is no file, or no right URI."""
    try:
        parts = urlsplit(uri)
    except ValueError:
        return uri
    return os.path.normpath(url2pathname(parts.path)) if parts.scheme == "file" else uri


class Index:
    """Definitions by name and file, lines by language; used on one thread."""

    def __init__(self) -> None:
        self._files: dict[str, Found] = {}
        self._names: dict[str, dict[str, list[Definition]]] = {}
        self._lines: dict[str, Elsewhere] = {}
        self._count = 0
        self.scanned = False

    @property
    def files(self) -> int:
        """How many files were read and may be shown."""
        return sum(not found.hidden for found in self._files.values())

    def take(self, finding: Finding) -> None:
        """Keep what was found; no more than MAX_DEFINITIONS in all, those that came first."""
        if isinstance(finding, Gone):
            self._take_lines(finding.key)
            self._drop(finding.key)
        elif isinstance(finding, Found):
            self._take_lines(finding.key, finding.language, finding.lines)
            self._drop(finding.key)
            if self._count + len(finding.definitions) > MAX_DEFINITIONS:
                return
            self._files[finding.key] = replace(finding, lines=())
            self._count += len(finding.definitions)
            for one in finding.definitions:
                self._names.setdefault(one.name, {}).setdefault(finding.key, []).append(one)
        else:
            self.scanned = True

    def _take_lines(self, key: str, language: str = "", lines: Sequence[str] = ()) -> None:
        """The lines of a file in place of those that it had, also where its language is another one now."""
        family = _family(language)
        for name, others in self._lines.items():
            if name != family:
                others.drop(key)
        if lines or family in self._lines:
            self._lines.setdefault(family, Elsewhere()).put(key, lines)

    def _drop(self, key: str) -> None:
        old = self._files.pop(key, None)
        if old is None:
            return
        self._count -= len(old.definitions)
        for name in {one.name for one in old.definitions}:
            del self._names[name][key]
            if not self._names[name]:
                del self._names[name]

    def clear(self) -> None:
        """Forget everything."""
        self._files, self._names, self._lines, self._count, self.scanned = {}, {}, {}, 0, False

    def may_show(self, key: str, to: str) -> bool:
        """Whether the indexer has seen a file and found no rule against showing it for gaps in the file `to`."""
        found = self._files.get(key)
        return found is not None and not found.hidden and (key == to or not found.large)

    def lines_near(self, hole: Hole, key: str) -> tuple[Line, ...]:
        """Lines of other files that the line of a gap in the file `key` may become."""
        lines = self._lines.get(_family(hole.language))
        return () if lines is None else lines.near(hole, key)

    def here(self, name: str, key: str) -> list[Definition]:
        """What a name means in one file."""
        return self._names.get(name, {}).get(key, [])

    def elsewhere(self, name: str, key: str, language: str, imported: Collection[str]) -> list[tuple[str, Definition]]:
        """What a name means in other files of a language that can be reached, with the files, the likeliest first.

        `imported` are the words of the import statements: they name a file, its folder or the name itself; else only
        files of the same folder count. Nothing for a private name, and for one that too many files define.
        """
        found = self._names.get(name, {})
        if len(found) > MAX_FILES_A_NAME or name.startswith("_"):
            return []
        family = _family(language)
        others = [other for other in found if other != key and self.may_show(other, key)]
        keys = [other for other in others if _family(self._files[other].language) == family]
        ranks = {other: _rank(other, key, name, imported) for other in keys}
        keys = sorted((other for other in keys if ranks[other] < FAR), key=lambda other: (ranks[other], other))
        return [(other, one) for other in keys for one in found[other]]


def _family(language: str) -> str:
    return FAMILIES.get(name_of(language), name_of(language))


def _rank(other: str, key: str, name: str, imported: Collection[str]) -> int:
    """How likely it is that a name in the file `key` means what the file `other` defines; FAR is not at all."""
    stem, folder, folder_name = _parts(other)
    if stem in imported:
        return 0
    if name in imported:
        return 1
    if folder == _parts(key)[1]:
        return 2
    return 3 if folder_name in imported else FAR


@lru_cache(maxsize=4096)
def _parts(key: str) -> tuple[str, PurePath, str]:
    """A file's name without endings, its folder and the folder's name."""
    path = PurePath(key)
    return path.name.partition(".")[0], path.parent, path.parent.name
