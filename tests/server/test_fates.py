"""The fate of each request and of each suggestion, through the real server and into its store."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from lsprotocol import types

from midspan.server.telemetry.schema import DAY_MS, FILE_NAME, INFERRED, TOLD
from tests.server.lsp_client import URI, Client, request_params, session
from tests.server.raw_client import WAIT_S, call, complete, connected
from tests.server.scripted import TEXT
from tests.server.telemetry.old_stores import make_store


def rows(state_dir: Path, wanted: str) -> list[dict[str, Any]]:
    with closing(sqlite3.connect(state_dir / FILE_NAME)) as store:
        store.row_factory = sqlite3.Row
        return [dict(row) for row in store.execute(wanted)]


def fates(state_dir: Path) -> list[tuple[str, str]]:
    return [(row["fate"], row["reason"]) for row in rows(state_dir, "SELECT * FROM request ORDER BY rowid")]


def contents(folder: Path) -> bytes:
    """What all files of a folder hold."""
    return b"".join(file.read_bytes() for file in folder.iterdir())


def insert(client: Client, version: int, line: int, column: int, text: str) -> None:
    """Insert into a line."""
    place = types.Position(line, column)
    document = types.VersionedTextDocumentIdentifier(version, URI)
    change = types.TextDocumentContentChangePartial(range=types.Range(place, place), text=text)
    client.text_document_did_change(types.DidChangeTextDocumentParams(document, [change]))


@pytest.mark.parametrize(
    ("text", "fate"),
    [
        ("x = ", ("produced", "")),
        ("empty = ", ("empty", "")),
        ("low = ", ("below", "")),
        ("single = ", ("nothing_new", "")),
        ("undefined = ", ("vetoed", "name")),
        ("x = \\", ("held_back", "no_fit")),
    ],
)
async def test_a_request_that_is_answered_has_its_fate(tmp_path: Path, text: str, fate: tuple[str, str]) -> None:
    async with session(tmp_path) as client:
        client.open(text)
        await client.complete(0, len(text))
    assert fates(tmp_path) == [fate]


async def test_a_request_that_fails_has_the_kind_of_the_failure(tmp_path: Path) -> None:
    async with session(tmp_path) as client:
        client.open("crash")
        assert await client.complete(0, 5) == []
        client.messages.clear()
    assert fates(tmp_path) == [("failed", "RuntimeError")]


async def test_a_request_that_an_edit_overtakes_is_superseded(tmp_path: Path) -> None:
    async with session(tmp_path) as client:
        client.open("forever")
        older = client.protocol.send_request(types.TEXT_DOCUMENT_INLINE_COMPLETION, request_params(0, 7))
        insert(client, 2, 0, 0, "x")
        assert await asyncio.wait_for(asyncio.wrap_future(older), WAIT_S) is None
    assert fates(tmp_path) == [("superseded", "")]


@pytest.mark.parametrize("text", ["forever", "endless = "])
def test_a_request_that_is_withdrawn_is_cancelled(tmp_path: Path, text: str) -> None:
    """While its fill is made, and while that is repaired."""
    with connected(tmp_path) as client:
        client.start({"deadline_ms": 60_000})
        client.open(text)
        client.send(complete(1, 0, len(text)))
        assert client.state("working")
        client.send(call(None, "$/cancelRequest", {"id": 1}))
        assert client.answer(1)["error"]["code"] == -32800
        assert client.leave() == 0
    assert fates(tmp_path) == [("cancelled", "")]


async def test_a_row_says_who_asked_what_answered_and_where_the_time_went(tmp_path: Path) -> None:
    async with session(tmp_path, editor="Neovim") as client:
        client.open("x = ")
        await client.complete(0, 4)
    [row] = rows(tmp_path, "SELECT * FROM request JOIN setup ON setup.id = setup")
    said = {name: row[name] for name in ("client", "language", "trigger", "checkpoint", "layout", "device", "engine")}
    assert said == {
        "client": "Neovim", "language": "python", "trigger": "automatic", "checkpoint": "scripted",
        "layout": "scripted", "device": "cpu", "engine": "",
    }  # fmt: skip
    parts = ("context_ms", "queue_ms", "encode_ms", "denoise_ms", "rank_ms", "validate_ms")
    assert sum(row[name] for name in parts) == pytest.approx(row["latency_ms"])
    [offer] = rows(tmp_path, "SELECT * FROM completion")
    assert (row["id"], row["setup"]) == (offer["id"], offer["setup"])


async def test_without_a_word_from_the_client_an_acceptance_is_inferred(tmp_path: Path) -> None:
    async with session(tmp_path) as client:
        client.open("x = \ny = \n")
        await client.complete(0, 4)
        insert(client, 2, 0, 4, TEXT)
        await client.complete(1, 4)
        insert(client, 3, 1, 4, "z")
    first, second = rows(tmp_path, "SELECT * FROM completion ORDER BY ts")
    assert (first["accepted_by"], first["ended"], bool(first["accepted_ts"])) == (INFERRED, "accepted", True)
    assert (second["accepted_by"], second["ended"], second["accepted_ts"]) == (0, "rejected", None)


async def test_what_the_client_tells_and_what_the_edits_tell_stand_side_by_side(tmp_path: Path) -> None:
    async with session(tmp_path) as client:
        client.open("x = ")
        [item] = await client.complete(0, 4)
        insert(client, 2, 0, 4, TEXT)
        assert item.command is not None
        assert await client.execute("midspan.didAccept", *item.command.arguments or []) is None
    [row] = rows(tmp_path, "SELECT * FROM completion")
    assert row["accepted_by"] == TOLD | INFERRED


async def test_typing_along_to_the_end_is_no_acceptance(tmp_path: Path) -> None:
    async with session(tmp_path) as client:
        client.open("x = ")
        await client.complete(0, 4)
        for number, key in enumerate(TEXT):
            insert(client, 2 + number, 0, 4 + number, key)
    [row] = rows(tmp_path, "SELECT * FROM completion")
    assert (row["ended"], row["accepted_ts"], row["partial_chars"]) == ("typed", None, 0)


async def test_no_text_of_a_file_reaches_the_store(tmp_path: Path) -> None:
    async with session(tmp_path) as client:
        client.open("x = \nsecret_word = 1\n")
        await client.complete(0, 4)
        insert(client, 2, 0, 4, TEXT)
        insert(client, 3, 0, 4, "other_word")
    stored = contents(tmp_path)
    assert not any(word in stored for word in (b"secret_word", b"other_word", TEXT.encode()))


async def test_rows_are_kept_for_as_many_days_as_the_setting_says_from_then_on(tmp_path: Path) -> None:
    make_store(tmp_path, 2)
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as store, store:
        store.execute("UPDATE completion SET ts = ts - ? WHERE id = 'a'", (40 * DAY_MS,))
        store.execute("UPDATE completion SET ts = ts - ? WHERE id = 'b'", (10 * DAY_MS,))
    async with session(tmp_path, telemetry_days=30) as client:
        client.open("x = ")
        [item] = await client.complete(0, 4)
        assert item.command is not None
        await client.execute("midspan.didAccept", *item.command.arguments or [])
        assert {row["id"] for row in rows(tmp_path, "SELECT id FROM completion")} >= {"b", "c"}
        settings = types.DidChangeConfigurationParams({"midspan": {"telemetry_days": 7}})
        client.workspace_did_change_configuration(settings)
        await client.execute("midspan.didAccept", *item.command.arguments or [])
    ids = {row["id"] for row in rows(tmp_path, "SELECT id FROM completion")}
    assert ("a" in ids, "b" in ids, "c" in ids) == (False, False, True)
