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
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec

log = logging.getLogger(__name__)

FILE_NAME = "telemetry.db"
SCHEMA_VERSION = 2
# A store that another program locks for ten seconds loses nothing, even if the server ends then.
CLOSE_S = 12.0
# SQLite waits this long for a lock in one go: a server that ends need not wait longer for its thread.
BUSY_S, AGAIN_S = 0.2, 0.02
# Events that wait in memory, about a kilobyte each; a person brings about some ten in a second.
WAITING = 10_000
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
    partial_chars INTEGER NOT NULL DEFAULT 0,
    engine TEXT NOT NULL DEFAULT '',
    route TEXT NOT NULL DEFAULT ''
);
"""
# Made where it is missing, in a store of any version that is known, so it needs no version of its own.
VETOES = """
CREATE TABLE IF NOT EXISTS veto (
    ts INTEGER NOT NULL,
    reason TEXT NOT NULL,
    language TEXT NOT NULL,
    kind TEXT NOT NULL,
    trigger TEXT NOT NULL,
    checkpoint TEXT NOT NULL,
    remedy TEXT NOT NULL DEFAULT ''
);
"""
REMEDY = "ALTER TABLE veto ADD COLUMN remedy TEXT NOT NULL DEFAULT ''"
# What makes a store of a version one of the next; its rows stay as they are.
CHANGES = {
    1: tuple(f"ALTER TABLE completion ADD COLUMN {name} TEXT NOT NULL DEFAULT ''" for name in ("engine", "route"))
}


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """One completion that was offered; `latency_ms` is request to answer, `engine_ms` the engine's part of it.

    `engine` and `route` say who answered and why, where the router had a choice.
    """

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
    engine: str = ""
    route: str = ""


class Veto(msgspec.Struct, frozen=True, kw_only=True):
    """One text that a validator objected to: `reason` is a validator's kind of objection, `kind` the gap's.

    `remedy` is what came of the request: repaired, next candidate, other engine or nothing; empty where the best text
    passed.
    """

    reason: str
    language: str
    kind: str
    trigger: str
    checkpoint: str
    remedy: str = ""


Write = Callable[[sqlite3.Connection, bytes], None]
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Event:
    write: Write
    may_wait: bool = False  # for an answer that is on its way
    stored: Future[bool] | None = None  # of an acceptance: whether it has been committed


class Telemetry:
    """The store. Every call returns at once; a thread of its own writes the events in their order.

    Events wait in memory while another program locks the store, at most WAITING of them. `on_trouble` is told on any
    thread when the store fails, in one line that names the fix, and None when it works again.
    """

    def __init__(self, state_dir: Path, on_trouble: Callable[[str | None], object]) -> None:
        self._path = state_dir / FILE_NAME
        self._on_trouble = on_trouble
        self._troubled = False
        self._events: queue.SimpleQueue[_Event | None] = queue.SimpleQueue()
        self._hurry = threading.Event()
        self._give_up_at: float | None = None
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

        self._put(_Event(write=write, may_wait=True))

    def vetoed(self, veto: Veto) -> None:
        """Write the row of a text that a validator objected to."""
        row = {"ts": _now_ms(), **msgspec.structs.asdict(veto)}

        def write(store: sqlite3.Connection, _: bytes) -> None:
            names, holes = ", ".join(row), ", ".join(f":{name}" for name in row)
            store.execute(f"INSERT INTO veto ({names}) VALUES ({holes})", row)

        self._put(_Event(write=write, may_wait=True))

    def shown(self, id: str) -> None:
        """The client has shown the completion."""
        self._put(_Event(write=lambda store, _: _set(store, id, "shown = 1")))

    def partially_accepted(self, id: str, chars: int) -> None:
        """The user has taken the completion's first `chars` UTF-16 units, counted from its start."""
        # Whatever a client says: no more than there is.
        change = "partial_chars = max(partial_chars, min(?, chars))"
        self._put(_Event(write=lambda store, _: _set(store, id, change, chars)))

    def accepted(self, id: str) -> Future[bool]:
        """The user has taken the completion.

        The future is done when that is committed and survives a power failure, or, with False, when it cannot be.
        """
        now, stored = _now_ms(), Future[bool]()
        change = "accepted_ts = coalesce(accepted_ts, ?)"
        self._put(_Event(write=lambda store, _: _set(store, id, change, now), stored=stored))
        return stored

    def close(self) -> None:
        """Write what still waits, then close the file; a disk or a lock that takes over CLOSE_S is left behind."""
        self._give_up_at = time.monotonic() + CLOSE_S
        self._events.put(None)
        self._hurry.set()
        self._thread.join(CLOSE_S + 2 * BUSY_S)

    def _put(self, event: _Event) -> None:
        if self._events.qsize() >= WAITING:
            self._trouble(f"{WAITING} events wait for it")
            if event.stored is not None:
                event.stored.set_result(False)
            return
        self._events.put(event)
        if not event.may_wait:
            self._hurry.set()

    def _next(self) -> _Event | None:
        """The next event when its time has come; None at the end."""
        self._hurry.clear()
        event = self._events.get()
        if event is not None and event.may_wait and self._events.empty():
            self._hurry.wait(LATER_S)
        return event

    def _work(self) -> None:
        opened = self._tried(lambda: _open(self._path))
        while (event := self._next()) is not None:
            stored = False
            # Whoever has made room on the disk need not restart the server.
            if not self._over and (opened := opened or self._tried(lambda: _open(self._path))) is not None:
                stored = self._tried(partial(_commit, *opened, event)) is not None
            if event.stored is not None:
                event.stored.set_result(stored)
        if opened is not None:
            opened[0].close()

    def _tried(self, step: Callable[[], T]) -> T | None:
        """A step's result; None where it fails. While another program locks the store the step is tried again."""
        while True:
            try:
                result = step()
            except (OSError, sqlite3.Error, ValueError) as error:
                if not _is_locked(error) or self._over:
                    self._trouble(str(error))
                    return None
                # SQLite itself waits for most locks, not for all.
                time.sleep(AGAIN_S)
            else:
                self._well()
                return result

    @property
    def _over(self) -> bool:
        """Whether the store has been closed for so long that nothing is tried any more."""
        return self._give_up_at is not None and time.monotonic() > self._give_up_at

    def _trouble(self, reason: str) -> None:
        if not self._troubled:
            self._troubled = True
            message = f"no telemetry: cannot write {self._path} ({reason}); fix that or choose another --state-dir"
            log.error(message)
            self._on_trouble(message)

    def _well(self) -> None:
        if self._troubled:
            self._troubled = False
            self._on_trouble(None)


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
    store.execute("PRAGMA journal_mode = WAL")
    with store:
        # Two servers may start on one folder at once: whoever comes second must see the finished schema.
        store.execute("BEGIN IMMEDIATE")
        (version,) = store.execute("PRAGMA user_version").fetchone()
        if version == 0:
            for statement in SCHEMA.split(";")[:-1]:
                store.execute(statement)
            store.execute("INSERT INTO salt VALUES (?)", (secrets.token_bytes(16),))
            store.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        elif version in CHANGES:
            for change in CHANGES[version]:
                store.execute(change)
            store.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        elif version != SCHEMA_VERSION:
            raise ValueError(f"its schema is version {version}, this midspan knows {SCHEMA_VERSION}; update midspan")
        store.execute(VETOES)
        # A store of before there were remedies.
        if "remedy" not in {column[1] for column in store.execute("PRAGMA table_info(veto)")}:
            store.execute(REMEDY)
        store.execute("DELETE FROM veto WHERE ts < ?", (_now_ms() - KEPT_MS,))
        store.execute("DELETE FROM completion WHERE ts < ?", (_now_ms() - KEPT_MS,))
    salt: bytes = store.execute("SELECT value FROM salt").fetchone()[0]
    return salt


def _commit(store: sqlite3.Connection, salt: bytes, event: _Event) -> bool:
    """Write one event. What is committed survives the process's death; an acceptance that of the machine, too."""
    store.execute(f"PRAGMA synchronous = {'NORMAL' if event.stored is None else 'FULL'}")
    with store:
        event.write(store, salt)
    return True


def _is_locked(error: Exception) -> bool:
    """Whether another program holds the store for now. SQLite says so in the lowest byte of its code."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _set(store: sqlite3.Connection, id: str, change: str, *values: int) -> None:
    store.execute(f"UPDATE completion SET {change} WHERE id = ?", (*values, id))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
