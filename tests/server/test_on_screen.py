"""Suggestions during typing, through the real server: which requests memory answers and which reach the engine."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
from lsprotocol import types

from midspan.server.telemetry.schema import FILE_NAME
from tests.server.lsp_client import URI, Client, request_params, session
from tests.server.raw_client import WAIT_S
from tests.server.scripted import TEXT

HISTORY = "file:///history.py"


async def asked(client: Client) -> list[dict[str, Any]]:
    """The fills that were requested of the scripted engine so far."""
    client.open("history = ", uri=HISTORY)
    [item] = await client.complete(0, 10, uri=HISTORY, invoked=True)
    found: list[dict[str, Any]] = json.loads(str(item.insert_text))["asked"]
    return found


def edit(client: Client, version: int, line: int, start: int, end: int, text: str) -> None:
    """Replace a part of a line."""
    span = types.Range(types.Position(line, start), types.Position(line, end))
    document = types.VersionedTextDocumentIdentifier(version, URI)
    changes = [types.TextDocumentContentChangePartial(range=span, text=text)]
    client.text_document_did_change(types.DidChangeTextDocumentParams(document, changes))


class Holes:
    """A FIFO through which the test reads the holes that the engine is given, as they come."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        # Opened for writing too, so that reading never meets its end.
        self._file = os.fdopen(os.open(path, os.O_RDWR), "rb", buffering=0)

    async def prefix(self) -> str:
        """The prefix of the next hole."""
        line = await asyncio.wait_for(asyncio.to_thread(self._file.readline), WAIT_S)
        return str(json.loads(line)[0])

    def close(self) -> None:
        self._file.close()


@asynccontextmanager
async def session_with_holes(tmp_path: Path, editor: str = "an editor") -> AsyncIterator[tuple[Client, Holes]]:
    """A session, and the holes that its engine is given."""
    path = tmp_path / "prompts"
    with closing(Holes(path)) as engine_holes:
        async with session(tmp_path, editor=editor, arguments=("--prompts", str(path))) as client:
            yield client, engine_holes


def texts(items: list[types.InlineCompletionItem]) -> list[str]:
    return [str(item.insert_text) for item in items]


def ids(items: list[types.InlineCompletionItem]) -> list[str]:
    return [str((item.command.arguments or [""])[0]) for item in items if item.command is not None]


def rows(state_dir: Path) -> list[dict[str, Any]]:
    with closing(sqlite3.connect(state_dir / FILE_NAME)) as store:
        store.row_factory = sqlite3.Row
        return [dict(row) for row in store.execute("SELECT * FROM completion WHERE chars < 50 ORDER BY ts, id")]


async def test_typing_along_and_back_needs_one_fill_and_stays_one_completion(tmp_path: Path) -> None:
    async with session(tmp_path) as client:
        client.open("x = ")
        first = await client.complete(0, 4)
        assert texts(first) == [TEXT]
        for typed in range(1, len(TEXT)):
            edit(client, 1 + typed, 0, 3 + typed, 3 + typed, TEXT[typed - 1])
            [item] = await client.complete(0, 4 + typed)
            assert item.insert_text == TEXT[typed:]
            assert item.range == types.Range(types.Position(0, 4 + typed), types.Position(0, 4 + typed))
            assert ids([item]) == ids(first)
        edit(client, 50, 0, 4, 3 + len(TEXT), "")
        assert texts(await client.complete(0, 4)) == [TEXT]
        assert len(await asked(client)) == 1
    [row] = rows(tmp_path)
    assert row["id"] == ids(first)[0]


def replace_all(client: Client, version: int, text: str) -> None:
    """Send the whole text, as clients without ranges do."""
    document = types.VersionedTextDocumentIdentifier(version, URI)
    changes = [types.TextDocumentContentChangeWholeDocument(text=text)]
    client.text_document_did_change(types.DidChangeTextDocumentParams(document, changes))


