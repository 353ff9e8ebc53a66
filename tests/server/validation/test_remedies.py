"""What is asked where validators object to a text: its repair, then another engine; each once, within the deadline."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lsprotocol import types

from midspan.engine.api import Budget
from midspan.server.cli import main
from midspan.server.router.asks import Wish
from midspan.server.router.members import Member
from midspan.server.router.policy import Policy
from midspan.server.router.records import Remedy
from midspan.server.router.router import Router
from midspan.server.telemetry.schema import FILE_NAME
from midspan.server.validation.remedies import ways_out
from midspan.server.validation.splice import Objection
from tests.engine.remote.http_server import Asked, HttpServer, Reply, json_reply
from tests.engine.remote.test_llama_server import end, piece
from tests.server.lsp_client import URI, Client, request_params, session
from tests.server.router.fakes import LINE_END, Clock, Fake, local, means, member
from tests.server.scripted import TEXT, UNDEFINED, ScriptedEngine

WRONG = Objection(kind="name", words="uses `missing`, which nothing here defines", spans=((0, 7),))
SAID = "what came first uses `missing`, which nothing here defines, so "
TRIES = 60


@pytest.fixture
def clock() -> Clock:
    return Clock()


def asked_about(router: Router, clock: Clock, objection: Objection = WRONG) -> list[tuple[Remedy, tuple[str, ...]]]:
    """What may be asked after one request, and who has had a turn."""
    router.wishing(Wish()).fill(LINE_END, Budget(deadline_s=1.0))
    clock.pass_by(1.0)
    assert router.last is not None
    found = list(ways_out(router, router.last, LINE_END, UNDEFINED, objection))
    for again in found:
        wrong = objection.spans if again.remedy == "repaired" else ()
        assert (again.hole.draft, again.hole.wrong) == (UNDEFINED if wrong else "", wrong)
        assert again.wish(Wish(tier="private")) == Wish(tier="private", tried=again.tried, once=True)
    return [(again.remedy, again.tried) for again in found]


def two(clock: Clock, *, there: Fake | None = None, policy: Policy | None = None) -> Router:
    members = [local(Fake(clock, takes_s=0.01)), member("there", there or Fake(clock, takes_s=0.01))]
    return Router(members, policy or Policy(), means=means(clock))


def test_a_repair_is_asked_for_before_another_engine(clock: Clock) -> None:
    assert asked_about(two(clock), clock) == [("repaired", ()), ("other engine", ("there",))]


def test_what_cannot_be_pointed_at_is_not_repaired(clock: Clock) -> None:
    assert asked_about(two(clock), clock, replace(WRONG, spans=())) == [("other engine", ("there",))]


def test_a_request_that_has_fallen_back_does_not_again(clock: Clock) -> None:
    broken = Fake(clock, takes_s=0.01, error=RuntimeError("broken"))
    assert asked_about(two(clock, there=broken), clock) == [("repaired", ())]
    assert asked_about(two(clock, policy=Policy(fall_back=("failed",))), clock) == [("repaired", ())]


@pytest.mark.parametrize(("skilled", "ways"), [(True, [("repaired", ())]), (False, [])])
def test_a_single_engine_repairs_if_it_can(clock: Clock, skilled: bool, ways: list[Any]) -> None:
    whole: Member = local(Fake(clock, takes_s=0.01))
    one = whole if skilled else replace(whole, skills=frozenset())
    assert asked_about(Router([one], means=means(clock)), clock) == ways


async def asked(client: Client) -> list[dict[str, Any]]:
    """What the scripted engine was asked so far."""
    client.open("true = false = null = 0\nhistory = ", uri="file:///history.py")
    [item] = await client.complete(1, 10, uri="file:///history.py")
    found: list[dict[str, Any]] = json.loads(str(item.insert_text))["asked"]
    return found


def vetoes(state_dir: Path) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(state_dir / FILE_NAME)) as store:
        return store.execute("SELECT reason, remedy FROM veto ORDER BY rowid").fetchall()


@pytest.mark.parametrize("invoked", [True, False])
async def test_a_wrong_name_is_repaired_and_that_is_told(tmp_path: Path, invoked: bool) -> None:
    async with session(tmp_path) as client:
        client.open("repaired = \n")
        [item] = await client.complete(0, 11, invoked=invoked)
        assert item.insert_text == "list + 1"
        [said] = await client.execute("midspan.why", URI)
        assert said.endswith("90% sure; " + SAID + "that part was written anew")
        first, again = await asked(client)
    assert first["wrong"] == []
    assert (again["draft"], again["wrong"]) == (UNDEFINED, [[0, 7]])
    assert again["least"] == first["least"]
    assert 0 < again["deadline_s"] < first["deadline_s"]
    assert vetoes(tmp_path) == [("name", "repaired")]


async def test_a_repair_behind_a_menus_entry_begins_behind_it(tmp_path: Path) -> None:
    async with session(tmp_path) as client:
        client.open("repaired = \n")
        range = types.Range(types.Position(0, 11), types.Position(0, 11))
        selected = types.SelectedCompletionInfo(range=range, text="1 + ")
        [item] = await client.complete(0, 11, selected=selected)
        assert item.insert_text == "1 + list + 1"
        _, again = await asked(client)
    assert (again["draft"], again["wrong"]) == (UNDEFINED, [[0, 7]])


async def test_no_repair_begins_when_the_time_is_over(tmp_path: Path) -> None:
    async with session(tmp_path, deadline_ms=1) as client:
        client.open("repaired = \n")
        assert await client.complete(0, 11) == []
        assert len(await asked(client)) == 1
    assert vetoes(tmp_path) == [("name", "nothing")]


async def test_a_key_ends_a_repair(tmp_path: Path) -> None:
    async with session(tmp_path, deadline_ms=60_000) as client:
        client.open("endless = \n")
        answer = asyncio.ensure_future(client.text_document_inline_completion_async(request_params(0, 10)))
        while (await client.take("midspan/status"))["state"] != "working":
            pass
        at = types.Range(types.Position(0, 10), types.Position(0, 10))
        change = types.TextDocumentContentChangePartial(text="1", range=at)
        document = types.VersionedTextDocumentIdentifier(version=2, uri=URI)
        client.text_document_did_change(types.DidChangeTextDocumentParams(document, [change]))
        assert await asyncio.wait_for(answer, 60) is None
        assert (await asked(client))[1]["stopped"]
    assert vetoes(tmp_path) == []
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as store:
        assert store.execute("SELECT fate FROM request ORDER BY rowid LIMIT 1").fetchone() == ("superseded",)


@pytest.fixture
def llama_server() -> Iterator[HttpServer]:
    """A server that fills every gap by a name that nothing defines."""

    def answer(asked: Asked) -> Reply:
        if asked.path == "/v1/models":
            return json_reply({"data": [{"id": "qwen.gguf"}]})
        if asked.body is None or "input_prefix" not in asked.body:
            return json_reply({"error": {"code": 400, "message": "input_prefix is required"}}, 400)
        return Reply(headers={"content-type": "text/event-stream"}, chunks=[piece(UNDEFINED, -0.01), end()])

    with HttpServer(answer) as server:
        yield server


async def test_another_engine_is_asked_where_the_repair_is_no_better(llama_server: HttpServer, tmp_path: Path) -> None:
    there = [{"name": "there", "kind": "llama-server", "address": llama_server.url}]
    async with session(tmp_path, backends=there) as client:
        for number in range(TRIES):
            # Until it is connected, the engine here answers at once.
            client.open("stubborn = \n", uri=(uri := f"file:///project/{number}.py"))
            [item] = await client.complete(0, len("stubborn = "), uri=uri)
            assert item.insert_text == TEXT
            *_, said = await client.execute("midspan.why", uri)
            if SAID in said:
                break
    assert SAID + "another engine was asked; " in said
    assert "answered by there; held back by name: other engine; " in said
    assert "there left out by tried: its text was held back" in said
    assert said.endswith("answered by diffusion")
    assert vetoes(tmp_path) == [("name", "other engine")] * 2
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as store:
        assert store.execute("SELECT engine FROM completion ORDER BY rowid DESC LIMIT 1").fetchone() == ("diffusion",)


def test_a_fill_of_the_command_line_is_repaired_and_explained(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("midspan.engine.load", lambda checkpoint, device, judge: ScriptedEngine())
    file = tmp_path / "a.py"
    file.write_text("repaired = \n")
    assert main(["fill", str(file), "--at", "1:12", "--explain"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1] == "list + 1"
    assert printed[-2].startswith("decision: ")
    assert printed[-2].endswith("; held back by name: repaired")
    # What is wrong is shown to one who asks, where nothing else is to be had.
    file.write_text("undefined = \n")
    assert main(["fill", str(file), "--at", "1:13", "--explain", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["text"] == UNDEFINED
    assert (found["decision"]["held_back"], found["decision"]["remedy"]) == (["name", "name"], "nothing")


async def test_a_repair_that_is_not_sure_is_for_nobody(tmp_path: Path) -> None:
    async with session(tmp_path) as client:
        client.open("repaired_low = \n")
        [item] = await client.complete(0, 15, invoked=True)
        assert item.insert_text == UNDEFINED
    assert vetoes(tmp_path) == [("name", "nothing")]


async def test_no_repair_begins_while_somebody_waits_elsewhere(tmp_path: Path) -> None:
    async with session(tmp_path, deadline_ms=60_000) as client:
        client.open("repaired_delayed = \n")
        client.open("delayed = \n", uri=(other := "file:///project/b.py"))
        first = asyncio.ensure_future(client.text_document_inline_completion_async(request_params(0, 19)))
        second = asyncio.ensure_future(client.text_document_inline_completion_async(request_params(0, 10, other)))
        assert await asyncio.wait_for(first, 60) == []
        answer = await asyncio.wait_for(second, 60)
        assert isinstance(answer, list)
        assert [item.insert_text for item in answer] == [TEXT]
    assert vetoes(tmp_path) == [("name", "nothing")]
