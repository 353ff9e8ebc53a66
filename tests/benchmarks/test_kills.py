"""`benchmarks/kills.py` at a small size: what was acknowledged before a kill is stored; and it sees what is lost."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from benchmarks.kills import kill, lost, opens
from midspan.server.telemetry.schema import FILE_NAME
from tests.server.telemetry.stores import telemetry


def test_what_was_acknowledged_before_a_kill_is_in_the_store(tmp_path: Path) -> None:
    found = kill(tmp_path, 10, servers=2)
    assert found.pop("acknowledged") > 0
    assert found.pop("before_any") < 10
    assert found == {"kills": 10, "stores": 1, "lost": 0, "not_opened": 0, "ended_early": 0}


def test_what_is_lost_is_seen(tmp_path: Path) -> None:
    with telemetry(tmp_path):
        pass
    assert opens(tmp_path)
    assert lost(tmp_path, ["a1"]) == {"a1"}
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as store:
        store.execute("PRAGMA user_version = 99")
    assert not opens(tmp_path)
