"""What has been done, a line of JSON a gap, beside the patch: a run that was ended goes on from here."""

from __future__ import annotations

import os
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from midspan.server.batch.marks import MarkKind
from midspan.server.commands.errors import CommandError
from midspan.server.text.line_index import Place

ENDING = ".journal"


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """The first line: what all that follows depends on."""

    checkpoint: str
    engine: str | None
    seed: int
    candidates: int
    pattern: str | None
    check: str | None
    root: str


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A gap of a file with this digest, in the file's own lines and columns, from 0.

    `text` replaces it, with what opens the gap and the file's line ends; or `refused` says what kept all texts out.
    `chars` is the length of what the engine wrote.
    """

    file: str
    digest: str
    start: Place
    end: Place
    kind: MarkKind
    text: str = ""
    refused: str = ""
    chars: int = 0


class Journal:
    """The journal of a patch; used as a context, in which it is open for more.

    Raises CommandError for another run's, or where it cannot be written.
    """

    def __init__(self, patch: Path, head: Head) -> None:
        self.path = patch.with_name(patch.name + ENDING)
        self._head, self._done = head, defaultdict[str, list[Entry]](list)
        if patch.is_dir():
            raise CommandError(f"{patch}: a folder; give a file in it as --out")

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            try:
                self._file = stack.enter_context(self.path.open("a+b", buffering=0))
            except OSError as error:
                raise CommandError(f"{self.path}: {error.strerror}; give an --out that can be written") from error
            self._begin(self._head)
            self._open = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def of(self, file: str) -> list[Entry]:
        """What has been done in a file, whatever its digest was."""
        return self._done[file]

    def append(self, entry: Entry) -> None:
        """Note a gap; it is on the disk when this returns."""
        self._write(entry)
        os.fsync(self._file.fileno())

    def _write(self, line: Head | Entry) -> None:
        self._file.write(msgspec.json.encode(line) + b"\n")

    def _begin(self, head: Head) -> None:
        """Read what is there but for a last line that was cut off, or write the first one."""
        self._file.seek(0)
        data = self._file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._file.truncate(len(whole))
        lines = whole.splitlines()
        if not lines:
            self._write(head)
            return
        try:
            before = msgspec.json.decode(lines[0], type=Head)
            entries = [msgspec.json.decode(line, type=Entry) for line in lines[1:]]
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise CommandError(f"{self.path}: no journal of midspan batch ({error}); remove it") from error
        if not entries:
            self._file.truncate(0)
            self._write(head)
        elif before != head:
            names = ", ".join(name for name in head.__struct_fields__ if getattr(before, name) != getattr(head, name))
            raise CommandError(f"{self.path}: of a run with another {names}; remove it, or give another --out")
        for entry in entries:
            self._done[entry.file].append(entry)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that it is there as a whole or not at all. Raises CommandError."""
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        beside.write_bytes(data)
        beside.replace(path)
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}; give an --out that can be written") from error
