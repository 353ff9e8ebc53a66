"""Code actions through the real server and into its store: the request, the edits, and what became of them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from midspan.server.telemetry.action_rows import ActionRows, Made
from midspan.server.telemetry.schema import FILE_NAME, INFERRED
from midspan.server.text.documents import Documents
from tests.server.raw_client import RawClient, call, change, connected
from tests.server.router.fakes import fill_of
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


def refused(client: RawClient, text: str, numbers: tuple[int, int, int, int], id: int) -> str:
    """Open a text as a file of its own and ask for a refill; returns the file's URI."""
    uri = f"file:///project/{id}.py"
    client.open(text, uri=uri)
    client.send(call(id, "codeAction/resolve", offered(client, numbers, uri=uri, id=id + 100)[0]))
    return uri


def test_an_action_without_an_edit_has_its_fate(tmp_path: Path) -> None:
    with connected(tmp_path) as client:
        begin(client, PICTURE)
        for id, script in enumerate((f"x = {TEXT}", "empty = one", "crash = one"), 60):
            refused(client, f"{script}\n", (0, script.index("= ") + 2, 0, len(script)), id)
            assert client.answer(id)["error"]["code"] == -32803
        refused(client, "forever\n  one\n", (1, 2, 1, 5), 70)
        client.send(call(None, "$/cancelRequest", {"id": 70}))
        assert client.answer(70)["error"]["code"] == -32800
        uri = refused(client, "forever\n  one\n", (1, 2, 1, 5), 71)
        client.send(change("x = one\n", 2, uri=uri))
        assert client.answer(71)["error"]["code"] == -32803
        client.kept.clear()
        client.send(call(None, "exit"))
        client.process.wait(60)
    assert [(row["fate"], row["reason"]) for row in rows(tmp_path, REQUEST)] == [
        ("nothing_new", ""), ("empty", ""), ("failed", "RuntimeError"), ("cancelled", ""), ("superseded", ""),
    ]  # fmt: skip
    assert rows(tmp_path, EDIT) == []


def test_without_telemetry_an_action_has_no_rows() -> None:
    session: Any = SimpleNamespace(telemetry=None, engine=None, aftermath=None)
    document = Documents().open("file:///plan.py", "python", 1, PICTURE)
    action = ActionRows(session=session, document=document, name="half", began=0.0, context_ms=0.0)
    made = Made(fill=fill_of(TEXT), at=0.0, texts={TEXT: 0.9})
    action.ended("cancelled")
    action.filled(made)
    action.edited(made, TEXT, ((0, 4), (0, 13)), TEXT)
    assert made.ids == {}
