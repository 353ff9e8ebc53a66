"""Which file defines a name and which lines there are: what the indexer found in the workspace and in open documents,
in memory only."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache
from pathlib import PurePath

from msgspec.structs import replace

from midspan.engine import LineIndex
from midspan.engine.api import Hole, Line
from midspan.server.text.languages import name_of
from midspan.server.text.uris import path_of, path_of_key
from midspan.server.workspace.messages import Finding, Found, Gone, Scanned
from midspan.server.workspace.tags import Definition

MAX_DEFINITIONS = 60_000
# A name that more files than these define says nothing of which one is meant.
MAX_FILES_A_NAME = 8
# Languages whose files use each other's names.
FAMILIES = {"tsx": "typescript", "javascript": "typescript", "cpp": "c"}
WORDS = re.compile(r"\w+")
FAR = 4


class Index:
    """Definitions by name and file, lines by language and project; used on one thread.

    A project is an open folder; outside of these a repository, else a file's own folder. Files of one project give
    nothing to another one but where both are open folders, and then only where the own one has nothing. A document
    without a path belongs to all.
    """

    def __init__(self, roots: Sequence[str] = ()) -> None:
        self.begin(roots)

    def begin(self, roots: Sequence[str]) -> None:
        """Forget everything; `roots` are the keys of the open folders."""
        paths = filter(None, map(path_of_key, roots))
        self._roots = sorted((path.rstrip(os.sep) for path in paths), key=len, reverse=True)
        self._projects: dict[str, str] = {}
        self._files: dict[str, Found] = {}
        self._names: dict[str, dict[str, list[Definition]]] = {}
        self._lines: dict[tuple[str, str], LineIndex] = {}
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
                finding = replace(finding, definitions=(), hidden=True)
            self._files[finding.key] = replace(finding, lines=())
            self._count += len(finding.definitions)
            for one in finding.definitions:
                self._names.setdefault(one.name, {}).setdefault(finding.key, []).append(one)
        elif isinstance(finding, Scanned):
            self.scanned = True

    def forget(self, keys: Collection[str]) -> None:
        """Files are gone, or folders with all that is in them."""
        folders = tuple(key + os.sep for key in keys if key not in self._files)
        for key in [key for key in self._files if key in keys or key.startswith(folders)]:
            self.take(Gone(key))

    def _take_lines(self, key: str, language: str = "", lines: Sequence[str] = ()) -> None:
        """The lines of a file in place of those that it had, also where its language is another one now."""
        here = _family(language), self._project(key)
        for place, others in self._lines.items():
            if place != here:
                others.drop(key)
        if lines and here not in self._lines:
            self._lines[here] = LineIndex(max(1, len(self._roots)))
        if here in self._lines:
            self._lines[here].put(key, lines)

    def _drop(self, key: str) -> None:
        old = self._files.pop(key, None)
        if old is None:
            return
        self._count -= len(old.definitions)
        for name in {one.name for one in old.definitions}:
            del self._names[name][key]
            if not self._names[name]:
                del self._names[name]

    def may_show(self, key: str, to: str) -> bool:
        """Whether the indexer has seen a file and found no rule against showing it for gaps in the file `to`."""
        return self._is_shown(key, to) and self._is_near(key, to)

    def _is_shown(self, key: str, to: str) -> bool:
        found = self._files.get(key)
        return found is not None and not found.hidden and (key == to or not found.large)

    def _project(self, key: str) -> str:
        """The folder of the project that a file belongs to; "" for a document without a path."""
        if key not in self._projects:
            try:
                path = key if os.path.isabs(key) else path_of(key)
            except ValueError:
                path = None
            self._projects[key] = "" if path is None else _folder_of(path, self._roots)
        return self._projects[key]

    def _is_near(self, one: str, other: str) -> bool:
        first, second = self._project(one), self._project(other)
        return first == second or not first or not second

    def _is_open(self, key: str) -> bool:
        """Whether a file lies in an open folder."""
        return self._project(key) in self._roots

    def lines_near(self, hole: Hole, key: str) -> tuple[Line, ...]:
        """Lines of other files that the line of a gap in the file `key` may become: of its own project, if it has any.

        Else those of the other open folders.
        """
        family, project = _family(hole.language), self._project(key)
        own = (project, "") if project else ("", *self._roots)
        near = self._lines_of(hole, key, family, dict.fromkeys(own))
        if near or not project or not self._is_open(key):
            return near
        return self._lines_of(hole, key, family, self._roots)

    def _lines_of(self, hole: Hole, key: str, family: str, projects: Iterable[str]) -> tuple[Line, ...]:
        found = dict[Line, None]()
        for project in projects:
            lines = self._lines.get((family, project))
            found |= {} if lines is None else dict.fromkeys(lines.near(hole, key))
        return tuple(found)

    def here(self, name: str, key: str) -> list[Definition]:
        """What a name means in one file."""
        return self._names.get(name, {}).get(key, [])

    def elsewhere(self, name: str, key: str, language: str, imported: Collection[str]) -> list[tuple[str, Definition]]:
        """What a name means in other files of a language that can be reached, with the files, the likeliest first.

        `imported` are the words of the import statements: they name a file, its folder or the name itself; else only
        files of the same folder count. Nothing for a private name, and for one that too many files define.
        """
        if name.startswith("_"):
            return []
        found = self._names.get(name, {})
        own = [other for other in found if self._is_near(other, key)]
        keys = self._likeliest(own, name, key, language, imported)
        if not keys and self._is_open(key):
            others = [other for other in found if other not in own and self._is_open(other)]
            keys = self._likeliest(others, name, key, language, imported)
        return [(other, one) for other in keys for one in found[other]]

    def _likeliest(
        self, keys: Collection[str], name: str, key: str, language: str, imported: Collection[str]
    ) -> list[str]:
        """Those of the files that define a name in which it can be reached, the likeliest first."""
        if len(keys) > MAX_FILES_A_NAME:
            return []
        family = _family(language)
        ranks = {
            other: _rank(other, key, name, imported)
            for other in keys
            if other != key and self._is_shown(other, key) and _family(self._files[other].language) == family
        }
        return sorted((other for other in ranks if ranks[other] < FAR), key=lambda other: (ranks[other], other))


def _folder_of(path: str, roots: Sequence[str]) -> str:
    """The project's folder: the innermost open one that a file is in, else its repository, else its own folder."""
    root = next((root for root in roots if path.startswith(root + os.sep)), None)
    if root is not None:
        return root
    folder = at = os.path.dirname(path)
    while at != os.path.dirname(at):
        if os.path.lexists(os.path.join(at, ".git")):
            return at
        at = os.path.dirname(at)
    return folder


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
