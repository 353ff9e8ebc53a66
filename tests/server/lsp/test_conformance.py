"""The test harness that checks every message against the specification, and one answer to every request."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tests.server.lsp_schema import meta_model
from tests.server.raw_client import URI, call, change, complete, connected, items
from tests.server.scripted import TEXT
from tests.server.traffic import Traffic

SPOT = {"line": 0, "character": 0}
ITEM = {"insertText": "x", "range": {"start": SPOT, "end": SPOT}}
ASKED = [
    call(1, "textDocument/inlineCompletion"),
    call(2, "shutdown"),
    call(3, "codeAction/resolve"),
    call(4, "no/such"),
]


def answer(id: int, result: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": id, "result": result}


def test_the_schemas_are_valid_and_cover_the_whole_protocol() -> None:
    model = meta_model()
    Draft202012Validator.check_schema({"$defs": model.definitions})
    assert len(model.requests) == 69
    assert len(model.notifications) == 26
    item = model.definitions["InlineCompletionItem"]
    assert set(item["properties"]) == {"insertText", "filterText", "range", "command"}
    assert item["required"] == ["insertText"]


@pytest.mark.parametrize(
    "message",
    [
        answer(1, None),
        answer(1, []),
        answer(1, [ITEM]),
        answer(1, {"items": [ITEM]}),
        answer(2, None),
        {"jsonrpc": "2.0", "id": 4, "error": {"code": -32601, "message": "no"}},
        {"jsonrpc": "2.0", "id": None, "error": {"code": -32700, "message": "no"}},
        call(None, "window/showMessage", {"type": 1, "message": "x"}),
        call(None, "midspan/status", {"state": "ready", "message": "x"}),
        call(None, "$/progress", {"token": "x", "value": {"kind": "end"}}),
        call(9, "workspace/configuration", {"items": [{"section": "midspan"}]}),
    ],
)
def test_right_messages_pass(message: dict[str, Any]) -> None:
    traffic = Traffic()
    for asked in ASKED:
        traffic.sent(asked)
    traffic.received(message)


@pytest.mark.parametrize(
    "message",
    [
        answer(1, {}),
        answer(1, [{"range": ITEM["range"]}]),
        answer(1, [ITEM | {"insertText": 5}]),
        answer(1, [ITEM | {"insert_text": "x"}]),
        answer(1, [ITEM | {"range": {"start": SPOT, "end": SPOT | {"character": -1}}}]),
        answer(1, [ITEM | {"command": {"title": "x"}}]),
        answer(2, True),
        answer(3, None),
        answer(4, None),
        answer(9, None),
        {"jsonrpc": "2.0", "id": 1},
        {"id": 1, "result": None},
        answer(1, None) | {"error": {"code": 1, "message": "x"}},
        {"jsonrpc": "2.0", "id": 1, "error": {"code": "1", "message": "x"}},
        call(None, "window/showMessage", {"type": 9, "message": "x"}),
        call(None, "window/showMessage"),
        call(7, "window/showMessage", {"type": 1, "message": "x"}),
        call(None, "midspan/status", {"state": "busy", "message": "x"}),
        call(None, "midspan/frame", {"id": "x"}),
        call(None, "midspan/else", {}),
        call(None, "$/progress", {"token": "x", "value": {"kind": "ended"}}),
        call(None, "textDocument/didOpen", {"textDocument": {}}),
        call(9, "textDocument/hover", {}),
    ],
)
def test_wrong_messages_are_found(message: dict[str, Any]) -> None:
    traffic = Traffic()
    for asked in ASKED:
        traffic.sent(asked)
    with pytest.raises(AssertionError):
        traffic.received(message)


def test_a_second_answer_is_found() -> None:
    traffic = Traffic()
    traffic.sent(ASKED[0])
    traffic.received(answer(1, None))
    with pytest.raises(AssertionError, match="answers no request"):
        traffic.received(answer(1, None))


def test_cancelling_before_during_and_after_leaves_one_answer_each(tmp_path: Path) -> None:
    with connected(tmp_path) as client:
        client.start()
        client.open("forever\nx = ")
        cancel = call(None, "$/cancelRequest", {"id": 1})
        client.send(cancel, complete(1, 1, 4))
        assert items(client.answer(1)) == [TEXT]
        client.send(cancel, cancel)
        client.send(complete(2, 0, 7), call(None, "$/cancelRequest", {"id": 2}), cancel)
        assert client.answer(2)["error"]["code"] == -32800
        client.send(call(None, "$/cancelRequest", {"id": 2}))
        client.send(complete(3, 0, 7), call(None, "$/cancelRequest", {"id": "3"}))
        client.send(change("x = ", 2), call(None, "$/cancelRequest", {"id": 3}))
        # Superseded and then cancelled: null and the error are both right, and exactly one of them must come.
        answered = client.answer(3)
        assert answered.get("result", answered.get("error", {}).get("code")) in (None, -32800)
        assert client.ask(complete(4, 0, 4)) == [TEXT]
        assert client.leave() == 0


def test_a_notification_sent_as_a_request_gets_an_error(tmp_path: Path) -> None:
    document = {"uri": URI, "languageId": "python", "version": 1, "text": "x = "}
    with connected(tmp_path) as client:
        client.start()
        for id, method in enumerate(["textDocument/didOpen", "$/cancelRequest", "initialized", "exit"], 1):
            error = client.request(id, method, {"textDocument": document, "id": 1})["error"]
            assert error["code"] == -32600
            assert "without an id" in error["message"]
        assert client.ask(complete(9, 0, 4)) is None
        assert client.leave() == 0


def test_an_answer_to_no_request_is_ignored(tmp_path: Path) -> None:
    with connected(tmp_path) as client:
        client.start()
        client.open("forever")
        client.send(complete(5, 0, 7))
        for id in (5, 6, "x", None, [1]):
            client.send({"jsonrpc": "2.0", "id": id, "result": 1})
            client.send({"jsonrpc": "2.0", "id": id, "error": {"code": 1, "message": "x"}})
        client.send(call(None, "$/cancelRequest", {"id": 5}))
        assert client.answer(5)["error"]["code"] == -32800
        assert client.leave() == 0


def test_messages_of_the_in_process_server_are_checked_too(tmp_path: Path) -> None:
    from tests.server.inside import Inside

    inside = Inside(tmp_path)
    assert inside.initialize("utf-8")["positionEncoding"] == "utf-8"
    inside.send(call(7, "no/such"))
    assert [message["error"]["code"] for message in inside.take()] == [-32601]
    assert isinstance(inside.out, io.BytesIO)
    assert json.loads(json.dumps(inside.traffic.waiting)) == {}
