"""The telemetry store: its rows, their later changes, and rows that cannot be written."""

from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import midspan.server.telemetry.store
from midspan.server.telemetry.events import Offer
from midspan.server.telemetry.schema import BUSY_S, DAY_MS, FILE_NAME, HORIZONS, SCHEMA_VERSION, TOLD
from midspan.server.telemetry.store import Telemetry, _Event
from tests.server.telemetry.stores import offer, rows, telemetry


def test_a_suggestion_is_one_row(tmp_path: Path) -> None:
    before = time.time_ns() // 1_000_000
    with telemetry(tmp_path) as store:
        store.offered(offer())
    [row] = rows(tmp_path)
    assert before <= row.pop("ts") <= time.time_ns() // 1_000_000
    assert len(row.pop("uri_hash")) == 32
    assert row == {
        "id": "a1",
        "language": "python",
        "kind": "rest_of_line",
        "trigger": "automatic",
        "confidence": 0.75,
        "chars": 11,
        "lines": 1,
        "latency_ms": 42.5,
        "engine_ms": 40.0,
        "steps": 6,
        "checkpoint": "embedded",
        "shown": 0,
        "accepted_ts": None,
        "partial_chars": 0,
        "engine": "",
        "route": "",
        "setup": 1,
        "accepted_by": 0,
        "ended": "",
        **{f"kept_{seconds}": None for seconds in HORIZONS},
    }


def test_shown_partly_accepted_and_accepted_change_their_row_only(tmp_path: Path) -> None:
    with telemetry(tmp_path) as store:
        store.offered(offer("a1"))
        store.offered(offer("a2"))
        store.shown("a1")
        store.partially_accepted("a1", 7)
        store.partially_accepted("a1", 4)
        store.accepted("a1")
    first, second = rows(tmp_path)
    assert (first["shown"], first["partial_chars"]) == (TOLD, 7)
    assert first["accepted_ts"] >= first["ts"]
    assert (second["shown"], second["partial_chars"], second["accepted_ts"]) == (0, 0, None)


def test_no_more_is_accepted_than_there_is_whatever_a_client_says(tmp_path: Path) -> None:
    with telemetry(tmp_path) as store:
        store.offered(offer())
        store.partially_accepted("a1", 2**31)
    [row] = rows(tmp_path)
    assert row["partial_chars"] == row["chars"]


def test_the_first_acceptance_sets_the_time(tmp_path: Path) -> None:
    with telemetry(tmp_path) as store:
        store.offered(offer())
        store.accepted("a1")
    [first] = rows(tmp_path)
    with telemetry(tmp_path) as store:
        store.accepted("a1")
    assert rows(tmp_path) == [first]


def test_the_file_holds_no_name_and_the_hash_is_salted(tmp_path: Path) -> None:
    for place in ("one", "other"):
        with telemetry(tmp_path / place) as store:
            store.offered(offer("a1"))
            store.offered(offer("a2"))
    one, other = rows(tmp_path / "one"), rows(tmp_path / "other")
    assert one[0]["uri_hash"] == one[1]["uri_hash"] != other[0]["uri_hash"]
    for file in (tmp_path / "one").iterdir():
        assert b"secret_project" not in file.read_bytes()


def test_the_schema_has_a_version_and_the_file_is_wal(tmp_path: Path) -> None:
    with telemetry(tmp_path), telemetry(tmp_path):
        pass
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as store:
        assert store.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
        assert store.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert store.execute("SELECT count(*) FROM salt").fetchone() == (1,)


def test_two_servers_write_to_one_file(tmp_path: Path) -> None:
    with telemetry(tmp_path) as one, telemetry(tmp_path) as other:
        for number in range(50):
            one.offered(offer(f"one{number}"))
            other.offered(offer(f"other{number}"))
    assert len(rows(tmp_path)) == 100


def test_a_newer_schema_is_left_alone_and_reported_once(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as store:
        store.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    troubles: list[str | None] = []
    with telemetry(tmp_path, troubles) as store:
        store.offered(offer())
    [trouble] = troubles
    assert trouble is not None
    assert "update midspan" in trouble
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as raw:
        assert raw.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)


