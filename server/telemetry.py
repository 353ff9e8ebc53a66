"""What became of each completion: one row each in a local SQLite file, without code and without file names."""

from __future__ import annotations

import hashlib
import logging
import queue
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

log = logging.getLogger(__name__)

FILE_NAME = "telemetry.db"
SCHEMA_VERSION = 1
CLOSE_S = BUSY_S = 10.0
# An answer is on its way when its row comes: it goes first. What a client tells of it, as it may end next, is written
# at once, and the row with it.
LATER_S = 0.02
KEPT_MS = 365 * 24 * 60 * 60 * 1000
SCHEMA = """
CREATE TABLE salt (value BLOB NOT NULL);
CREATE TABLE completion (
    id TEXT PRIMARY KEY,
    ts INTEGER NOT NULL,
    uri_hash TEXT NOT NULL,
    language TEXT NOT NULL,
    kind TEXT NOT NULL,
    trigger TEXT NOT NULL,
    confidence REAL NOT NULL,
    chars INTEGER NOT NULL,
    lines INTEGER NOT NULL,
    latency_ms REAL NOT NULL,
    engine_ms REAL NOT NULL,
    steps INTEGER NOT NULL,
    checkpoint TEXT NOT NULL,
    shown INTEGER NOT NULL DEFAULT 0,
    accepted_ts INTEGER,
    partial_chars INTEGER NOT NULL DEFAULT 0
);
"""


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """One completion that was offered; `latency_ms` is request to answer, `engine_ms` the engine's part of it."""

    id: str
    uri: str
    language: str
    kind: str
    trigger: str
    confidence: float
    chars: int
    lines: int
    latency_ms: float
    engine_ms: float
    steps: int
    checkpoint: str


Write = Callable[[sqlite3.Connection, bytes], None]


class Telemetry:
    """The store; every call returns at once, a thread of its own writes. `on_trouble` hears of the first failure,
    on that thread."""

    def __init__(self, state_dir: Path, on_trouble: Callable[[str], object]) -> None:
        self._path = state_dir / FILE_NAME
        self._on_trouble = on_trouble
        self._troubled = False
        # Each write, and whether it may wait for an answer.
        self._writes: queue.SimpleQueue[tuple[Write, bool] | None] = queue.SimpleQueue()
        self._hurry = threading.Event()
        self._thread = threading.Thread(target=self._work, name="midspan-telemetry", daemon=True)
        self._thread.start()

    def offered(self, offer: Offer) -> None:
        """Write the completion's row."""
        now = _now_ms()

        def write(store: sqlite3.Connection, salt: bytes) -> None:
            row = msgspec.structs.asdict(offer) | {"ts": now}
            row["uri_hash"] = hashlib.blake2b(
                row.pop("uri").encode("utf-8", "surrogatepass"), key=salt, digest_size=16
            ).hexdigest()
            names, holes = ", ".join(row), ", ".join(f":{name}" for name in row)
            store.execute(f"INSERT INTO completion ({names}) VALUES ({holes})", row)

        self._writes.put((write, True))

    def shown(self, id: str) -> None:
        """The client has shown the completion."""
        self._at_once(lambda store, _: _set(store, id, "shown = 1"))

    def partially_accepted(self, id: str, chars: int) -> None:
        """The user has taken the completion's first `chars` UTF-16 units, counted from its start."""
        self._at_once(lambda store, _: _set(store, id, "partial_chars = max(partial_chars, ?)", chars))

    def accepted(self, id: str) -> None:
        """The user has taken the completion."""
        now = _now_ms()
        self._at_once(lambda store, _: _set(store, id, "accepted_ts = coalesce(accepted_ts, ?)", now))

    def close(self) -> None:
        """Write what is still to be written, then close the file; a disk that does not answer is left behind."""
        self._writes.put(None)
        self._hurry.set()
        self._thread.join(CLOSE_S)

    def _at_once(self, write: Write) -> None:
        self._writes.put((write, False))
        self._hurry.set()

    def _next(self) -> Write | None:
        """The next write when its time has come; None at the end."""
        self._hurry.clear()
        if (found := self._writes.get()) is None:
            return None
        write, may_wait = found
        if may_wait and self._writes.empty():
            self._hurry.wait(LATER_S)
        return write

    def _work(self) -> None:
        try:
            store, salt = _open(self._path)
        except (OSError, sqlite3.Error, ValueError) as error:
            self._trouble(error)
            while self._writes.get() is not None:
                pass
            return
        while (write := self._next()) is not None:
            try:
                with store:
                    write(store, salt)
            except (sqlite3.Error, ValueError) as error:
                self._trouble(error)
        store.close()

    def _trouble(self, error: Exception) -> None:
        if self._troubled:
            return
        self._troubled = True
        message = f"no telemetry: cannot write {self._path} ({error}); mend it or choose another --state-dir"
        log.error(message)
        self._on_trouble(message)


def _open(path: Path) -> tuple[sqlite3.Connection, bytes]:
    """The store and its salt; made if missing. Raises OSError, sqlite3.Error, or ValueError for a newer schema."""
    path.parent.mkdir(parents=True, exist_ok=True)
    store = sqlite3.connect(path, timeout=BUSY_S)
    try:
        return store, _prepare(store)
    except (sqlite3.Error, ValueError):
        store.close()
        raise


def _prepare(store: sqlite3.Connection) -> bytes:
    """Make the tables if they are missing, forget what is older than a year; the salt."""
    _write_ahead(store)
    store.execute("PRAGMA synchronous = NORMAL")
    with store:
        # Two servers may start on one folder at once: whoever comes second must see the finished schema.
        store.execute("BEGIN IMMEDIATE")
        (version,) = store.execute("PRAGMA user_version").fetchone()
        if version == 0:
            for statement in SCHEMA.split(";")[:-1]:
                store.execute(statement)
            store.execute("INSERT INTO salt VALUES (?)", (secrets.token_bytes(16),))
            store.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        elif version != SCHEMA_VERSION:
            raise ValueError(f"its schema is version {version}, this midspan knows {SCHEMA_VERSION}; update midspan")
        store.execute("DELETE FROM completion WHERE ts < ?", (_now_ms() - KEPT_MS,))
    salt: bytes = store.execute("SELECT value FROM salt").fetchone()[0]
    return salt


def _write_ahead(store: sqlite3.Connection) -> None:
    """Switch to WAL. Two servers that start at once lock each other out, and SQLite itself does not wait for this."""
    deadline = time.monotonic() + BUSY_S
    while True:
        try:
            store.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


def _set(store: sqlite3.Connection, id: str, change: str, *values: int) -> None:
    store.execute(f"UPDATE completion SET {change} WHERE id = ?", (*values, id))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
