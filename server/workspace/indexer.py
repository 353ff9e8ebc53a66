"""The workspace's definitions and lines, gathered in a process of their own at the lowest priority: `python -m` this
module.

It reads requests and writes findings (messages.py), and ends with its input. A process, as the parser holds the
interpreter for as long as a file takes, and its crash must not be the server's.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import BinaryIO

import msgspec

from midspan.engine import bare_lines
from midspan.server.text.languages import BY_EXTENSION, language_of
from midspan.server.text.uris import key_of_path, path_of_key
from midspan.server.workspace.exclusion import Exclusion
from midspan.server.workspace.messages import (
    LENGTH_BYTES,
    Changed,
    Closed,
    Finding,
    Found,
    Gone,
    Opened,
    Ping,
    Pong,
    Reading,
    Request,
    Scan,
    Scanned,
    write,
)
from midspan.server.workspace.plain_files import read_plain, stamp
from midspan.server.workspace.secrets_in_text import has_private_key, without_secrets
from midspan.server.workspace.tags import definitions
from midspan.server.workspace.walk import in_turn, is_read, may_be_read, walk

# A file that is larger is shown to no gap in another one; of an open one so much is read for the gaps in itself.
MAX_FILE_BYTES, MAX_OPEN_BYTES = 256 * 1024, 1024 * 1024
MAX_FILES = 5000
UNREAD = (-1, -1)


class Workspace:
    """What may be shown of the files below some folders, and of open documents."""

    def __init__(self) -> None:
        self._scan = Scan(())
        self._roots: tuple[str, ...] = ()
        self._exclusion = Exclusion()
        self._stamps: dict[str, tuple[int, int]] = {}
        self._open: set[str] = set()

    def scan(self, request: Scan) -> Iterator[Finding]:
        """What is new below the folders, a file at a time, within the limits above; the rules hold from here on."""
        self._scan = request
        self._roots = tuple(path for path in map(path_of_key, request.roots) if path is not None)
        self._exclusion = Exclusion(self._roots)
        if request.afresh:
            # What may not be shown any more may still be on its way, so it is not forgotten here: it goes by name.
            self._stamps = dict.fromkeys(self._stamps, UNREAD)
        return self._look()

    def _look(self) -> Iterator[Finding]:
        until, seen = time.process_time() + self._scan.seconds, set[str]()
        for path in in_turn(walk(root, self._exclusion, self._scan.exclude) for root in self._roots):
            if not self._wants(path) or (key := key_of_path(path)) in seen:
                continue
            if len(seen) >= MAX_FILES or time.process_time() > until:
                yield Scanned()
                return
            seen.add(key)
            yield from self._read(key, path)
        for key in sorted(self._stamps.keys() - seen):
            del self._stamps[key]
            if key not in self._open:
                yield Gone(key)
        yield Scanned()

    def opened(self, request: Opened) -> Iterator[Finding]:
        """What may be shown of an open document."""
        yield Reading(request.key)
        self._open.add(request.key)
        data = request.text.encode("utf-8", "replace")
        hidden = self._exclusion.reason(request.uri, self._scan.exclude) is not None
        if hidden or len(data) > MAX_OPEN_BYTES or has_private_key(request.text):
            yield Found(request.key, request.language, hidden=True)
        else:
            yield self._found(request.key, request.language, data, request.text)

    def closed(self, request: Closed) -> Iterator[Finding]:
        """What may be shown of the file now that it is closed: nothing, unless a scan would find it."""
        self._open.discard(request.key)
        return self._again(request.key)

    def changed(self, request: Changed) -> Iterator[Finding]:
        """What may be shown of files that are no longer what they were."""
        for key in request.keys:
            yield from self._again(key)

    def _again(self, key: str) -> Iterator[Finding]:
        path = path_of_key(key)
        if key in self._open:
            return
        self._stamps.pop(key, None)
        if path is None or not may_be_read(path, self._roots, self._exclusion, self._scan.exclude):
            yield from self._gone(key)
        elif os.path.isdir(path):
            yield from self._gone(key)
            for file in walk(path, self._exclusion, self._scan.exclude):
                if self._wants(file) and len(self._stamps) < MAX_FILES:
                    yield from self._read(key_of_path(file), file)
        elif key in self._scan.skip or not is_read(path) or not self._wants(path) or stamp(path) is None:
            yield from self._gone(key)
        else:
            yield from self._read(key, path)

    def _gone(self, key: str) -> Iterator[Finding]:
        """A file is no more, or a folder with all that was below it."""
        yield Gone(key)
        for other in [other for other in self._stamps if other.startswith(key + os.sep) and other not in self._open]:
            del self._stamps[other]
            yield Gone(other)

    def _wants(self, path: str) -> bool:
        return self._scan.definitions or BY_EXTENSION[os.path.splitext(path)[1].lower()] in self._scan.lines

    def _read(self, key: str, path: str) -> Iterator[Finding]:
        """A file's definitions; nothing for one that is open, unchanged or unreadable, hidden if it is binary."""
        language, now = BY_EXTENSION[os.path.splitext(path)[1].lower()], stamp(path)
        if key in self._open or key in self._scan.skip or now is None or self._stamps.get(key) == now:
            return
        yield Reading(key)
        self._stamps[key] = now
        data = read_plain(path, MAX_FILE_BYTES + 1)
        if data is None:
            yield Gone(key)
            return
        text = data.decode("utf-8", "replace")
        if len(data) > MAX_FILE_BYTES or b"\0" in data or has_private_key(text):
            yield Found(key, language, hidden=True)
        else:
            yield self._found(key, language, data, text)

    def _found(self, key: str, language_id: str, data: bytes, text: str) -> Found:
        """What is wanted of a text, which is given in UTF-8 too."""
        language, large = language_of(language_id), len(data) > MAX_FILE_BYTES
        found = tuple(definitions(language, data)) if self._scan.definitions else ()
        wanted = language.name in self._scan.lines and not large
        lines = without_secrets(bare_lines(text), language.name) if wanted else ()
        return Found(key, language_id, found, lines, large=large)