def test_a_folder_that_cannot_be_made_is_reported_once_with_the_fix(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file, not a folder")
    troubles: list[str | None] = []
    with telemetry(tmp_path / "taken", troubles) as store:
        store.offered(offer("a1"))
        store.offered(offer("a2"))
        store.accepted("a1")
    [trouble] = troubles
    assert trouble is not None
    assert str(tmp_path / "taken") in trouble
    assert "--state-dir" in trouble


def test_a_failed_write_is_reported_once_and_the_next_is_tried(tmp_path: Path) -> None:
    troubles: list[str | None] = []
    with telemetry(tmp_path, troubles) as store:
        store.offered(offer("a1"))
        store.offered(offer("a1"))
        store.offered(offer("a1"))
        store.offered(offer("a2"))
    said, well = troubles
    assert said is not None
    assert "fix that or choose another --state-dir" in said
    assert well is None
    assert [row["id"] for row in rows(tmp_path)] == ["a1", "a2"]


def test_an_acceptance_is_done_once_another_connection_can_read_it(tmp_path: Path) -> None:
    with telemetry(tmp_path) as store:
        store.offered(offer("a1"))
        assert store.accepted("a1").result(60)
        [row] = rows(tmp_path)
        assert row["accepted_ts"]


def test_an_acceptance_waits_for_a_lock_and_is_not_lost(tmp_path: Path) -> None:
    with telemetry(tmp_path) as store:
        store.offered(offer("a1"))
        store.shown("a1")
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as lock:
        lock.execute("BEGIN EXCLUSIVE")
        with telemetry(tmp_path) as store:
            stored = store.accepted("a1")
            # Longer than SQLite itself delayed_rows for a lock.
            with pytest.raises(TimeoutError):
                stored.result(2 * BUSY_S)
            lock.rollback()
            assert stored.result(60)
    [row] = rows(tmp_path)
    assert row["accepted_ts"]


def test_an_acceptance_that_cannot_be_stored_is_reported(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).mkdir()
    troubles: list[str | None] = []
    with telemetry(tmp_path, troubles) as store:
        assert store.accepted("a1").result(60) is False
    [said] = troubles
    assert said is not None
    assert FILE_NAME in said


def test_events_beyond_the_limit_of_waiting_ones_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(midspan.server.telemetry.store, "WAITING", 3)
    with telemetry(tmp_path) as store:
        store.offered(offer("a1"))
        store.shown("a1")
    troubles: list[str | None] = []
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as lock:
        lock.execute("BEGIN EXCLUSIVE")
        with telemetry(tmp_path, troubles) as store:
            waiting = [store.accepted("a1") for _ in range(9)]
            assert waiting[-1].result(60) is False
            lock.rollback()
            assert waiting[0].result(60)
    assert troubles[0] is not None
    assert "events wait" in troubles[0]


def test_a_call_does_not_wait_for_the_disk(tmp_path: Path) -> None:
    with telemetry(tmp_path) as store:
        store.offered(offer("a1"))
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as lock:
        lock.execute("BEGIN EXCLUSIVE")
        with telemetry(tmp_path) as store:
            returned = threading.Event()

            def call() -> None:
                store.offered(offer("a2"))
                returned.set()

            threading.Thread(target=call).start()
            assert returned.wait(2)
            lock.rollback()
    assert [row["id"] for row in rows(tmp_path)] == ["a1", "a2"]


@pytest.fixture
def delayed_rows(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """An event, set once the store's thread delays an offer's row until its answer is sent; here for an hour."""
    begun = threading.Event()

    class Hurry(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            assert timeout == 3600.0
            begun.set()
            return super().wait(timeout)

    plain = Telemetry.__init__

    def listening(store: Telemetry, *arguments: Any) -> None:
        plain(store, *arguments)
        store._hurry = Hurry()

    monkeypatch.setattr(Telemetry, "__init__", listening)
    monkeypatch.setattr(midspan.server.telemetry.store, "LATER_S", 3600.0)
    return begun


def test_a_row_is_delayed_until_its_answer_is_sent_but_not_when_the_store_is_closed(
    tmp_path: Path, delayed_rows: threading.Event
) -> None:
    with telemetry(tmp_path) as store:
        store.offered(offer("a1"))
        assert delayed_rows.wait(60)
        assert rows(tmp_path) == []
    assert [row["id"] for row in rows(tmp_path)] == ["a1"]


@pytest.mark.parametrize("tell", ["shown", "accepted", "partially_accepted"])
def test_events_of_the_client_are_written_at_once_with_their_row(
    tmp_path: Path, delayed_rows: threading.Event, tell: str
) -> None:
    with telemetry(tmp_path) as store:
        store.offered(offer("a1"))
        assert delayed_rows.wait(60)
        getattr(store, tell)(*("a1", 3)[: 2 if tell == "partially_accepted" else 1])
        written = threading.Event()
        store._put(_Event(write=lambda *_: written.set()))
        assert written.wait(60)
        [row] = rows(tmp_path)
        assert row["shown"] or row["accepted_ts"] or row["partial_chars"] == 3
        store.offered(offer("a2"))
    assert [row["id"] for row in rows(tmp_path)] == ["a1", "a2"]


@pytest.mark.parametrize("uri", ["untitled:Untitled-1", "file:///\ud800.py", ""])
def test_any_uri_can_be_stored(tmp_path: Path, uri: str) -> None:
    given = {field: getattr(offer(), field) for field in Offer.__struct_fields__}
    with telemetry(tmp_path) as store:
        store.offered(Offer(**given | {"uri": uri}))
    assert len(rows(tmp_path)) == 1


def test_rows_older_than_a_year_are_deleted_at_the_next_start(tmp_path: Path) -> None:
    with telemetry(tmp_path) as store:
        store.offered(offer("old"))
        store.offered(offer("older"))
        store.offered(offer("new"))
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as file, file:
        file.execute("UPDATE completion SET ts = ts - ? WHERE id = 'older'", (366 * DAY_MS,))
        file.execute("UPDATE completion SET ts = ts - ? WHERE id = 'old'", (364 * DAY_MS,))
    with telemetry(tmp_path):
        pass
    assert [row["id"] for row in rows(tmp_path)] == ["new", "old"]
