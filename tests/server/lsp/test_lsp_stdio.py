"""Inline completion as an editor uses it: the real process over stdio, with the scripted engine."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from lsprotocol import types
from pygls.exceptions import JsonRpcException

from midspan.server.telemetry.schema import FILE_NAME
from tests.server.lsp_client import URI, Client, request_params, session
from tests.server.raw_client import WAIT_S
from tests.server.scripted import TEXT

UTF8, UTF16, UTF32 = types.PositionEncodingKind.Utf8, types.PositionEncodingKind.Utf16, types.PositionEncodingKind.Utf32


def span(line: int, start: int, end: int) -> types.Range:
    return types.Range(types.Position(line, start), types.Position(line, end))


def texts(items: list[types.InlineCompletionItem]) -> list[str]:
    assert all(isinstance(item.insert_text, str) for item in items)
    return [str(item.insert_text) for item in items]


def id_of(item: types.InlineCompletionItem) -> Any:
    assert item.command is not None
    assert item.command.command == "midspan.didAccept"
    [id] = item.command.arguments or []
    return id


async def echoed(client: Client, line: int, character: int, **context: Any) -> list[str]:
    """The prefix, suffix and kind of the hole that the engine was given."""
    [item] = await client.complete(line, character, **context)
    found: list[str] = json.loads(str(item.insert_text).removeprefix(_selected(context)))
    return found


def _selected(context: dict[str, Any]) -> str:
    return context["selected"].text if "selected" in context else ""


def rows(state_dir: Path) -> list[dict[str, Any]]:
    with closing(sqlite3.connect(state_dir / FILE_NAME)) as store:
        store.row_factory = sqlite3.Row
        return [dict(row) for row in store.execute("SELECT * FROM completion ORDER BY ts, id")]


async def test_an_item_is_plain_text_at_the_cursor_with_a_command(tmp_path: Path) -> None:
    async with session(tmp_path) as client:
        client.open("def add(left, right):\n    return \n")
        [item] = await client.complete(1, 11)
    assert item.insert_text == TEXT
    assert item.range == span(1, 11, 11)
    assert isinstance(id_of(item), str)


async def test_an_explicit_request_gets_several_candidates_even_below_the_threshold(tmp_path: Path) -> None:
    async with session(tmp_path) as client:
        client.open("several = ")
        assert texts(await client.complete(0, 10)) == [TEXT]
        items = await client.complete(0, 10, invoked=True)
        assert texts(items) == [TEXT, "slice", "tuple"]
        assert len({id_of(item) for item in items}) == 3
        client.open("low = ", uri="file:///low.py")
        assert await client.complete(0, 6, uri="file:///low.py") == []
        assert texts(await client.complete(0, 6, uri="file:///low.py", invoked=True)) == [TEXT]


async def test_a_single_character_is_shown_only_on_an_explicit_request(tmp_path: Path) -> None:
    async with session(tmp_path) as client:
        client.open("single = ")
        assert await client.complete(0, 9) == []
        assert texts(await client.complete(0, 9, invoked=True)) == [TEXT[0]]
        # The rest of a longer suggestion stays on screen to its last character.
        left = "file:///left.py"
        client.open("x = ", uri=left)
        assert texts(await client.complete(0, 4, uri=left)) == [TEXT]
        changes = [types.TextDocumentContentChangePartial(range=span(0, 4, 4), text=TEXT[:-1])]
        document = types.VersionedTextDocumentIdentifier(2, left)
        client.text_document_did_change(types.DidChangeTextDocumentParams(document, changes))
        assert texts(await client.complete(0, 3 + len(TEXT), uri=left)) == [TEXT[-1]]


async def test_the_users_threshold_replaces_the_checkpoints(tmp_path: Path) -> None:
    async with session(tmp_path, show_threshold=0.0) as client:
        client.open("low = ")
        assert texts(await client.complete(0, 6)) == [TEXT]


async def test_empty_fills_other_languages_and_unknown_documents_give_null(tmp_path: Path) -> None:
    async with session(tmp_path) as client:
        client.open("empty = ")
        client.open("x = ", uri="file:///a.rs", language="rust")
        assert await client.complete(0, 8) == []
        assert await client.complete(0, 4, uri="file:///a.rs") == []
        assert await client.complete(0, 4, uri="file:///never-opened.py") == []


@pytest.mark.parametrize(("encoding", "units"), [(UTF8, 11), (UTF16, 8), (UTF32, 7), (None, 8)])
async def test_positions_count_in_the_clients_encoding(
    tmp_path: Path, encoding: types.PositionEncodingKind | None, units: int
) -> None:
    async with session(tmp_path, *([encoding] if encoding else [])) as client:
        client.open('é = "\N{ROCKET}"\n\N{ROCKET}é echo = 0')
        assert await echoed(client, 1, units) == ['é = "\N{ROCKET}"\n\N{ROCKET}é echo', " = 0", "rest_of_line"]
        [item] = await client.complete(1, 500)
        assert item.range == span(1, units + 4, units + 4)


async def test_the_engine_is_given_the_edited_text(tmp_path: Path) -> None:
    async with session(tmp_path, UTF16) as client:
        client.open("one\n\N{ROCKET} = [0]\nthree")
        changes = [
            types.TextDocumentContentChangePartial(range=span(1, 5, 8), text="echo "),
            types.TextDocumentContentChangePartial(range=span(2, 0, 5), text="3"),
        ]
        document = types.VersionedTextDocumentIdentifier(2, URI)
        client.text_document_did_change(types.DidChangeTextDocumentParams(document, changes))
        assert (await echoed(client, 1, 10))[:2] == ["one\n\N{ROCKET} = echo ", "\n3"]


async def test_inserted_line_ends_are_those_of_the_document(tmp_path: Path) -> None:
    async with session(tmp_path) as client:
        client.open("whole\r\nnext\r\n")
        [item] = await client.complete(1, 0)
        assert item.insert_text == f"{TEXT}\r\n"


async def test_a_menu_entry_is_extended_in_its_own_range(tmp_path: Path) -> None:
    entry = types.SelectedCompletionInfo(span(1, 7, 9), "echo_all")
    async with session(tmp_path) as client:
        client.open("echo_all = 1\nreturn ec + 1")
        [item] = await client.complete(1, 9, selected=entry)
        assert str(item.insert_text).startswith("echo_all")
        assert item.range == entry.range
        assert (await echoed(client, 1, 9, selected=entry))[:2] == ["echo_all = 1\nreturn echo_all", " + 1"]
        over_lines = types.SelectedCompletionInfo(types.Range(types.Position(0, 0), types.Position(1, 9)), "echo")
        assert await client.complete(1, 9, selected=over_lines) == []


@pytest.mark.parametrize("text", ["echo(\r\n    ", "echo(\n    "])
async def test_a_menu_entry_of_several_lines_is_kept_and_its_reversed_range_is_corrected(
    tmp_path: Path, text: str
) -> None:
    backwards = types.SelectedCompletionInfo(span(1, 9, 7), text)
    async with session(tmp_path) as client:
        client.open("echo = 1\r\nreturn ec) + 1\r\n")
        [item] = await client.complete(1, 9, selected=backwards)
    seen = ["echo = 1\nreturn echo(\n    ", ") + 1\n", "rest_of_line"]
    assert item.insert_text == text + json.dumps(seen)
    assert item.range == span(1, 7, 9)


async def test_a_cancelled_request_gets_an_error_and_the_engine_is_stopped(tmp_path: Path) -> None:
    async with session(tmp_path, preview=True) as client:
        client.open("forever\nhistory = ")
        request = client.protocol.send_request(
            types.TEXT_DOCUMENT_INLINE_COMPLETION, request_params(0, 7), msg_id="the request"
        )
        await client.take("midspan/frame")
        client.cancel_request(types.CancelParams(id="the request"))
        with pytest.raises(JsonRpcException) as raised:
            await asyncio.wait_for(asyncio.wrap_future(request), WAIT_S)
        assert raised.value.code == -32800
        [item] = await client.complete(1, 10, invoked=True)
        [asked] = json.loads(str(item.insert_text))["asked"]
        assert asked["stopped"]
        while not client.inbox["midspan/frame"].empty():
            client.inbox["midspan/frame"].get_nowait()


async def test_frames_are_sent_to_a_client_with_preview_and_the_last_is_settled(
    tmp_path: Path,
) -> None:
    async with session(tmp_path, preview=True) as client:
        client.open("x = y\nframes = ")
        [item] = await client.complete(1, 9)
        frames = client.inbox["midspan/frame"]
        got = [frames.get_nowait() for _ in range(frames.qsize())]
        assert await client.complete(0, 5)
    assert got[-1] == {
        "id": id_of(item),
        "uri": URI,
        "version": 1,
        "position": {"line": 1, "character": 9},
        "text": TEXT,
        "settled": True,
    }
    assert not any(frame["settled"] for frame in got[:-1])


async def test_a_client_without_preview_gets_no_frames(tmp_path: Path) -> None:
    async with session(tmp_path) as client:
        client.open("frames = ")
        assert texts(await client.complete(0, 9)) == [TEXT]


async def test_shown_and_accepted_suggestions_are_stored(tmp_path: Path) -> None:
    async with session(tmp_path) as client:
        client.open("several = 1\nx = ")
        [taken] = await client.complete(1, 4)
        shown, _, _ = await client.complete(0, 8, invoked=True)
        converter = client.protocol._converter
        for item in (taken, shown):
            client.protocol.notify("textDocument/didShowCompletion", {"item": converter.unstructure(item)})
        client.protocol.notify(
            "textDocument/didPartiallyAcceptCompletion", {"item": converter.unstructure(shown), "acceptedLength": 4}
        )
        assert await client.execute("midspan.didAccept", id_of(taken)) is None
    first, second, third, fourth = rows(tmp_path)
    assert first["id"] == id_of(taken)
    assert first["accepted_ts"] >= first["ts"]
    assert (first["trigger"], first["chars"], first["lines"], first["shown"]) == ("automatic", len(TEXT), 1, 1)
    assert (first["checkpoint"], first["language"], first["kind"]) == ("scripted", "python", "rest_of_line")
    assert first["latency_ms"] > 0
    assert first["engine_ms"] == 1
    assert (second["id"], second["trigger"], second["partial_chars"]) == (id_of(shown), "invoked", 4)
    assert [row["accepted_ts"] for row in (second, third, fourth)] == [None] * 3
    assert [row["shown"] for row in (second, third, fourth)] == [1, 0, 0]


async def test_an_unknown_id_or_command_gets_an_error_and_items_of_other_servers_are_ignored(tmp_path: Path) -> None:
    async with session(tmp_path) as client:
        for arguments in (["never-offered"], ["0" * 31], ["0" * 33], [f"{'0' * 32}-x"], [], [7], ["one", "two"]):
            with pytest.raises(JsonRpcException) as raised:
                await client.execute("midspan.didAccept", *arguments)
            assert raised.value.code == -32602
            assert raised.value.message
        with pytest.raises(JsonRpcException, match=r"no\.such"):
            await client.execute("no.such")
        for item in ({}, {"command": {"command": "other.accept", "arguments": ["id"]}}, {"command": None}):
            client.protocol.notify("textDocument/didShowCompletion", {"item": item})
            client.protocol.notify("textDocument/didPartiallyAcceptCompletion", {"item": item, "acceptedLength": 1})


async def test_a_suggestion_of_an_earlier_server_can_still_be_accepted(tmp_path: Path) -> None:
    async with session(tmp_path / "earlier") as client:
        client.open("several = ")
        items = await client.complete(0, 10, invoked=True)
    async with session(tmp_path / "later") as client:
        for item in items:
            assert await client.execute("midspan.didAccept", id_of(item)) is None


async def test_without_telemetry_no_store_is_written(tmp_path: Path) -> None:
    async with session(tmp_path, telemetry=False) as client:
        client.open("x = ")
        [item] = await client.complete(0, 4)
        assert await client.execute("midspan.didAccept", id_of(item)) is None
    assert not (tmp_path / FILE_NAME).exists()


async def test_an_unwritable_state_folder_is_reported_once_and_completion_goes_on(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file, not a folder")
    async with session(tmp_path / "taken") as client:
        client.open("x = ")
        for _ in range(3):
            assert texts(await client.complete(0, 4)) == [TEXT]
        [message] = client.messages
        assert "--state-dir" in message.message
        client.messages.clear()


async def test_a_full_disk_is_reported_once_and_completion_goes_on(tmp_path: Path) -> None:
    async with session(tmp_path) as client:
        client.open("x = ")
        assert texts(await client.complete(0, 4)) == [TEXT]
    async with session(tmp_path, arguments=("--file-limit", "40000")) as client:
        client.open("x = \n" * 20)
        told = asyncio.ensure_future(client.wait_for_notification(types.WINDOW_SHOW_MESSAGE))
        for line in range(20):
            assert texts(await client.complete(line, 4)) == [TEXT]
        await asyncio.wait_for(told, WAIT_S)
        [message] = client.messages
        assert "no telemetry" in message.message
        client.messages.clear()