async def test_typing_along_is_recognised_in_whole_texts_too(tmp_path: Path) -> None:
    async with session(tmp_path) as client:
        client.open("a = 1\nx = \nb = 2\n")
        first = await client.complete(1, 4)
        assert texts(first) == [TEXT]
        for typed in range(1, 4):
            replace_all(client, 1 + typed, f"a = 1\nx = {TEXT[:typed]}\nb = 2\n")
            assert texts(await client.complete(1, 4 + typed)) == [TEXT[typed:]]
        replace_all(client, 9, "a = 1\nx = \nb = 3\n")
        assert len(await asked(client)) == 1
        await client.complete(1, 4)
        assert len(await asked(client)) == 2


async def test_another_key_needs_a_new_fill_and_its_deletion_does_not(tmp_path: Path) -> None:
    async with session(tmp_path) as client:
        client.open("x = ")
        await client.complete(0, 4)
        edit(client, 2, 0, 4, 4, " ")
        assert texts(await client.complete(0, 5)) == [TEXT]
        edit(client, 3, 0, 4, 5, "")
        assert texts(await client.complete(0, 4)) == [TEXT]
        assert len(await asked(client)) == 2


async def test_a_line_with_suggestions_typed_past_shows_fewer(tmp_path: Path) -> None:
    async with session(tmp_path) as client:
        client.open("x = \ny = ")
        shown = []
        for typed in range(6):
            shown.append(texts(await client.complete(0, 4 + typed)))
            edit(client, 2 + typed, 0, 4 + typed, 4 + typed, "z")
        # Each fill has confidence 0.9, which is below the threshold after five wrong suggestions.
        assert shown == [[TEXT]] * 5 + [[]]
        assert texts(await client.complete(1, 4)) == [TEXT]
        assert texts(await client.complete(0, 10, invoked=True)) == [TEXT]


@pytest.mark.parametrize("invoked", [False, True])
async def test_a_fill_that_would_break_a_text_that_parses_is_not_shown(tmp_path: Path, invoked: bool) -> None:
    async with session(tmp_path) as client:
        client.open("x = f(a)\ny = f(a, )\n")
        assert texts(await client.complete(0, 8, invoked=invoked)) == []
        assert texts(await client.complete(1, 9, invoked=invoked)) == [TEXT]


async def test_in_a_text_that_does_not_parse_a_fill_may_leave_an_error(tmp_path: Path) -> None:
    async with session(tmp_path) as client:
        client.open("x = f(a, ")
        assert texts(await client.complete(0, 9, invoked=True)) == [TEXT]


@pytest.mark.parametrize(("text", "character"), [("x = 1 + \\\n    2", 9), ("if x:\n    return x", 4)])
async def test_no_fill_is_requested_where_no_text_can_fit(tmp_path: Path, text: str, character: int) -> None:
    async with session(tmp_path) as client:
        client.open(text)
        assert texts(await client.complete(text.count("\n") if character == 4 else 0, character, invoked=True)) == []
        assert await asked(client) == []


async def test_explicit_requests_have_no_threshold_for_the_engine(tmp_path: Path) -> None:
    async with session(tmp_path) as client:
        client.open("x = \ny = ")
        await client.complete(0, 4)
        await client.complete(1, 4, invoked=True)
        # The first is the threshold of the scripted checkpoint.
        assert [one["least"] for one in await asked(client)] == [0.25, 0.0]
    async with session(tmp_path, show_threshold=0.75) as client:
        client.open("x = ")
        await client.complete(0, 4)
        assert [one["least"] for one in await asked(client)] == [0.75]


async def test_an_edit_elsewhere_needs_a_new_fill(tmp_path: Path) -> None:
    async with session(tmp_path) as client:
        client.open("x = \ny = 1")
        await client.complete(0, 4)
        edit(client, 2, 1, 5, 5, "2")
        assert texts(await client.complete(0, 4)) == [TEXT]
        assert len(await asked(client)) == 2


