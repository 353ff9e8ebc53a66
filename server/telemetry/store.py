"""What became of each completion: one row each in a local SQLite file, without code and without file names."""

from __future__ import annotations

import hashlib
import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar, get_args

import msgspec

from midspan.server.telemetry.events import Asked, Ended, Offer, Veto
from midspan.server.telemetry.schema import (
    BUSY_S,
    FILE_NAME,
    INFERRED,
    KEPT_DAYS,
    SETUP,
    TOLD,
    forget,
    now_ms,
    open_store,
    setup_of,
)

log = logging.getLogger(__name__)

# A store that another program locks for ten seconds loses nothing, even if the server ends then.
CLOSE_S = 12.0
AGAIN_S = 0.02
# Events that wait in memory, about a kilobyte each; a person brings about some ten in a second.
WAITING = 10_000
# An answer is on its way when its row comes: it goes first. What a client tells of it, as it may end next, is written
# at once, and the row with it.
LATER_S = 0.02
# What `completion` does not hold: of `setup` alone, or hashed.
LEFT_OUT = ("uri", "client", "digest", "layout", "device")
# Nothing but an undo follows an acceptance, and only a whole one follows one in part.
ENDED = {
    how: f"ended = iif(ended = 'accepted' OR (ended = 'part' AND '{how}' != 'accepted'), ended, '{how}')"
    for how in get_args(Ended)
} | {"undone": "ended = iif(ended = 'accepted', 'undone', ended)"}
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

    def __init__(self, state_dir: Path, on_trouble: Callable[[str | None], object], days: int = KEPT_DAYS) -> None:
        self._path = state_dir / FILE_NAME
        self._on_trouble = on_trouble
        self._days = days
        self._troubled = False
        self._events: queue.SimpleQueue[_Event | None] = queue.SimpleQueue()
        self._hurry = threading.Event()
        self._give_up_at: float | None = None
        self._thread = threading.Thread(target=self._work, name="midspan-telemetry", daemon=True)
        self._thread.start()

    def keep(self, days: int) -> None:
        """Delete what is older than so many days, now and whenever a store is opened."""
        if days != self._days:
            self._days = days
            self._put(_Event(write=lambda store, _: forget(store, days), may_wait=True))

    def offered(self, offer: Offer) -> None:
        """Write the completion's row."""
        row = msgspec.structs.asdict(offer) | {"ts": now_ms()}

        def write(store: sqlite3.Connection, salt: bytes) -> None:
            uri = row["uri"].encode("utf-8", "surrogatepass")
            hashed = {"uri_hash": hashlib.blake2b(uri, key=salt, digest_size=16).hexdigest()}
            kept = {name: value for name, value in row.items() if name not in LEFT_OUT}
            _insert(store, "completion", kept | hashed | _setup(store, row))

        self._put(_Event(write=write, may_wait=True))

    def asked(self, asked: Asked) -> None:
        """Write the row of a request, whose fate is known."""
        row = msgspec.structs.asdict(asked) | {"ts": now_ms()}

        def write(store: sqlite3.Connection, _: bytes) -> None:
            kept = {name: value for name, value in row.items() if name not in SETUP}
            _insert(store, "request", kept | _setup(store, row))

        self._put(_Event(write=write, may_wait=True))

    def vetoed(self, veto: Veto) -> None:
        """Write the row of a text that a validator objected to."""
        row = {"ts": now_ms(), **msgspec.structs.asdict(veto)}
        self._put(_Event(write=lambda store, _: _insert(store, "veto", row), may_wait=True))

    def shown(self, id: str) -> None:
        """The client has shown the completion."""
        self._put(_Event(write=lambda store, _: _set(store, id, f"shown = shown | {TOLD}")))

    def seen(self, id: str) -> None:
        """The completion has been on screen for long enough to be read, as time tells."""
        self._put(_Event(write=lambda store, _: _set(store, id, f"shown = shown | {INFERRED}"), may_wait=True))

    def partially_accepted(self, id: str, chars: int) -> None:
        """The user has taken the completion's first `chars` UTF-16 units, counted from its start."""
        # Whatever a client says: no more than there is.
        change = f"partial_chars = max(partial_chars, min(?, chars)), {ENDED['part']}"
        self._put(_Event(write=lambda store, _: _set(store, id, change, chars)))

    def accepted(self, id: str) -> Future[bool]:
        """The user has taken the completion, says the client.

        The future is done when that is committed and survives a power failure, or, with False, when it cannot be.
        """
        now, stored = now_ms(), Future[bool]()
        change = f"accepted_ts = coalesce(accepted_ts, ?), accepted_by = accepted_by | {TOLD}, {ENDED['accepted']}"
        self._put(_Event(write=lambda store, _: _set(store, id, change, now), stored=stored))
        return stored

    def taken(self, id: str) -> None:
        """The user has taken the completion, as the edits tell."""
        now = now_ms()
        change = f"accepted_ts = coalesce(accepted_ts, ?), accepted_by = accepted_by | {INFERRED}, {ENDED['accepted']}"
        self._put(_Event(write=lambda store, _: _set(store, id, change, now), may_wait=True))

    def ended(self, id: str, how: Ended) -> None:
        """How the completion has ended, as the edits tell; what was taken stays so."""
        self._put(_Event(write=lambda store, _: _set(store, id, ENDED[how]), may_wait=True))

    def kept(self, id: str, seconds: int, share: float) -> None:
        """Which share of what was taken still stands after so many seconds, one of HORIZONS."""
        self._put(_Event(write=lambda store, _: _set(store, id, f"kept_{seconds} = ?", share), may_wait=True))

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
        opened = self._tried(lambda: open_store(self._path, self._days))
        while (event := self._next()) is not None:
            stored = False
            # Whoever has made room on the disk need not restart the server.
            if (
                not self._over
                and (opened := opened or self._tried(lambda: open_store(self._path, self._days))) is not None
            ):
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


def _insert(store: sqlite3.Connection, table: str, row: dict[str, object]) -> None:
    names, holes = ", ".join(row), ", ".join(f":{name}" for name in row)
    store.execute(f"INSERT INTO {table} ({names}) VALUES ({holes})", row)


def _setup(store: sqlite3.Connection, row: dict[str, str]) -> dict[str, int]:
    """What a row has in common with others, as its column."""
    return {"setup": setup_of(store, tuple(row[name] for name in SETUP))}


def _set(store: sqlite3.Connection, id: str, change: str, *values: float) -> None:
    store.execute(f"UPDATE completion SET {change} WHERE id = ?", (*values, id))
