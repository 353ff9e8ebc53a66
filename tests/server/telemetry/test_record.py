"""What the store has of requests and suggestions: fates, who says so, what is kept, and for how long."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec

from midspan.server.telemetry.events import Asked
from midspan.server.telemetry.schema import DAY_MS, FILE_NAME, HORIZONS, INFERRED, TOLD
from tests.server.telemetry.stores import offer, rows, telemetry


def test_days_that_change_while_a_store_is_open_hold_at_once(tmp_path: Path) -> None:
    with telemetry(tmp_path) as store:
        for id in ("old", "new"):
            store.offered(offer(id))
        store.asked(ASKED)
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as file, file:
        file.execute("UPDATE completion SET ts = ts - ? WHERE id = 'old'", (8 * DAY_MS,))
        file.execute("UPDATE request SET ts = ts - ?", (8 * DAY_MS,))
    with telemetry(tmp_path, days=9) as store:
        store.keep(9)
        assert store.accepted("old").result(60)
        assert len(rows(tmp_path)) == 2
        store.keep(7)
        assert store.accepted("new").result(60)
        assert [row["id"] for row in rows(tmp_path)] == ["new"]
        assert rows(tmp_path, "request") == []


ASKED = Asked(
    language="python",
    kind="line",
    trigger="automatic",
    checkpoint="embedded",
    client="an editor",
    digest="00ff",
    layout="filler",
    device="cpu",
    fate="below",
    confidence=0.2,
    candidates=1,
    steps=3,
    latency_ms=21.0,
    context_ms=1.0,
    queue_ms=5.0,
    encode_ms=4.0,
    denoise_ms=8.0,
    rank_ms=2.0,
    validate_ms=1.0,
)


def test_a_request_is_one_row_with_its_fate_and_what_rows_have_in_common_is_stored_once(tmp_path: Path) -> None:
    with telemetry(tmp_path) as store:
        store.asked(ASKED)
        store.asked(msgspec.structs.replace(ASKED, fate="failed", reason="RemoteError"))
        store.asked(msgspec.structs.replace(ASKED, client="another"))
    first, second, third = rows(tmp_path, "request")
    assert {name: first[name] for name in ("fate", "reason", "id", "confidence", "candidates", "steps")} == {
        "fate": "below", "reason": "", "id": None, "confidence": 0.2, "candidates": 1, "steps": 3,
    }  # fmt: skip
    parts = ("context_ms", "queue_ms", "encode_ms", "denoise_ms", "rank_ms", "validate_ms", "latency_ms")
    assert [first[name] for name in parts] == [1.0, 5.0, 4.0, 8.0, 2.0, 1.0, 21.0]
    assert (second["fate"], second["reason"]) == ("failed", "RemoteError")
    assert first["setup"] == second["setup"] != third["setup"]
    setups = rows(tmp_path, "setup")
    assert [(one["client"], one["digest"], one["layout"]) for one in setups] == [
        ("an editor", "00ff", "filler"),
        ("another", "00ff", "filler"),
    ]


def test_what_is_told_and_what_is_inferred_are_told_apart(tmp_path: Path) -> None:
    with telemetry(tmp_path) as store:
        for id in ("a1", "a2", "a3"):
            store.offered(offer(id))
        store.accepted("a1")
        store.shown("a1")
        store.taken("a2")
        store.seen("a2")
        store.taken("a3")
        store.accepted("a3")
    found = [(row["accepted_by"], row["shown"], row["accepted_ts"] is not None) for row in rows(tmp_path)]
    assert found == [(TOLD, TOLD, True), (INFERRED, INFERRED, True), (TOLD | INFERRED, 0, True)]


def test_nothing_undoes_an_acceptance(tmp_path: Path) -> None:
    with telemetry(tmp_path) as store:
        for id in ("a1", "a2", "a3"):
            store.offered(offer(id))
            store.ended(id, "rejected")
        store.accepted("a1")
        store.ended("a1", "dismissed")
        store.partially_accepted("a2", 4)
        store.ended("a2", "dismissed")
    assert [row["ended"] for row in rows(tmp_path)] == ["accepted", "part", "rejected"]


def test_an_undo_follows_an_acceptance_and_another_acceptance_follows_it(tmp_path: Path) -> None:
    with telemetry(tmp_path) as store:
        for id in ("a1", "a2", "a3"):
            store.offered(offer(id))
        for id in ("a1", "a2"):
            store.taken(id)
        for id in ("a1", "a2", "a3"):
            store.ended(id, "undone")
        store.taken("a2")
    found = [(row["ended"], row["accepted_ts"] is not None) for row in rows(tmp_path)]
    assert found == [("undone", True), ("accepted", True), ("", False)]


def test_what_is_kept_is_stored_by_the_time_since(tmp_path: Path) -> None:
    with telemetry(tmp_path) as store:
        store.offered(offer())
        for seconds in HORIZONS:
            store.kept("a1", seconds, 1 / seconds)
    [row] = rows(tmp_path)
    assert [row[f"kept_{seconds}"] for seconds in HORIZONS] == [1 / seconds for seconds in HORIZONS]
