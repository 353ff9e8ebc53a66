"""No text of a client reaches the log: a marker is put in every place that a client controls, and never logged."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.server.raw_client import Message, RawClient, call, complete, connected, framed

MARKER = "Zq7MarkerXv9"
URI = f"file:///{MARKER}/{MARKER}.py"
FIELDS = "textDocument uri version text languageId position context contentChanges command arguments settings item id"
FIELDS += " token value event added removed changes type items diagnostics message files title kind range data options"
JSON: st.SearchStrategy[Any] = st.recursive(
    st.sampled_from([MARKER, URI, None, 1, 1.5, True, [MARKER], {MARKER: MARKER}]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*FIELDS.split(), "midspan", MARKER]), inner, max_size=4)
    ),
    max_leaves=8,
)
METHODS = f"""textDocument/didOpen textDocument/didChange textDocument/didClose textDocument/didSave textDocument/hover
textDocument/inlineCompletion textDocument/codeAction codeAction/resolve workspace/executeCommand $/setTrace $/progress
workspace/didChangeConfiguration workspace/didChangeWorkspaceFolders workspace/didChangeWatchedFiles
workspace/didRenameFiles workspace/didCreateFiles workspace/didDeleteFiles window/workDoneProgress/cancel
textDocument/didShowCompletion textDocument/didPartiallyAcceptCompletion textDocument/publishDiagnostics
$/cancelRequest initialize {MARKER} $/{MARKER} workspace/{MARKER}""".split()
# Notifications that LSP's meta model does not have. So no schema describes the answer if one comes as a request.
NOTES = (
    "textDocument/didShowCompletion",
    "textDocument/didPartiallyAcceptCompletion",
    "textDocument/publishDiagnostics",
)
CALLS = st.tuples(st.booleans(), st.sampled_from(METHODS), JSON)


def document(text: str, uri: str = URI, version: Any = 1) -> Message:
    return {"textDocument": {"uri": uri, "languageId": MARKER, "version": version, "text": text}}


def begin(client: RawClient) -> None:
    """Initialize with the marker in every place, and answer the server's requests with the marker."""
    params = {
        "processId": None,
        "rootUri": f"file:///{MARKER}",
        "trace": "verbose",
        "locale": MARKER,
        "clientInfo": {"name": MARKER, "version": MARKER},
        "workspaceFolders": [{"uri": f"file:///{MARKER}", "name": MARKER}],
        "capabilities": {
            MARKER: MARKER,
            "general": {"positionEncodings": [MARKER, "utf-16"]},
            "workspace": {"configuration": True},
        },
        "initializationOptions": {MARKER: MARKER, "languages": {MARKER: MARKER}, "steps": MARKER, "status": True},
    }
    # A trace that LSP does not know is refused.
    assert "error" in client.request(-1, "initialize", params | {"trace": MARKER})
    assert "result" in client.request(0, "initialize", params)
    client.send(call(None, "initialized", {}))
    asked = client.take(lambda message: message.get("method") == "workspace/configuration")
    client.send({"jsonrpc": "2.0", "id": asked["id"], "error": {"code": 1, "message": MARKER, "data": MARKER}})
    # The state after loading may be "degraded", because of the settings.
    while client.notification("midspan/status")["state"] == "loading":
        pass


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("log") / "log"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, log: Path) -> Iterator[RawClient]:
    """One server for all cases, with the most verbose log."""
    with connected(tmp_path_factory.mktemp("state"), "--log-file", str(log), "--debug") as client:
        begin(client)
        yield client


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(calls=st.lists(CALLS, max_size=12))
def test_random_messages_are_never_quoted_in_the_log(
    client: RawClient, log: Path, calls: list[tuple[bool, str, Any]]
) -> None:
    sent = [
        call(number if request and method not in NOTES else None, method, params)
        for number, (request, method, params) in zip(itertools.count(1000), calls, strict=False)
    ]
    client.send(*sent)
    for message in sent:
        if "id" in message:
            client.answer(message["id"])
    client.kept.clear()
    assert MARKER not in log.read_text() + client.stderr


