"""The indexer's process: what it is told of the workspace and of open documents, and what it finds."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from collections.abc import Callable

import msgspec

from midspan.server.text.documents import Document, Documents
from midspan.server.text.languages import name_of
from midspan.server.workspace.index import Index, key_of
from midspan.server.workspace.indexer import (
    LENGTH_BYTES,
    MAX_FILE_BYTES,
    MAX_OPEN_BYTES,
    Closed,
    Finding,
    Found,
    Opened,
    Request,
    Scan,
    Scanned,
    write,
)

log = logging.getLogger(__name__)

# A document is read again when no key has come for so long; files, when so much time has passed and a key comes.
QUIET_S, RESCAN_S = 1.0, 300.0
END_S = 2.0
IDLE_PRIORITY: int = getattr(subprocess, "IDLE_PRIORITY_CLASS", 0)  # Windows; elsewhere the process lowers its own


class Background:
    """One indexer and the index that it fills; used on the event loop only. It does nothing until it is started."""

    def __init__(self, documents: Documents, tell: Callable[[str], None] = lambda _: None) -> None:
        """`tell` hears in a few words, without names, how far the workspace has been read."""
        self.index = Index()
        self._documents, self._tell_user = documents, tell
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._scanned_at = 0.0
        self.scan = Scan(())  # what the indexer was asked for last
        self.found = asyncio.Event()  # set at every finding

    @property
    def running(self) -> bool:
        """Whether there is an indexer that listens."""
        return self._process is not None and self._process.returncode is None

    async def start(self, scan: Scan) -> None:
        """Start the indexer, and have it look through folders and all open documents. Raises OSError."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            # -P: nothing is imported from the folder that the editor was started in.
            *("-P", "-m", "midspan.server.workspace.indexer"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            creationflags=IDLE_PRIORITY,
        )
        self._reading = asyncio.create_task(self._read(self._process))
        self.look(scan)

    def look(self, scan: Scan) -> None:
        """Have folders and all open documents read, by rules that may be new: what is known is forgotten."""
        self.scan = scan
        self.look_again()

    def look_again(self) -> None:
        """The same by git's rules as they are on disk now; what is known is forgotten even where no indexer runs."""
        self.index.clear()
        if not self.running:
            return
        self._tell_user("reading the workspace" if self.scan.roots else "")
        self._rescan(afresh=True)
        for uri in self._documents.uris():
            self._tell(uri)

    def changed(self, uri: str) -> None:
        """A document was opened or edited: it is read when it has been quiet for a while."""
        if not self.running:
            return
        loop = asyncio.get_running_loop()
        if (timer := self._timers.pop(uri, None)) is not None:
            timer.cancel()
        self._timers[uri] = loop.call_later(QUIET_S, self._tell, uri)
        if loop.time() - self._scanned_at > RESCAN_S:
            self._rescan()

    def closed(self, uri: str) -> None:
        """A document was closed: what is on disk counts."""
        if (timer := self._timers.pop(uri, None)) is not None:
            timer.cancel()
        self._send(Closed(key_of(uri)))

    async def stop(self) -> None:
        """End the indexer."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        process, self._process = self._process, None
        if process is None or self._reading is None:
            return
        self._reading.cancel()
        if process.returncode is None:
            process.kill()
            async with asyncio.timeout(END_S):
                await process.wait()

    def _tell(self, uri: str) -> None:
        self._timers.pop(uri, None)
        document = self._documents.get(uri)
        if document is None or not self._wants(document):
            return
        # Lines of a large file are not shown to other files, and its definitions to itself alone.
        most = MAX_OPEN_BYTES if self.scan.definitions else MAX_FILE_BYTES
        if document.offsets.before(len(document.lines)) <= most:
            self._send(opened(document))
        else:
            self.index.take(Found(key_of(uri), document.language_id, hidden=True))

    def _wants(self, document: Document) -> bool:
        return self.scan.definitions or name_of(document.language_id) in self.scan.lines

    def _rescan(self, *, afresh: bool = False) -> None:
        self._scanned_at = asyncio.get_running_loop().time()
        self._send(msgspec.structs.replace(self.scan, afresh=afresh))

    def _send(self, request: Request) -> None:
        if self._process is not None and self._process.stdin is not None and self.running:
            self._process.stdin.write(write(request))

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        decoder = msgspec.msgpack.Decoder(Finding)
        try:
            while True:
                length = int.from_bytes(await process.stdout.readexactly(LENGTH_BYTES), "big")
                finding = decoder.decode(await process.stdout.readexactly(length))
                self.index.take(finding)
                self.found.set()
                if isinstance(finding, Scanned) and self.scan.roots:
                    self._tell_user(f"workspace read, {self.index.files} of its files may be shown")
        except asyncio.IncompleteReadError:
            code = await process.wait()
            log.warning("the indexer ended with code %d; what it has found so far stays in use", code)


def opened(document: Document) -> Opened:
    """A document as the indexer is told of it."""
    return Opened(key_of(document.uri), document.language_id, document.text)
