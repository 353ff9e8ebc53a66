"""Stores as earlier versions of midspan have made them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from midspan.server.telemetry.schema import FILE_NAME, now_ms

# As version 2 made it; version 1 had no engine and no route, and either may lack the vetoes.
COMPLETION = """
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
    partial_chars INTEGER NOT NULL DEFAULT 0{}
)"""
ROUTED = ",\n    engine TEXT NOT NULL DEFAULT '',\n    route TEXT NOT NULL DEFAULT ''"
VETO = """
CREATE TABLE veto (
    ts INTEGER NOT NULL,
    reason TEXT NOT NULL,
    language TEXT NOT NULL,
    kind TEXT NOT NULL,
    trigger TEXT NOT NULL,
    checkpoint TEXT NOT NULL
)"""


def make_store(state_dir: Path, version: int) -> None:
    """A store of an earlier version with three rows, the second of which was accepted."""
    now = now_ms()
    with closing(sqlite3.connect(state_dir / FILE_NAME)) as store, store:
        store.execute("CREATE TABLE salt (value BLOB NOT NULL)")
        store.execute("INSERT INTO salt VALUES (x'00112233445566778899aabbccddeeff')")
        store.execute(COMPLETION.format(ROUTED if version == 2 else ""))
        if version == 2:
            store.execute(VETO)
            store.execute("INSERT INTO veto VALUES (?, 'name', 'python', 'line', 'automatic', 'embedded')", (now,))
        for id, language, accepted in (("a", "python", None), ("b", "python", now), ("c", "go", None)):
            row = (id, now, "00", language, "line", "automatic", 0.5, 10, 1, 80.0, 75.0, 2, "embedded", 1, accepted, 3)
            names = "id, ts, uri_hash, language, kind, trigger, confidence, chars, lines, latency_ms, engine_ms, steps"
            names += ", checkpoint, shown, accepted_ts, partial_chars"
            store.execute(f"INSERT INTO completion ({names}) VALUES ({', '.join('?' * len(row))})", row)
        if version == 2:
            store.execute("UPDATE completion SET engine = 'qwen', route = 'the only one left' WHERE id = 'c'")
        store.execute(f"PRAGMA user_version = {version}")