async def test_an_answer_from_memory_supersedes_the_documents_older_request(tmp_path: Path) -> None:
    async with session(tmp_path) as client:
        client.open("x = \nforever")
        await client.complete(0, 4)
        older = client.protocol.send_request(types.TEXT_DOCUMENT_INLINE_COMPLETION, request_params(1, 7))
        assert texts(await client.complete(0, 4)) == [TEXT]
        assert await asyncio.wait_for(asyncio.wrap_future(older), WAIT_S) is None


async def test_a_menu_entry_that_begins_the_suggestion_is_answered_from_memory_in_its_range(tmp_path: Path) -> None:
    async with session(tmp_path) as client:
        client.open("x = ")
        first = await client.complete(0, 4)
        edit(client, 2, 0, 4, 4, "li")
        entry = types.SelectedCompletionInfo(types.Range(types.Position(0, 4), types.Position(0, 6)), "list")
        items = await client.complete(0, 6, selected=entry)
        assert texts(items) == [TEXT]
        assert items[0].range == entry.range
        assert ids(items) == ids(first)
        assert len(await asked(client)) == 1


async def test_a_partial_acceptance_counts_from_the_beginning_of_the_suggestion(tmp_path: Path) -> None:
    async with session(tmp_path) as client:
        client.open("x = ")
        await client.complete(0, 4)
        edit(client, 2, 0, 4, 4, "list")
        [item] = await client.complete(0, 8)
        told = {"item": client.protocol._converter.unstructure(item), "acceptedLength": 2}
        client.protocol.notify("textDocument/didPartiallyAcceptCompletion", told)
        assert await client.execute("midspan.didAccept", *ids([item])) is None
    [row] = rows(tmp_path)
    assert row["partial_chars"] == len("list +")
    assert row["accepted_ts"]


async def test_explicit_requests_get_several_items_with_the_shown_one_first(tmp_path: Path) -> None:
    async with session(tmp_path) as client:
        client.open("x = 1  # several\nx = ")
        edit(client, 2, 1, 4, 4, "several, ")
        shown = await client.complete(1, 13)
        assert texts(shown) == [TEXT]
        several = await client.complete(1, 13, invoked=True)
        assert texts(several) == [TEXT, "slice", "tuple"]
        assert ids(several)[0] == ids(shown)[0]
        again = await client.complete(1, 13, invoked=True)
        assert (texts(again), ids(again)) == (texts(several), ids(several))
        assert texts(await client.complete(1, 13)) == [TEXT]
        edit(client, 3, 1, 13, 13, "s")
        assert texts(await client.complete(1, 14)) == ["lice"]
        assert len(await asked(client)) == 2
    assert len(rows(tmp_path)) == 3


@pytest.mark.parametrize(("editor", "line_end"), [("Neovim", "\n"), ("Visual Studio Code", "\r\n")])
async def test_items_for_a_crlf_document_have_the_line_ends_that_the_client_needs(
    tmp_path: Path, editor: str, line_end: str
) -> None:
    async with session_with_holes(tmp_path, editor) as (client, engine_holes):
        client.open("def lines():\r\n    \r\n")
        first = await client.complete(1, 4)
        assert await engine_holes.prefix() == "def lines():\n    "
        assert texts(first) == [f"{TEXT}{line_end}    {TEXT}"]
        # With either line end in the item the document gets CRLF.
        edit(client, 2, 1, 4, 4, f"{TEXT}\r\n")
        along = await client.complete(2, 0)
        assert (texts(along), ids(along)) == ([f"    {TEXT}"], ids(first))
        edit(client, 3, 2, 0, 0, f"    {TEXT}")
        # The suggestion counts as accepted: the engine looks ahead at the gap after it, and got nothing in between.
        assert await engine_holes.prefix() == f"def lines():\n    {TEXT}\n    {TEXT}"
        assert len(await asked(client)) == 2


