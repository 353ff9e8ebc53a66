"""JSON-RPC messages of every shape: one expected_answer answer or none, and the server goes on."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from midspan.server.lsp.stdio import read_message
from tests.server.inside import Inside
from tests.server.raw_client import call

INVALID, UNKNOWN, PARAMS, EARLY = -32600, -32601, -32602, -32002
MISSING = object()
VALUES: list[Any] = [None, True, 0, -7, 2**70, 1.5, 3.0, 1e300, "", "a", "ü\ud800", [], [1], {}, {"a": 1}]
# Methods of requests and of notifications, unknown methods, and values that are no method.
METHODS: list[Any] = [
    "initialize", "shutdown", "exit", "textDocument/hover", "no/such", "$/no", "", "textDocument/didOpen", "$/setTrace",
    "textDocument/didSave", *(value for value in VALUES if not isinstance(value, str)),
]  # fmt: skip
NOTES = ("exit", "textDocument/didOpen", "$/setTrace", "textDocument/didSave")
PARTS = {
    "jsonrpc": st.sampled_from(["2.0", "2.0", "2.0", "1.0", 2.0, None]),
    "id": st.sampled_from(VALUES),
    "method": st.sampled_from(METHODS),
    "params": st.sampled_from(VALUES),
    "result": st.sampled_from(VALUES),
    "error": st.sampled_from([*VALUES, {"code": 1, "message": "no"}]),
}
MESSAGES = st.fixed_dictionaries({}, optional=PARTS)
SHAPES = st.one_of(MESSAGES, st.sampled_from(VALUES), st.lists(MESSAGES, max_size=3))
STATES = ("new", "running", "shut down")


def answer_id(id: Any) -> Any:
    """The id that the answer must have: a string, an integer (also if written as a float), else null."""
    if isinstance(id, bool) or not isinstance(id, int | float | str) or (isinstance(id, float) and not id.is_integer()):
        return None
    return int(id) if isinstance(id, float) else id


def expected_answer(message: Any, state: str) -> tuple[Any, set[int]] | None:
    """The id and the allowed error codes by the specifications of JSON-RPC and LSP; None where no answer may come."""
    if isinstance(message, dict) and "method" not in message and ("result" in message or "error" in message):
        return None
    id = answer_id(message.get("id")) if isinstance(message, dict) else None
    known = isinstance(message, dict) and message.get("jsonrpc") == "2.0" and isinstance(message.get("method"), str)
    if not known or ("id" in message and id is None):
        return id, {INVALID}
    if "id" not in message:
        return None
    if message["method"] in NOTES or state == "shut down":
        return id, {INVALID}
    if message["method"] == "initialize":
        return id, {INVALID} if state == "running" else {PARAMS}
    if message["method"] == "shutdown" and state == "running":
        # The params of shutdown are ignored.
        return id, {0}
    return id, {EARLY} if state == "new" else {UNKNOWN, PARAMS}


def server(folder: Path, state: str) -> Inside:
    inside = Inside(folder)
    if state != "new":
        inside.initialize()
    if state == "shut down":
        inside.send(call(1, "shutdown"))
        inside.take()
    return inside


def answers_to(inside: Inside, message: Any) -> list[Any]:
    """The server's messages after a message, without messages to the user."""
    inside.server.protocol.receive(json.dumps(message).encode())
    stream = io.BytesIO(inside.out.getvalue())
    inside.out.seek(0)
    inside.out.truncate()
    sent = []
    while (body := read_message(stream)) is not None:
        sent.append(json.loads(body))
    return [one for one in sent if one.get("method") != "window/showMessage"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state")


@given(SHAPES, st.sampled_from(STATES))
@example({"jsonrpc": "2.0", "id": 4}, "running")
@example({"jsonrpc": "2.0", "id": 3.0, "method": "no/such"}, "running")
@example({"jsonrpc": "2.0", "error": {"code": -32700, "message": "no JSON"}}, "running")
@example({"jsonrpc": "2.0", "id": None, "error": {"code": -32700, "message": "no JSON"}}, "running")
@example({"jsonrpc": "2.0", "id": "a", "result": 1, "error": {}}, "running")
@example([{"jsonrpc": "2.0", "id": 1, "method": "no/such"}], "running")
@example([], "running")
def test_every_shape_gets_one_right_answer_or_none(folder: Path, message: Any, state: str) -> None:
    inside = server(folder, state)
    expected = expected_answer(message, state)
    answers = answers_to(inside, message)
    if expected is None:
        assert answers == []
    else:
        [answer] = answers
        assert answer["id"] == expected[0]
        assert answer.get("error", {"code": 0})["code"] in expected[1]
    [answer] = answers_to(inside, call(12345, "no/such"))
    assert answer["id"] == 12345


ANSWERS: list[tuple[dict[str, Any], object]] = [
    ({"result": [1]}, [1]),
    ({"result": None}, None),
    ({"result": [1], "error": None}, [1]),
    ({"error": {"code": 7, "message": "no"}}, 7),
    ({"error": {"code": 7, "message": "no"}, "result": None}, 7),
    ({"error": {"code": 7, "message": "no"}, "result": [1]}, 7),
    ({}, None),
    ({"error": None}, None),
    ({"error": "no"}, PARAMS),
    ({"error": {"code": "no"}}, PARAMS),
]


@pytest.mark.parametrize("version", [{"jsonrpc": "2.0"}, {}])
@pytest.mark.parametrize(("answer", "outcome"), ANSWERS)
def test_a_waiting_request_of_the_server_ends_with_an_answer_of_any_shape(
    tmp_path: Path, answer: dict[str, Any], outcome: object, version: dict[str, str]
) -> None:
    inside = server(tmp_path, "running")
    waiting = inside.server.protocol.send_request("no/such", None)
    [server_request] = answers_to(inside, call(None, "$/no"))
    assert answers_to(inside, version | {"id": server_request["id"]} | answer) == []
    assert waiting.done()
    error: Any = waiting.exception()
    assert (waiting.result() if error is None else error.code) == outcome
    assert answers_to(inside, {"jsonrpc": "2.0", "id": server_request["id"], "result": 1}) == []