LIKELY: list[Message] = [
    call(None, "textDocument/didOpen", document(f"{MARKER} = 1")),
    call(None, "textDocument/didOpen", document("crash", uri=f"{URI}/crash.py")),
    complete(1, 0, 4, uri=URI),
    complete(2, 0, 5, uri=f"{URI}/crash.py", invoked=True),
    call(None, "textDocument/didChange", document("") | {"contentChanges": [{"text": MARKER, "range": MARKER}]}),
    call(None, "textDocument/didChange", document("", f"{URI}2", 5) | {"contentChanges": [{"text": MARKER}]}),
    call(None, "textDocument/didOpen", {"textDocument": {MARKER: MARKER}}),
    call(None, "workspace/didChangeConfiguration", {"settings": {"midspan": {MARKER: MARKER, "quiet": MARKER}}}),
    call(None, "workspace/didChangeConfiguration", {"settings": {"midspan": {"languages": {MARKER: MARKER}}}}),
    call(None, "workspace/didChangeConfiguration", {"settings": {"midspan": {"exclude": [MARKER, {MARKER: 1}]}}}),
    call(None, "workspace/didChangeWorkspaceFolders", {"event": {"added": [{MARKER: 1}], "removed": [MARKER]}}),
    call(None, "workspace/didChangeWatchedFiles", {"changes": [{"uri": URI, "type": 3}, {"uri": MARKER, "type": 1}]}),
    call(None, "$/setTrace", {"value": MARKER}),
    call(None, "$/cancelRequest", {"id": MARKER}),
    call(None, "$/progress", {"token": MARKER, "value": MARKER}),
    call(3, "workspace/executeCommand", {"command": MARKER, "arguments": [MARKER]}),
    call(4, "workspace/executeCommand", {"command": "midspan.didAccept", "arguments": [MARKER, {MARKER: MARKER}]}),
    call(5, MARKER, MARKER),
    call(None, MARKER, {MARKER: MARKER}),
    {"jsonrpc": "2.0", "id": MARKER, "method": "no/such", "params": MARKER},
    {"jsonrpc": "2.0", "id": MARKER, "method": "textDocument/inlineCompletion", "params": {MARKER: MARKER}},
    {"jsonrpc": "2.0", "id": {MARKER: 1}, "method": MARKER},
    {"jsonrpc": MARKER, "id": 6, "method": MARKER},
    {"jsonrpc": "2.0", "id": MARKER, "result": MARKER},
    {"jsonrpc": "2.0", "id": MARKER, "error": MARKER},
    {"jsonrpc": "2.0", MARKER: MARKER},
]
BODIES = [b"{" + MARKER.encode(), json.dumps(MARKER).encode(), b"[" * 9 + MARKER.encode(), b"\xff" + MARKER.encode()]


@pytest.mark.parametrize("header", [f"X-{MARKER}: {MARKER}\r\n\r\n", f"Content-Length: {MARKER}\r\n\r\n", MARKER])
def test_likely_messages_bodies_and_headers_are_never_quoted_in_the_log(tmp_path: Path, header: str) -> None:
    log = tmp_path / "log"
    with connected(tmp_path / "state", "--log-file", str(log), "--debug") as client:
        begin(client)
        client.write(b"".join(map(framed, LIKELY)))
        client.write(b"".join(b"Content-Length: %d\r\n\r\n%s" % (len(body), body) for body in BODIES))
        client.traffic.waiting[99] = ["textDocument/hover"]
        client.write(framed(call(99, "textDocument/hover")) + header.encode())
        assert client.process.stdin is not None
        client.process.stdin.close()
        assert client.process.wait(60) == 1
    assert "ERROR" in log.read_text()
    assert MARKER not in log.read_text() + client.stderr