def serve(requests: queue.SimpleQueue[Request], send: Callable[[Finding], None]) -> None:
    """Answer requests for ever, documents before files."""
    workspace = Workspace()
    scan: Iterator[Finding] | None = None
    while True:
        request = _next(requests, wait=scan is None)
        if isinstance(request, Scan):
            scan = workspace.scan(request)
        elif request is not None:
            for finding in _answer(workspace, request):
                send(finding)
        elif scan is not None:
            found = next(scan, None)
            if found is None:
                scan = None
            else:
                send(found)


def _answer(workspace: Workspace, request: Request) -> Iterator[Finding]:
    if isinstance(request, Opened):
        return workspace.opened(request)
    if isinstance(request, Closed):
        return workspace.closed(request)
    assert isinstance(request, Changed)
    return workspace.changed(request)


def _next(requests: queue.SimpleQueue[Request], *, wait: bool) -> Request | None:
    try:
        return requests.get(block=wait)
    except queue.Empty:
        return None


def _read_requests(requests: queue.SimpleQueue[Request], source: BinaryIO, send: Callable[[Finding], None]) -> None:
    """Queue what comes; the process ends with its input, whatever it is doing."""
    decoder = msgspec.msgpack.Decoder(Request)
    while len(length := source.read(LENGTH_BYTES)) == LENGTH_BYTES:
        body = source.read(int.from_bytes(length, "big"))
        if len(body) == int.from_bytes(length, "big"):
            request = decoder.decode(body)
            if isinstance(request, Ping):
                send(Pong())
            else:
                requests.put(request)
    os._exit(0)


def main() -> None:
    """Serve one parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "nice"):
        os.nice(19)
    requests: queue.SimpleQueue[Request] = queue.SimpleQueue()
    out, writing = sys.stdout.buffer, threading.Lock()

    def send(finding: Finding) -> None:
        with writing:
            out.write(write(finding))
            out.flush()

    threading.Thread(target=_read_requests, args=(requests, sys.stdin.buffer, send), daemon=True).start()
    # A parent that has gone is no error.
    with contextlib.suppress(BrokenPipeError):
        serve(requests, send)


if __name__ == "__main__":
    main()
