"""What the indexer is told of the workspace and of open documents, what it finds, and how it comes back."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from midspan.server.text.documents import Document, Documents
from midspan.server.text.hole import encodable
from midspan.server.text.languages import name_of
from midspan.server.text.uris import key_of, key_of_path
from midspan.server.workspace.index import Index
from midspan.server.workspace.indexer import MAX_FILE_BYTES, MAX_OPEN_BYTES
from midspan.server.workspace.indexer_process import IndexerProcess
from midspan.server.workspace.messages import Changed, Closed, Finding, Found, Opened, Pong, Reading, Scan, Scanned

log = logging.getLogger(__name__)

# A document is read again when no key has come for so long; changed files, when no more have been told of for so long.
QUIET_S, SOON_S = 1.0, 0.3
# All files are looked at when so much time has passed and a key comes; where no client tells of changes, sooner.
RESCAN_S, UNWATCHED_S = 300.0, 30.0
MANY_FILES = 500  # so many changes at once are a scan
# An indexer that ends is started again after these pauses, so often within so many seconds and no more.
PAUSES_S, WITHIN_S = (0.1, 1.0, 3.0), 600.0
# What was being read at so many ends is not read again.
FATAL = 2
AGAIN = "the indexer %s and is started again; until then nothing comes from other files"
TOO_OFTEN = "the indexer %s once too often; nothing comes from other files for up to 10 minutes, or restart the server"

Warn = Callable[[str | None, bool], None]


class Background:
    """One indexer and the index that it fills; used on the event loop only. It does nothing until it is started."""

    def __init__(
        self,
        documents: Documents,
        tell: Callable[[str], None] = lambda _: None,
        warn: Warn = lambda _, lasting: None,
    ) -> None:
        """`tell` hears in a few words, without names, how far the workspace has been read; `warn` what is wrong, None
        when it is well again, and whether that lasts."""
        self.index = Index()
        self.scan = Scan(())  # what the indexer was asked for last
        self.found = asyncio.Event()  # set at every finding
        self.watched = False  # whether the client tells of files that change
        self._documents, self._tell_user, self._warn = documents, tell, warn
        self._process: IndexerProcess | None = None
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._scanned_at = 0.0
        self._on_disk = dict[str, None]()
        self._flushing: asyncio.TimerHandle | None = None
        self._ends: list[float] = []
        self._fatal = Counter[str]()
        self._again: asyncio.TimerHandle | None = None
        self._starting: asyncio.Task[None] | None = None

    @property
    def running(self) -> bool:
        """Whether there is an indexer that listens."""
        return self.pid is not None

    @property
    def pid(self) -> int | None:
        """The indexer's process."""
        return None if self._process is None else self._process.pid

    async def start(self, scan: Scan) -> None:
        """Start the indexer, and have it look through folders and all open documents. Raises OSError."""
        self._cancel(self._again)
        self.scan = scan
        process = IndexerProcess(self._hear, self._ended)
        await process.start()
        self._process = process
        self.look(scan)

    def look(self, scan: Scan) -> None:
        """Have folders and all open documents read, by rules that may be new: what is known is forgotten."""
        self.scan = scan
        self.look_again()

    def look_again(self) -> None:
        """The same by git's rules as they are on disk now; what is known is forgotten even where no indexer runs."""
        self.index.begin(self.scan.roots)
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
        self._cancel(self._timers.pop(uri, None))
        self._timers[uri] = loop.call_later(QUIET_S, self._tell, uri)
        if loop.time() - self._scanned_at > (RESCAN_S if self.watched else UNWATCHED_S):
            self._rescan()

    def closed(self, uri: str) -> None:
        """A document was closed: what is on disk counts."""
        self._cancel(self._timers.pop(uri, None))
        if self._process is not None:
            self._process.send(Closed(key_of(uri)))

    def changed_on_disk(self, changed: Iterable[str], gone: Iterable[str] = ()) -> None:
        """Files or folders have come or changed, which are read soon, or are gone, which are forgotten at once.

        A document that is open is what its editor shows, whatever becomes of its file.
        """
        keys = dict.fromkeys(key_of(uri) for uri in gone)
        if keys:
            self.index.forget(keys.keys() - {key_of(uri) for uri in self._documents.uris()})
        keys |= dict.fromkeys(key_of(uri) for uri in changed)
        if keys and self.running:
            self._on_disk |= keys
            self._cancel(self._flushing)
            self._flushing = asyncio.get_running_loop().call_later(SOON_S, self._flush)

    async def stop(self) -> None:
        """End the indexer."""
        for timer in (*self._timers.values(), self._again, self._flushing):
            self._cancel(timer)
        self._timers.clear()
        starting, self._starting = self._starting, None
        if starting is not None:
            starting.cancel()
        process, self._process = self._process, None
        if process is not None:
            await process.stop()
        self._warn(None, False)

    def _tell(self, uri: str) -> None:
        self._timers.pop(uri, None)
        document = self._documents.get(uri)
        if document is None or not self._wants(document) or self._process is None:
            return
        key = key_of(uri)
        # Lines of a large file are not shown to other files, and its definitions to itself alone.
        most = MAX_OPEN_BYTES if self.scan.definitions else MAX_FILE_BYTES
        if document.offsets.before(len(document.lines)) <= most and self._fatal[key] < FATAL:
            self._process.send(opened(document))
        else:
            self.index.take(Found(key, encodable(document.language_id), hidden=True))

    def _wants(self, document: Document) -> bool:
        return self.scan.definitions or name_of(document.language_id) in self.scan.lines

    def _rescan(self, *, afresh: bool = False) -> None:
        self._scanned_at = asyncio.get_running_loop().time()
        skip = tuple(key for key, times in self._fatal.items() if times >= FATAL)
        if self._process is not None:
            self._process.send(msgspec.structs.replace(self.scan, afresh=afresh, skip=skip))

    def _flush(self) -> None:
        keys, self._on_disk = tuple(self._on_disk), {}
        if len(keys) > MANY_FILES:
            self._rescan()
        elif self._process is not None:
            self._process.send(Changed(keys))

    def _hear(self, finding: Finding) -> None:
        self._warn(None, False)
        if isinstance(finding, Pong | Reading):
            return
        self.index.take(finding)
        self.found.set()
        if isinstance(finding, Scanned) and self.scan.roots:
            self._tell_user(f"workspace read, {self.index.files} of its files may be shown")

    def _ended(self, process: IndexerProcess, why: str) -> None:
        """Start the indexer again soon; after PAUSES_S has been used up, when the first of these ends is long ago."""
        if process is not self._process:
            return
        self._process = None
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._ends = [*(end for end in self._ends if now - end < WITHIN_S), now]
        if process.in_hand:
            self._fatal[process.in_hand] += 1
        lasting = len(self._ends) > len(PAUSES_S)
        pause = self._ends[-len(PAUSES_S) - 1] + WITHIN_S - now if lasting else PAUSES_S[len(self._ends) - 1]
        message = (TOO_OFTEN if lasting else AGAIN) % why
        log.warning("%s", message)
        self._warn(message, lasting)
        self._again = loop.call_later(pause, self._restart)

    def _restart(self) -> None:
        self._starting = asyncio.get_running_loop().create_task(self._start_again())

    async def _start_again(self) -> None:
        process = IndexerProcess(self._hear, self._ended)
        try:
            await process.start()
        except OSError as error:
            self._process = process
            self._ended(process, f"does not start ({error.strerror})")
            return
        self._process = process
        self.look_again()

    @staticmethod
    def _cancel(timer: asyncio.TimerHandle | None) -> None:
        if timer is not None:
            timer.cancel()


def scan_of(
    roots: Iterable[Path], exclude: Iterable[str], *, definitions: bool = True, lines: Iterable[str] = ()
) -> Scan:
    """What an indexer is asked for, as it can be written down: halves of characters are replaced."""
    return Scan(
        tuple(key_of_path(str(root)) for root in roots),
        tuple(map(encodable, exclude)),
        definitions=definitions,
        lines=tuple(lines),
    )


def opened(document: Document) -> Opened:
    """A document as the indexer is told of it; an editor may send halves of characters, which no message holds."""
    return Opened(
        key_of(document.uri), encodable(document.uri), encodable(document.language_id), encodable(document.text)
    )
