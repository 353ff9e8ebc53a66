"""JSON-RPC at the level of bytes: each malformed message gets exactly one error, and the server goes on."""

from __future__ import annotations

import json
import linecache
from pathlib import Path
from typing import Any

from lsprotocol import types

from midspan.server.app import initialized
from midspan.server.settings import Settings
from tests.server.inside import Inside
from tests.server.raw_client import URI, call, complete, connected, framed, items
from tests.server.scripted import TEXT

SECRET = "hunter2_correct_horse"
MALFORMED: list[Any] = [
    {"textDocument": {"uri": URI}, "context": {"triggerKind": 2}},
    {"textDocument": {"uri": URI}, "position": {"line": 0, "character": 0}, "context": {"triggerKind": 7}},
    {"textDocument": {"uri": URI}, "position": {"line": "0", "character": 0}, "context": {"triggerKind": 2}},
    {"textDocument": {"uri": URI}, "position": {"line": 0.5, "character": 0}, "context": {"triggerKind": 2}},
    {"textDocument": {"uri": URI}, "position": {"line": True, "character": 0}, "context": {"triggerKind": 2}},
    {"textDocument": {"uri": URI}, "position": {"line": -1, "character": 0}, "context": {"triggerKind": 2}},
    {"textDocument": {"uri": 5}, "position": {"line": 0, "character": 0}, "context": {"triggerKind": 2}},
    [1, 2],
    "text",
    None,
]


def test_malformed_params_get_one_error_each(tmp_path: Path) -> None:
    with connected(tmp_path) as client:
        client.start()
        client.open("x = ")
        for id, params in enumerate(MALFORMED, 1):
            error = client.request(id, "textDocument/inlineCompletion", params)["error"]
            assert (error["code"], error["message"][:16]) == (-32602, "invalid params: "), params
        assert client.ask(complete(99, 0, 4)) == [TEXT]
        assert client.leave() == 0


def test_whole_numbers_may_be_written_as_floats(tmp_path: Path) -> None:
    with connected(tmp_path) as client:
        client.start()
        client.open("x = ")
        params = complete(1, 0, 0)["params"] | {"position": {"line": 0.0, "character": 4.0}}
        assert items(client.request(1, "textDocument/inlineCompletion", params)) == [TEXT]
        assert client.leave() == 0


NO_REQUEST = [
    (b"{not json", None, -32700),
    (b"[" * 100_000, None, -32700),
    (b'"text"', None, -32600),
    (b'{"id": 4, "method": "shutdown"}', 4, -32600),
    (b'{"jsonrpc": "2.0", "id": [4], "method": "shutdown"}', None, -32600),
    (b'{"jsonrpc": "2.0", "id": 4, "method": 7}', 4, -32600),
    (b'{"jsonrpc": "2.0", "id": 4, "method": "no/such/method"}', 4, -32601),
    (b'{"jsonrpc": "2.0", "id": 4, "method": "initialize", "params": {"capabilities": {}}}', 4, -32600),
]


def test_malformed_requests_get_one_error_each(tmp_path: Path) -> None:
    with connected(tmp_path) as client:
        client.initialize()
        for body, id, code in NO_REQUEST:
            client.traffic.sent({"id": id, "method": "any"})
            client.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
            assert client.answer(id)["error"]["code"] == code, body[:80]
        assert client.leave() == 0


def test_before_initialize_requests_are_refused(tmp_path: Path) -> None:
    with connected(tmp_path) as client:
        client.open("x = ")
        client.send(complete(1, 0, 4))
        assert client.answer(1)["error"]["code"] == -32002
        client.initialize()
        assert client.leave() == 0


def test_after_shutdown_requests_are_refused(tmp_path: Path) -> None:
    with connected(tmp_path) as client:
        client.start()
        assert client.request(1, "shutdown")["result"] is None
        assert client.exchange(complete(2, 0, 4))["error"]["code"] == -32600
        client.open("ignored")
        client.send(call(None, "exit"))
        assert client.ended() == 0


def test_an_unknown_notification_is_ignored(tmp_path: Path) -> None:
    with connected(tmp_path) as client:
        client.initialize()
        client.send(call(None, "$/unheardOf", {"a": 1}), call(None, "workspace/unheardOf"))
        assert client.leave() == 0


def test_header_names_may_have_any_case(tmp_path: Path) -> None:
    body = json.dumps(call(0, "initialize", {"processId": None, "rootUri": None, "capabilities": {}})).encode()
    headers = b"content-type: application/vscode-jsonrpc; charset=utf-8\r\ncONTENT-lENGTH:%d\r\n\r\n" % len(body)
    with connected(tmp_path) as client:
        client.traffic.sent(json.loads(body))
        client.write(headers + body)
        assert client.answer(0)["result"]["serverInfo"]["name"] == "midspan"
        assert client.leave() == 0


def test_a_broken_header_ends_the_server_without_quoting_it(tmp_path: Path) -> None:
    with connected(tmp_path) as client:
        client.initialize()
        client.write(f"X-{SECRET}: 1\r\n\r\n".encode())
        assert client.ended() == 1
        assert "Content-Length" in client.stderr
        assert SECRET not in client.stderr


def test_two_messages_sent_byte_by_byte(tmp_path: Path) -> None:
    with connected(tmp_path) as client:
        client.initialize()
        messages = call(1, "no/such"), call(2, "no/such")
        for message in messages:
            client.traffic.sent(message)
        for byte in b"".join(map(framed, messages)):
            client.write(bytes([byte]))
        assert client.answer(1)["error"]["code"] == client.answer(2)["error"]["code"] == -32601
        assert client.leave() == 0


def test_cancel_requests_with_an_invalid_or_unknown_id_do_no_harm(tmp_path: Path) -> None:
    ids: list[Any] = [{}, [], [1], None, 1.5, True, "unknown"]
    with connected(tmp_path) as client:
        client.start()
        client.open("x = ")
        client.send(*(call(None, "$/cancelRequest", {"id": id}) for id in ids))
        assert "could not be handled" in client.notification("window/showMessage")["message"]
        assert client.ask(complete(2, 0, 4)) == [TEXT]
        assert client.leave() == 0


async def test_the_converters_code_is_generated_before_the_first_keystroke(tmp_path: Path) -> None:
    inside = Inside(tmp_path)
    inside.initialize()
    inside.server.settings = Settings(enable=False)
    await initialized(inside.server, types.InitializedParams())
    converter = inside.server.protocol._converter
    made = generated_functions()
    here = {"line": 0, "character": 0}
    edit = {"range": {"start": here, "end": here}, "text": "1"}
    params = {"textDocument": {"uri": URI, "version": 2}, "contentChanges": [edit]}
    inside.server.protocol._structure(call(None, "textDocument/didChange", params))
    inside.server.protocol._structure(complete(1, 0, 0))
    assert generated_functions() == made
    span, command = types.Range(types.Position(0, 0), types.Position(0, 1)), types.Command("t", "c", arguments=["id"])
    item = types.InlineCompletionItem("x", range=span, command=command)
    converter.unstructure(types.InlineCompletionResponse(id=1, result=[item]))
    assert generated_functions() == made


def generated_functions() -> int:
    """The number of functions that cattrs has generated in this process; linecache holds their sources."""
    return sum(name.startswith("<cattrs generated") for name in linecache.cache)
