"""The store's file: its tables, and how a store of an earlier version becomes one of today."""

from __future__ import annotations

import secrets
import sqlite3
import time
from pathlib import Path

FILE_NAME = "telemetry.db"
SCHEMA_VERSION = 2
# SQLite waits this long for a lock in one go: a server that ends need not wait longer for its thread.
BUSY_S = 0.2
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
    checkpoint TEXT NOT NULL
);
"""
# What makes a store of a version one of the next; its rows stay as they are.
CHANGES = {
    1: tuple(f"ALTER TABLE completion ADD COLUMN {name} TEXT NOT NULL DEFAULT ''" for name in ("engine", "route"))
}


def open_store(path: Path) -> tuple[sqlite3.Connection, bytes]:
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
        store.execute("DELETE FROM veto WHERE ts < ?", (now_ms() - KEPT_MS,))
        store.execute("DELETE FROM completion WHERE ts < ?", (now_ms() - KEPT_MS,))
    salt: bytes = store.execute("SELECT value FROM salt").fetchone()[0]
    return salt


def now_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000
