"""A telemetry store for tests, and what is in it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from midspan.server.telemetry.events import Offer
from midspan.server.telemetry.schema import FILE_NAME, KEPT_DAYS
from midspan.server.telemetry.store import Telemetry

URI = "file:///home/someone/secret_project/plan.py"


def offer(id: str = "a1") -> Offer:
    return Offer(
        id=id,
        uri=URI,
        language="python",
        kind="rest_of_line",
        trigger="automatic",
        confidence=0.75,
        chars=11,
        lines=1,
        latency_ms=42.5,
        engine_ms=40.0,
        steps=6,
        checkpoint="embedded",
    )


@contextmanager
def telemetry(state_dir: Path, troubles: list[str | None] | None = None, days: int = KEPT_DAYS) -> Iterator[Telemetry]:
    """A store. Its troubles are put into the list, if one is given; else it must have none."""
    found: list[str | None] = []
    store = Telemetry(state_dir, found.append, days)
    try:
        yield store
    finally:
        store.close()
    if troubles is None:
        assert found == []
    else:
        troubles.extend(found)


def rows(state_dir: Path, table: str = "completion") -> list[dict[str, Any]]:
    with closing(sqlite3.connect(state_dir / FILE_NAME)) as store:
        store.row_factory = sqlite3.Row
        return [dict(row) for row in store.execute(f"SELECT * FROM {table} ORDER BY id")]
