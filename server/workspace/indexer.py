"""The workspace's definitions and lines, gathered in a process of their own at the lowest priority: `python -m` this
module.

It reads requests and writes findings, both as a length of four bytes and msgpack behind it, and ends with its input.
A process, as the parser holds the interpreter for as long as a file takes, and its crash must not be the server's.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import msgspec

from midspan.engine import bare_lines
from midspan.server.text.languages import BY_EXTENSION, language_of
from midspan.server.workspace.exclusion import has_private_key, is_excluded, may_hold_secret
from midspan.server.workspace.ignored import Ignored
from midspan.server.workspace.tags import Definition, definitions, has_tags

# A file that is larger is shown to no gap in another one; of an open one so much is read for the gaps in itself.
MAX_FILE_BYTES, MAX_OPEN_BYTES = 256 * 1024, 1024 * 1024
MAX_FILES, MAX_ENTRIES, MAX_DEPTH = 5000, 100_000, 24
MAX_SCAN_S = 120.0  # of this process's time
# Folders that no rules name everywhere, and whose text is not the user's.
SKIPPED = frozenset(("node_modules", "__pycache__", "site-packages", "venv", "vendor"))
LENGTH_BYTES = 4
UNREAD = (-1, -1)


class Scan(msgspec.Struct, frozen=True, tag=True):
    """Look through these folders; files that have not changed since the last time are left alone.

    `afresh` has all of them told again: who asks has forgotten what it knew, as other rules may hold. Definitions are
    looked for only where they are wanted, and lines in languages that are named.
    """

    roots: tuple[str, ...]
    exclude: tuple[str, ...] = ()
    definitions: bool = True
    lines: tuple[str, ...] = ()
    seconds: float = MAX_SCAN_S
    afresh: bool = False


class Opened(msgspec.Struct, frozen=True, tag=True):
    """A document's text, which stands in place of the file's until it is closed; its key is a path or a URI."""

    key: str
    language: str
    text: str


class Closed(msgspec.Struct, frozen=True, tag=True):
    """The file counts again."""

    key: str


class Found(msgspec.Struct, frozen=True, tag=True):
    """All definitions of one file; `hidden` says that nothing of it may be shown to a model, which has none.

    `large` says that nothing of it may be shown for gaps in other files. `lines` are without indents and blank ones.
    """

    key: str
    language: str
    definitions: tuple[Definition, ...] = ()
    lines: tuple[str, ...] = ()
    hidden: bool = False
    large: bool = False


class Gone(msgspec.Struct, frozen=True, tag=True):
    """A file that is no more, or no longer to be shown."""

    key: str


class Scanned(msgspec.Struct, frozen=True, tag=True):
    """A scan has come to its end."""


Request = Scan | Opened | Closed
Finding = Found | Gone | Scanned


def write(message: Request | Finding) -> bytes:
    """A message as it goes through a pipe."""
    body = msgspec.msgpack.encode(message)
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


class Workspace:
    """What may be shown of the files below some folders, and of open documents."""

    def __init__(self) -> None:
        self._roots: tuple[Path, ...] = ()
        self._exclude: tuple[str, ...] = ()
        self._definitions, self._lines = True, tuple[str, ...]()
        self._rules: dict[Path, Ignored] = {}
        self._stamps: dict[str, tuple[int, int]] = {}
        self._open: set[str] = set()

    def scan(self, request: Scan) -> Iterator[Finding]:
        """What is new below the folders, a file at a time, within the limits above; the rules hold from here on."""
        self._roots, self._exclude = tuple(map(Path, request.roots)), request.exclude
        self._definitions, self._lines = request.definitions, request.lines
        if request.afresh:
            # What may not be shown any more may still be on its way, so it is not forgotten here: it goes by name.
            self._stamps = dict.fromkeys(self._stamps, UNREAD)
        self._rules = {root: Ignored(root) for root in self._roots}
        return self._scan(request)

    def _scan(self, request: Scan) -> Iterator[Finding]:
        until, seen = time.process_time() + request.seconds, set[str]()
        for root in self._roots:
            for path in walk(root, self._rules[root], self._exclude):
                if not self._definitions and BY_EXTENSION[path.suffix.lower()] not in self._lines:
                    continue
                if len(seen) >= MAX_FILES or time.process_time() > until:
                    yield Scanned()
                    return
                seen.add(str(path))
                if (found := self._read(path)) is not None:
                    yield found
        for key in sorted(self._stamps.keys() - seen):
            del self._stamps[key]
            if key not in self._open:
                yield Gone(key)
        yield Scanned()

    def opened(self, request: Opened) -> Finding:
        """What may be shown of an open document."""
        self._open.add(request.key)
        data = request.text.encode("utf-8", "replace")
        if self._hidden(request.key) or len(data) > MAX_OPEN_BYTES or has_private_key(request.text):
            return Found(request.key, request.language, hidden=True)
        return self._found(request.key, request.language, data, request.text)

    def closed(self, request: Closed) -> Finding:
        """What may be shown of the file now that it is closed: nothing, unless it stands below one of the folders."""
        self._open.discard(request.key)
        self._stamps.pop(request.key, None)
        path = Path(request.key)
        below = any(path.is_relative_to(root) for root in self._roots)
        if not below or path.is_symlink() or path.suffix.lower() not in BY_EXTENSION or self._hidden(request.key):
            return Gone(request.key)
        return self._read(path) or Gone(request.key)

    def _hidden(self, key: str) -> bool:
        if not Path(key).is_absolute():
            return is_excluded(key, self._exclude)
        path = Path(key)
        root = next((root for root in self._roots if path.is_relative_to(root)), path.parent)
        if root not in self._rules:
            self._rules[root] = Ignored(root)
        return is_excluded(path.as_uri(), self._exclude) or self._rules[root](path)

    def _read(self, path: Path) -> Found | None:
        """A file's definitions; None for one that is open, unchanged, unreadable, too large, binary or holds a key."""
        key, language = str(path), BY_EXTENSION[path.suffix.lower()]
        try:
            status = path.stat()
            stamp = (status.st_mtime_ns, status.st_size)
            if key in self._open or self._stamps.get(key) == stamp:
                return None
            self._stamps[key] = stamp
            data = path.read_bytes() if status.st_size <= MAX_FILE_BYTES else b"\0"
        except OSError:
            return None
        text = data.decode("utf-8", "replace")
        if b"\0" in data or has_private_key(text):
            return Found(key, language, hidden=True)
        return self._found(key, language, data, text)

    def _found(self, key: str, language_id: str, data: bytes, text: str) -> Found:
        """What is wanted of a text, which is given in UTF-8 too."""
        language, large = language_of(language_id), len(data) > MAX_FILE_BYTES
        found = tuple(definitions(language, data)) if self._definitions else ()
        lines = _told(text) if language.name in self._lines and not large else ()
        return Found(key, language_id, found, lines, large=large)


