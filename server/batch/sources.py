"""Which files of some folders have marks, and what they say: none that the policy keeps out of prompts is read."""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from midspan.server.batch.marks import Mark, marks_of
from midspan.server.commands.errors import CommandError
from midspan.server.commands.fill import open_document
from midspan.server.context.context import withheld
from midspan.server.text.documents import Document
from midspan.server.workspace.exclusion import Exclusion
from midspan.server.workspace.walk import walk

BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A file with its marks; `name` is its path below the root, with slashes; `digest` is of its bytes."""

    path: Path
    name: str
    data: bytes
    marks: Sequence[Mark]

    @property
    def digest(self) -> str:
        """SHA-256 of the file, in hexadecimal."""
        return hashlib.sha256(self.data).hexdigest()

    @property
    def document(self) -> Document:
        """A new document of the file's text."""
        return open_document(self.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is looked at: files and folders, what the user leaves out, and which pattern marks a gap beside the rest."""

    paths: Sequence[Path]
    exclude: Sequence[str] = ()
    pattern: re.Pattern[str] | None = None


class Sources:
    """The files below `root` that may be read. Raises CommandError for paths that cannot be."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._paths = [_resolved(path) for path in wanted.paths]
        self.root = root_of_all(self._paths)
        self._exclusion = Exclusion((self.root,))
        self.excluded = 0

    def __iter__(self) -> Iterator[Source]:
        """The files with marks, each once. What is passed over is said on stderr, a line each."""
        seen = set[Path]()
        for path in self._paths:
            within = path.is_dir()
            files = map(Path, walk(str(path), self._exclusion, tuple(self._wanted.exclude))) if within else [path]
            for file in files:
                if file not in seen:
                    seen.add(file)
                    source = self._read(file, alone=not within)
                    if source is not None and source.marks:
                        yield source
        if not seen:
            why = "git or --exclude leaves them out, or none is in a language that midspan parses"
            raise CommandError(f"{self._paths[0]}: no file to fill there; {why}: name a file")

    def again(self, source: Source) -> Source:
        """The file as it is now. Raises CommandError where it is gone."""
        return _source(source.path, self.root, open_document(source.path), self._wanted.pattern)

    def _read(self, file: Path, *, alone: bool) -> Source | None:
        uri = file.as_uri()
        if (why := self._exclusion.reason(uri, self._wanted.exclude, own=True)) is not None:
            self._passed_over(file, why)
            return None
        try:
            document = open_document(file)
        except CommandError as error:
            if alone:
                raise
            print(f"midspan: {error}; it is left out", file=sys.stderr)
            return None
        if (why := withheld(self._exclusion, document, self._wanted.exclude)) is not None:
            self._passed_over(file, why)
            return None
        return _source(file, self.root, document, self._wanted.pattern)

    def _passed_over(self, file: Path, why: str) -> None:
        self.excluded += 1
        print(f"midspan: {file}: left out, as {why}", file=sys.stderr)


def root_of_all(paths: Sequence[Path]) -> Path:
    """The git tree that paths are in, else the folder that has all. Raises CommandError for several trees."""
    trees = {next((one for one in (path, *path.parents) if (one / ".git").exists()), None) for path in paths}
    if len(trees) > 1:
        raise CommandError("the paths are of several git trees, and a patch is of one; give those of one tree")
    tree = trees.pop()
    return tree or Path(os.path.commonpath([path if path.is_dir() else path.parent for path in paths]))


def _resolved(path: Path) -> Path:
    if not path.exists():
        raise CommandError(f"{path}: no such file or folder; give one that exists")
    return path.resolve()


def _source(file: Path, root: Path, document: Document, pattern: re.Pattern[str] | None) -> Source:
    name = file.relative_to(root).as_posix()
    return Source(path=file, name=name, data=file.read_bytes(), marks=marks_of(document, pattern))
