"""Stores that earlier versions of midspan have made: today's opens them, and keeps their rows."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from midspan.server.cli import main
from midspan.server.telemetry.events import Offer
from midspan.server.telemetry.schema import FILE_NAME, SCHEMA_VERSION, TOLD
from midspan.server.telemetry.store import Telemetry
from tests.server.telemetry.old_stores import make_store


def opened(state_dir: Path) -> None:
    """Open a store as a server does, and offer one more suggestion."""
    troubles = list[str | None]()
    store = Telemetry(state_dir, troubles.append)
    store.offered(
        Offer(
            id="new",
            uri="file:///plan.py",
            language="go",
            kind="line",
            trigger="automatic",
            confidence=0.5,
            chars=3,
            lines=1,
            latency_ms=1.0,
            engine_ms=1.0,
            steps=1,
            checkpoint="embedded",
        )
    )
    store.close()
    assert troubles == []


def found(state_dir: Path, wanted: str) -> list[dict[str, Any]]:
    with closing(sqlite3.connect(state_dir / FILE_NAME)) as store:
        store.row_factory = sqlite3.Row
        return [dict(row) for row in store.execute(wanted)]


@pytest.mark.parametrize("version", [1, 2])
def test_a_store_of_an_earlier_version_keeps_its_rows_and_takes_new_ones(tmp_path: Path, version: int) -> None:
    make_store(tmp_path, version)
    before = {row["id"]: row for row in found(tmp_path, "SELECT * FROM completion")}
    opened(tmp_path)
    assert found(tmp_path, "PRAGMA user_version") == [{"user_version": SCHEMA_VERSION}]
    after = {row["id"]: row for row in found(tmp_path, "SELECT * FROM completion")}
    assert after.keys() == {*before, "new"}
    for id, row in before.items():
        assert {name: after[id][name] for name in row} == row
        assert after[id]["accepted_by"] == (TOLD if row["accepted_ts"] else 0)
    assert [row["remedy"] for row in found(tmp_path, "SELECT * FROM veto")] == [""] * (version - 1)
    [salt] = found(tmp_path, "SELECT hex(value) AS salt FROM salt")
    assert salt["salt"] == "00112233445566778899AABBCCDDEEFF"


@pytest.mark.parametrize("version", [1, 2])
def test_old_rows_know_what_they_have_in_common(tmp_path: Path, version: int) -> None:
    make_store(tmp_path, version)
    opened(tmp_path)
    joined = found(
        tmp_path,
        "SELECT completion.id, setup.language, setup.engine, setup.client FROM completion"
        " JOIN setup ON setup.id = completion.setup ORDER BY completion.id",
    )
    engine = "qwen" if version == 2 else ""
    assert [tuple(row.values()) for row in joined] == [
        ("a", "python", "", ""),
        ("b", "python", "", ""),
        ("c", "go", engine, ""),
        ("new", "go", "", ""),
    ]


def test_opening_twice_changes_nothing(tmp_path: Path) -> None:
    make_store(tmp_path, 1)
    opened(tmp_path)
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as store, store:
        store.execute("DELETE FROM completion WHERE id = 'new'")
    before = found(tmp_path, "SELECT * FROM completion ORDER BY id")
    Telemetry(tmp_path, lambda trouble: None).close()
    assert found(tmp_path, "SELECT * FROM completion ORDER BY id") == before


def test_a_row_of_an_earlier_server_that_still_runs_is_read_and_adopted_at_the_next_start(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    make_store(tmp_path, 2)
    opened(tmp_path)
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as store, store:
        store.execute("UPDATE completion SET setup = 0, accepted_by = 0 WHERE id = 'b'")
    assert main(["report", "--json", "--state-dir", str(tmp_path)]) == 0
    assert '"unknown": {"offered": 1,' in capsys.readouterr().out
    Telemetry(tmp_path, lambda trouble: None).close()
    [row] = found(tmp_path, "SELECT * FROM completion JOIN setup ON setup.id = setup WHERE completion.id = 'b'")
    assert (row["language"], row["accepted_by"]) == ("python", TOLD)
