"""The store's file: its tables, and how a store of an earlier version becomes one of today.

`completion` has a row for each text that was offered, `request` one for each request and its fate, and `setup` what
rows have in common: who asked, and what answered. `shown` and `accepted_by` hold bits: TOLD by the client, INFERRED
from the edits. `kept_15` and so on are the share of what was taken that still stood so many seconds later.
"""

from __future__ import annotations

import secrets
import sqlite3
import time
from pathlib import Path

FILE_NAME = "telemetry.db"
SCHEMA_VERSION = 3
# SQLite waits this long for a lock in one go: a server that ends need not wait longer for its thread.
BUSY_S = 0.2
DAY_MS = 24 * 60 * 60 * 1000
KEPT_DAYS = 365
TOLD, INFERRED = 1, 2
# Seconds after an acceptance at which what still stands of it is measured.
HORIZONS = (15, 30, 120, 300, 600)
# The columns of `setup`, which `completion` partly repeats for those who read it alone.
SETUP = ("client", "language", "kind", "trigger", "checkpoint", "digest", "engine", "layout", "device")
NAMES, HOLES = ", ".join(SETUP), ", ".join("?" * len(SETUP))
SCHEMA_2 = """
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
# Some stores of version 2 have it.
VETOES = """
CREATE TABLE IF NOT EXISTS veto (
    ts INTEGER NOT NULL,
    reason TEXT NOT NULL,
    language TEXT NOT NULL,
    kind TEXT NOT NULL,
    trigger TEXT NOT NULL,
    checkpoint TEXT NOT NULL
);
"""
FROM_1 = ";".join(f"ALTER TABLE completion ADD COLUMN {name} TEXT NOT NULL DEFAULT ''" for name in ("engine", "route"))
FROM_2 = f"""
{VETOES}
ALTER TABLE veto ADD COLUMN remedy TEXT NOT NULL DEFAULT '';
CREATE TABLE setup (
    id INTEGER PRIMARY KEY,
    {", ".join(f"{name} TEXT NOT NULL" for name in SETUP)},
    UNIQUE ({NAMES})
);
CREATE TABLE request (
    ts INTEGER NOT NULL,
    setup INTEGER NOT NULL,
    fate TEXT NOT NULL,
    reason TEXT NOT NULL,
    id TEXT,
    confidence REAL NOT NULL,
    candidates INTEGER NOT NULL,
    steps INTEGER NOT NULL,
    latency_ms REAL NOT NULL,
    context_ms REAL NOT NULL,
    queue_ms REAL NOT NULL,
    encode_ms REAL NOT NULL,
    denoise_ms REAL NOT NULL,
    rank_ms REAL NOT NULL,
    validate_ms REAL NOT NULL
);
ALTER TABLE completion ADD COLUMN setup INTEGER NOT NULL DEFAULT 0;
ALTER TABLE completion ADD COLUMN accepted_by INTEGER NOT NULL DEFAULT 0;
ALTER TABLE completion ADD COLUMN ended TEXT NOT NULL DEFAULT '';
{"".join(f"ALTER TABLE completion ADD COLUMN kept_{seconds} REAL;" for seconds in HORIZONS)}
"""
# Rows without a setup are of version 2: from before, or of a server that ran on while another one changed the store.
ADOPT = f"""
INSERT OR IGNORE INTO setup ({NAMES})
    SELECT DISTINCT '', language, kind, trigger, checkpoint, '', engine, '', '' FROM completion WHERE setup = 0;
UPDATE completion SET
    accepted_by = accepted_ts IS NOT NULL,
    setup = (SELECT setup.id FROM setup WHERE setup.client = '' AND setup.language = completion.language
        AND setup.kind = completion.kind AND setup.trigger = completion.trigger
        AND setup.checkpoint = completion.checkpoint AND setup.digest = '' AND setup.engine = completion.engine)
    WHERE setup = 0
"""
# What makes a store of a version one of a later one; a new store begins with the tables of version 2.
CHANGES = {0: (2, SCHEMA_2), 1: (2, FROM_1), 2: (3, FROM_2)}


def open_store(path: Path, days: int = KEPT_DAYS) -> tuple[sqlite3.Connection, bytes]:
    """The store and its salt; made if missing, and without what is older than so many days.

    Raises OSError, sqlite3.Error, or ValueError for a newer schema.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    store = sqlite3.connect(path, timeout=BUSY_S)
    try:
        return store, _prepare(store, days)
    except (sqlite3.Error, ValueError):
        store.close()
        raise


def upgrade(store: sqlite3.Connection, version: int) -> None:
    """Make a store of this version, 0 for an empty one, one of today, in the transaction that is open."""
    while version in CHANGES:
        version, changes = CHANGES[version]
        _run(store, changes)
    _run(store, ADOPT)
    store.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _run(store: sqlite3.Connection, statements: str) -> None:
    for statement in filter(str.strip, statements.split(";")):
        store.execute(statement)


def forget(store: sqlite3.Connection, days: int) -> None:
    """Delete what is older than so many days."""
    for table in ("completion", "request", "veto"):
        store.execute(f"DELETE FROM {table} WHERE ts < ?", (now_ms() - days * DAY_MS,))


def setup_of(store: sqlite3.Connection, values: tuple[str, ...]) -> int:
    """The id of a row of `setup` with the values of SETUP's columns; made if missing."""
    where = " AND ".join(f"{name} = ?" for name in SETUP)
    wanted = f"SELECT id FROM setup WHERE {where}"
    if (row := store.execute(wanted, values).fetchone()) is None:
        # Another server may make it at the same time.
        store.execute(f"INSERT OR IGNORE INTO setup ({NAMES}) VALUES ({HOLES})", values)
        row = store.execute(wanted, values).fetchone()
    return int(row[0])


def _prepare(store: sqlite3.Connection, days: int) -> bytes:
    """Make the tables if they are missing, forget what is too old; the salt."""
    store.execute("PRAGMA journal_mode = WAL")
    with store:
        # Two servers may start on one folder at once: whoever comes second must see the finished schema.
        store.execute("BEGIN IMMEDIATE")
        (begun,) = store.execute("PRAGMA user_version").fetchone()
        if begun > SCHEMA_VERSION:
            raise ValueError(f"its schema is version {begun}, this midspan knows {SCHEMA_VERSION}; update midspan")
        upgrade(store, begun)
        if begun == 0:
            store.execute("INSERT INTO salt VALUES (?)", (secrets.token_bytes(16),))
        forget(store, days)
    salt: bytes = store.execute("SELECT value FROM salt").fetchone()[0]
    return salt


def now_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000
