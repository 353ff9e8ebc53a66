"""A server with an engine elsewhere: who answers, what the settings allow, and what an editor and the log hear."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from lsprotocol import types

from midspan.server.telemetry.schema import FILE_NAME
from tests.engine.remote.http_server import Asked, HttpServer, Reply, json_reply
from tests.engine.remote.test_llama_server import end, piece
from tests.server.lsp_client import URI, Client, session
from tests.server.raw_client import call, complete, connected
from tests.server.scripted import TEXT

KEY = "a-planted-key"
# One that the scripted engine does not write.
THERE = "there + there"
LINES = 60


@pytest.fixture
def llama_server() -> Iterator[HttpServer]:
    """A server that fills every gap by THERE."""

    def answer(asked: Asked) -> Reply:
        if asked.path == "/v1/models":
            return json_reply({"data": [{"id": "qwen.gguf"}]})
        if asked.body is None or "input_prefix" not in asked.body:
            return json_reply({"error": {"code": 400, "message": "input_prefix is required"}}, 400)
        return Reply(headers={"content-type": "text/event-stream"}, chunks=[piece(THERE, -0.01), end()])

    with HttpServer(answer) as server:
        yield server


def backends(server: HttpServer) -> list[dict[str, Any]]:
    return [{"name": "there", "kind": "llama-server", "address": server.url, "key_variable": "THERE_KEY"}]


def log_of(file: Path) -> str:
    return file.read_text(encoding="utf-8")


def written_below(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.rglob("*") if file.is_file())


async def answered(client: Client, wanted: str) -> str:
    """Ask at the end of one line after the other until that is answered; why, in the server's words."""
    client.open("total = \n" * LINES)
    for line in range(LINES):
        items = await client.complete(line, len("total = "))
        if [item.insert_text for item in items] == [wanted]:
            *_, said = await client.execute("midspan.why", URI)
            return str(said)
    raise AssertionError(f"never answered by {wanted}")


async def test_an_engine_elsewhere_answers_and_the_reasons_are_told(
    llama_server: HttpServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THERE_KEY", KEY)
    log = tmp_path / "log"
    async with session(tmp_path, arguments=("--log-file", str(log)), backends=backends(llama_server)) as client:
        said = await answered(client, THERE)
        assert "there (autoregressive) is first for line_end by trained, prefer, cost, p90" in said
        assert said.endswith("answered by there")
        while not (now := (await client.take("midspan/status"))["message"]).endswith("p90, and in time)"):
            pass
        assert "answered last: there (there (autoregressive) is first for line_end by" in now
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as store:
        rows = store.execute("SELECT engine, route, checkpoint FROM completion ORDER BY rowid").fetchall()
    assert rows[-1][0] == "there"
    assert "is first for line_end" in rows[-1][1]
    assert rows[-1][2] != "scripted"
    assert KEY.encode() not in written_below(tmp_path)
    assert "; first there: answered after " in log_of(log)
    assert any(asked.headers.get("authorization") == f"Bearer {KEY}" for asked in llama_server.asked)


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ({"privacy": "in_process"}, "there left out by privacy: loopback, and nothing beyond in_process may see"),
        ({"engine": "diffusion"}, "there left out by engine: diffusion is chosen"),
    ],
)
async def test_a_workspace_may_choose_among_engines(
    llama_server: HttpServer, tmp_path: Path, setting: dict[str, Any], reason: str
) -> None:
    async with session(tmp_path, backends=backends(llama_server)[:1], **setting) as client:
        assert reason in await answered(client, TEXT)
        assert not any(asked.body and "input_prefix" in asked.body for asked in llama_server.asked)


async def test_a_workspace_adds_no_engine(llama_server: HttpServer, tmp_path: Path) -> None:
    async with session(tmp_path, status=True) as client:
        section = {"midspan": {"backends": backends(llama_server), "engine": "there", "status": True}}
        client.workspace_did_change_configuration(types.DidChangeConfigurationParams(settings=section))
        client.open("total = \n")
        assert await client.complete(0, 8) == []
        [said] = await client.execute("midspan.why", URI)
        assert "no engine is named there; midspan backends lists those that are" in said
        while "`backends` may stand in your own config.toml" not in (await client.take("midspan/status"))["message"]:
            pass
        client.messages.clear()
    assert llama_server.asked == []


async def test_an_engine_that_does_not_answer_is_named_with_the_fix(tmp_path: Path) -> None:
    with HttpServer(lambda _: pytest.fail("nobody asks")) as gone:
        elsewhere = backends(gone)
    del elsewhere[0]["key_variable"]
    async with session(tmp_path, backends=elsewhere) as client:
        client.open("total = \n")
        left_out, _ = await client.execute("midspan.why", URI)
        assert left_out.startswith("the engine there is left out: ")
        assert [item.insert_text for item in await client.complete(0, 8)] == [TEXT]


async def test_an_engine_that_is_configured_wrongly_is_told(tmp_path: Path) -> None:
    async with session(tmp_path, backends=[{"name": "there", "kind": "llama-server", "adress": "x"}]) as client:
        client.open("total = \n")
        assert [item.insert_text for item in await client.complete(0, 8)] == [TEXT]
        [message] = [one.message for one in client.messages]
        assert message.startswith("midspan: initializationOptions: backends[0]: it has unknown field `adress`")
        client.messages.clear()


async def test_a_reading_that_the_checkpoint_has_not_is_told_and_the_others_answer(tmp_path: Path) -> None:
    async with session(tmp_path, policy={"both_readings": True}) as client:
        client.open("total = \n")
        assert [item.insert_text for item in await client.complete(0, 8)] == [TEXT]
        [message] = [one.message for one in client.messages]
        assert message == "midspan: scripted: has no reading but its own; name no other"
        client.messages.clear()


def test_where_the_local_checkpoint_does_not_load_engines_elsewhere_answer(
    llama_server: HttpServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THERE_KEY", KEY)
    problem = "the local checkpoint did not load: no weights; copy them; "
    with connected(tmp_path, "--refuse", "no weights; copy them") as client:
        client.initialize({"status": True, "backends": backends(llama_server)})
        client.send(call(None, "initialized", {}))
        assert client.state("error") == problem + "no engine elsewhere answers yet"
        assert client.notification("window/showMessage")["message"] == f"midspan: {problem}engines elsewhere are asked"
        assert client.state("degraded") == problem + "engines elsewhere answer"
        # It does not parse, so nobody minds what nothing defines.
        client.open("total = \ntotal = \n")
        assert client.ask(complete(1, 0, 8)) == [THERE]
        # The checkpoint is not tried again.
        client.send(call(None, "workspace/didChangeConfiguration", {"settings": {"midspan": {"quiet": True}}}))
        assert client.ask(complete(2, 1, 8)) == []
        assert client.leave() == 0


def test_where_nobody_answers_elsewhere_either_that_is_said(tmp_path: Path) -> None:
    with HttpServer(lambda _: pytest.fail("nobody asks")) as gone:
        elsewhere = backends(gone)
    with connected(tmp_path, "--refuse", "no weights; copy them") as client:
        client.initialize({"status": True, "backends": elsewhere})
        client.send(call(None, "initialized", {}))
        assert client.state("error").endswith("copy them; no engine elsewhere answers yet")
        assert "engines elsewhere are asked" in client.notification("window/showMessage")["message"]
        client.open("total = \n")
        assert client.ask(complete(1, 0, 8)) is None
        assert client.leave() == 0