def _told(text: str) -> tuple[str, ...]:
    """A text's lines, but for those with a literal like a key or a password."""
    return tuple(line for line in bare_lines(text) if not may_hold_secret(line))


def walk(root: Path, ignored: Ignored, exclude: Sequence[str]) -> Iterator[Path]:
    """The files below a folder whose language has definitions, nearest first; no links, nothing hidden or ignored."""
    entries = 0
    level = [root]
    for _ in range(MAX_DEPTH):
        below: list[Path] = []
        for folder in level:
            for path, is_folder in _entries(folder):
                entries += 1
                if entries > MAX_ENTRIES:
                    return
                if path.name.startswith(".") or path.name in SKIPPED:
                    continue
                if is_folder:
                    if not ignored(path, folder=True):
                        below.append(path)
                elif _has_definitions(path) and not is_excluded(path.as_uri(), exclude) and not ignored(path):
                    yield path
        level = below


def _has_definitions(path: Path) -> bool:
    language = BY_EXTENSION.get(path.suffix.lower())
    return language is not None and has_tags(language_of(language))


def _entries(folder: Path) -> list[tuple[Path, bool]]:
    """The folders and plain files in a folder by name; none where it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            plain = [entry for entry in entries if not entry.is_symlink() and (entry.is_dir() or entry.is_file())]
            return sorted((Path(entry.path), entry.is_dir()) for entry in plain)
    except OSError:
        return []


def serve(requests: queue.SimpleQueue[Request], out: BinaryIO) -> None:
    """Answer requests for ever, documents before files."""
    workspace = Workspace()
    scan: Iterator[Finding] | None = None
    while True:
        request = _next(requests, wait=scan is None)
        if isinstance(request, Scan):
            scan = workspace.scan(request)
            continue
        if isinstance(request, Opened):
            finding: Finding | None = workspace.opened(request)
        elif isinstance(request, Closed):
            finding = workspace.closed(request)
        else:
            assert scan is not None
            finding = next(scan, None)
        if finding is None:
            scan = None
        else:
            out.write(write(finding))
            out.flush()


def _next(requests: queue.SimpleQueue[Request], *, wait: bool) -> Request | None:
    try:
        return requests.get(block=wait)
    except queue.Empty:
        return None


def _read_requests(requests: queue.SimpleQueue[Request], source: BinaryIO) -> None:
    """Queue what comes; the process ends with its input, whatever it is doing."""
    decoder = msgspec.msgpack.Decoder(Request)
    while len(length := source.read(LENGTH_BYTES)) == LENGTH_BYTES:
        body = source.read(int.from_bytes(length, "big"))
        if len(body) == int.from_bytes(length, "big"):
            requests.put(decoder.decode(body))
    os._exit(0)


def main() -> None:
    """Serve one parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "nice"):
        os.nice(19)
    requests: queue.SimpleQueue[Request] = queue.SimpleQueue()
    threading.Thread(target=_read_requests, args=(requests, sys.stdin.buffer), daemon=True).start()
    # A parent that has gone is no error.
    with contextlib.suppress(BrokenPipeError):
        serve(requests, sys.stdout.buffer)


if __name__ == "__main__":
    main()