async def test_after_an_acceptance_the_next_gap_is_filled_ahead(tmp_path: Path) -> None:
    async with session_with_holes(tmp_path) as (client, engine_holes):
        client.open("x = \nrangelist = 0")
        await client.complete(0, 4)
        edit(client, 2, 0, 4, 4, TEXT)
        assert [await engine_holes.prefix(), await engine_holes.prefix()] == ["x = ", f"x = {TEXT}"]
        [item] = await client.complete(0, 4 + len(TEXT))
        assert item.insert_text == TEXT
        assert len(await asked(client)) == 2
    *_, last = rows(tmp_path)
    assert last["id"] == ids([item])[0]
    assert last["engine_ms"] <= last["latency_ms"]


async def test_a_request_stops_the_look_ahead(tmp_path: Path) -> None:
    async with session_with_holes(tmp_path) as (client, engine_holes):
        client.open("x = y\nlater = \nylist = 0")
        await client.complete(1, 8)
        edit(client, 2, 1, 8, 8, TEXT)
        assert [await engine_holes.prefix(), await engine_holes.prefix()] == [
            "x = y\nlater = ",
            f"x = y\nlater = {TEXT}",
        ]
        # The scripted engine has one worker: if the look-ahead were not stopped, this request would never be answered.
        assert texts(await client.complete(0, 5)) == [TEXT]
        assert [one["stopped"] for one in await asked(client)] == [False, True, False]


async def test_a_key_stops_the_look_ahead(tmp_path: Path) -> None:
    async with session_with_holes(tmp_path) as (client, engine_holes):
        client.open("x = y\nlater = ")
        await client.complete(1, 8)
        edit(client, 2, 1, 8, 8, TEXT)
        assert [await engine_holes.prefix(), await engine_holes.prefix()] == [
            "x = y\nlater = ",
            f"x = y\nlater = {TEXT}",
        ]
        edit(client, 3, 1, 0, 8 + len(TEXT), "y = ")
        assert texts(await client.complete(1, 4)) == [TEXT]
        assert [one["stopped"] for one in await asked(client)] == [False, True, False]


async def test_a_look_ahead_does_not_stop_a_request_in_another_document(tmp_path: Path) -> None:
    async with session(tmp_path) as client:
        client.open("x = ")
        client.open("frames = ", uri="file:///b.py")
        await client.complete(0, 4)
        params = request_params(0, 9, uri="file:///b.py")
        other = client.protocol.send_request(types.TEXT_DOCUMENT_INLINE_COMPLETION, params)
        edit(client, 2, 0, 4, 4, TEXT)
        assert texts(await asyncio.wait_for(asyncio.wrap_future(other), WAIT_S)) == [TEXT]
        assert [one["stopped"] for one in await asked(client)] == [False, False]


@pytest.mark.parametrize("option", [{"quiet": True}, {"disable": ["a.py"]}, {"disable": ["project"]}])
async def test_with_quiet_or_disable_only_explicit_requests_are_answered(
    tmp_path: Path, option: dict[str, Any]
) -> None:
    async with session(tmp_path, **option) as client:
        client.open("x = ")
        answer = await client.text_document_inline_completion_async(request_params(0, 4))
        assert answer == []
        assert texts(await client.complete(0, 4, invoked=True)) == [TEXT]
        # No look-ahead and no automatic suggestion follow an acceptance.
        edit(client, 2, 0, 4, 4, TEXT)
        assert await client.complete(0, 4 + len(TEXT)) == []
        assert await client.complete(0, 4 + len(TEXT), invoked=True)
        # What the second one writes is no name here: its repair is asked for, too.
        assert [one["candidates"] for one in await asked(client) if not one["wrong"]] == [3, 3]


async def test_the_setting_disable_concerns_the_named_files_only(tmp_path: Path) -> None:
    async with session(tmp_path, disable=["vendor/*", "b.py"]) as client:
        client.open("x = ")
        assert texts(await client.complete(0, 4)) == [TEXT]
        assert len(await asked(client)) == 1
