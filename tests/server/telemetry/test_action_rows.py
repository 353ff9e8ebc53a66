"""Code actions through the real server and into its store: the request, the edits, and what became of them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from midspan.server.telemetry.schema import FILE_NAME, INFERRED
from tests.server.raw_client import RawClient, call, change, connected
from tests.server.scripted import TEXT
from tests.server.test_code_actions import PICTURE, action_named, begin, offered

REQUEST = "SELECT * FROM request JOIN setup ON setup.id = setup ORDER BY request.rowid"
EDIT = "SELECT * FROM completion JOIN setup ON setup.id = setup ORDER BY completion.rowid"
SEVERAL = ("def several(): return (\n  one)\n", (1, 2, 1, 5))


def rows(state_dir: Path, wanted: str) -> list[dict[str, Any]]:
    with closing(sqlite3.connect(state_dir / FILE_NAME)) as store:
        store.row_factory = sqlite3.Row
        return [dict(row) for row in store.execute(wanted)]


def resolve(client: RawClient, name: str, id: int = 51) -> None:
    """Resolve an action at the selection of PICTURE."""
    assert "result" in client.request(id, "codeAction/resolve", action_named(offered(client, id=id + 100), name))


def test_an_action_that_is_applied_and_undone_is_a_request_and_an_offer(tmp_path: Path) -> None:
    with connected(tmp_path) as client:
        begin(client, PICTURE)
        resolve(client, "half")
        client.send(change(f"x = {TEXT}\n", 2), change(PICTURE, 3))
        assert client.leave() == 0
    [asked] = rows(tmp_path, REQUEST)
    [edit] = rows(tmp_path, "SELECT * FROM completion")
    said = {name: asked[name] for name in ("kind", "trigger", "language", "checkpoint", "fate", "candidates", "device")}
    assert said == {
        "kind": "half", "trigger": "action", "language": "python", "checkpoint": "scripted", "fate": "produced",
        "candidates": 1, "device": "cpu",
    }  # fmt: skip
    parts = ("context_ms", "queue_ms", "encode_ms", "denoise_ms", "rank_ms", "validate_ms")
    assert 0 < sum(asked[name] for name in parts) <= asked["latency_ms"]
    assert (asked["id"], asked["setup"]) == (edit["id"], edit["setup"])
    assert (edit["chars"], edit["lines"], edit["confidence"]) == (len(TEXT), 1, 0.9)
    assert (edit["accepted_by"], edit["ended"], edit["shown"]) == (INFERRED, "undone", INFERRED)
    assert edit["accepted_ts"] >= edit["ts"]


def test_each_alternative_that_is_resolved_is_an_offer_of_one_request(tmp_path: Path) -> None:
    text, numbers = SEVERAL
    with connected(tmp_path) as client:
        begin(client, text)
        refills = [one for one in offered(client, numbers) if one["kind"].endswith("refill")]
        for number, action in enumerate([*refills[:2], refills[1]]):
            assert "result" in client.request(60 + number, "codeAction/resolve", action)
        client.send(change(text.replace("one", "slice"), 2))
        assert client.leave() == 0
    assert [row["fate"] for row in rows(tmp_path, REQUEST)] == ["produced"]
    ended = [(row["chars"], row["ended"]) for row in rows(tmp_path, EDIT)]
    assert ended == [(len(TEXT), ""), (len("slice"), "accepted")]


@pytest.mark.parametrize(
    ("text", "numbers", "fate"),
    [
        (f"x = {TEXT}\n", (0, 4, 0, 4 + len(TEXT)), ("nothing_new", "")),
        ("empty = (\n  one)\n", (1, 2, 1, 5), ("empty", "")),
        ("crash = (\n  one)\n", (1, 2, 1, 5), ("failed", "RuntimeError")),
    ],
)
def test_an_action_without_an_edit_has_its_fate(
    tmp_path: Path, text: str, numbers: tuple[int, int, int, int], fate: tuple[str, str]
) -> None:
    with connected(tmp_path) as client:
        begin(client, text)
        error = client.request(51, "codeAction/resolve", offered(client, numbers)[0])["error"]
        assert error["code"] == -32803
        client.kept.clear()
        client.send(call(None, "exit"))
        client.process.wait(60)
    assert [(row["fate"], row["reason"]) for row in rows(tmp_path, REQUEST)] == [fate]
    assert rows(tmp_path, EDIT) == []


@pytest.mark.parametrize("how", ["cancelled", "superseded"])
def test_an_action_that_is_not_waited_for_says_so(tmp_path: Path, how: str) -> None:
    with connected(tmp_path) as client:
        begin(client, "forever\n  one\n")
        client.send(call(51, "codeAction/resolve", offered(client, (1, 2, 1, 5))[0]))
        assert client.state("working")
        client.send(call(None, "$/cancelRequest", {"id": 51}) if how == "cancelled" else change("x = one\n", 2))
        assert "error" in client.answer(51)
        assert client.leave() == 0
    assert [row["fate"] for row in rows(tmp_path, REQUEST)] == [how]


def test_without_telemetry_an_action_has_no_rows(tmp_path: Path) -> None:
    with connected(tmp_path) as client:
        begin(client, PICTURE, telemetry=False)
        resolve(client, "half")
        assert client.leave() == 0
    assert not (tmp_path / FILE_NAME).exists()
