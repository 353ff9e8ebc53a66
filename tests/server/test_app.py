"""The server process over stdio: life cycle, order of messages, loading, failures, and its log."""

from __future__ import annotations

import asyncio
import io
import itertools
import json
import os
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest
from pygls.io_ import StdoutWriter

import midspan.server.requests
from midspan.server.actions import ACTIONS
from midspan.server.app import build, serve
from midspan.server.settings import ServeOptions
from tests.server.raw_client import URI, WAIT_S, call, change, command, complete, connected, framed, items
from tests.server.scripted import TEXT

SECRET = "hunter2_correct_horse"


def test_the_servers_capabilities(tmp_path: Path) -> None:
    with connected(tmp_path) as client:
        result = client.initialize(capabilities={"textDocument": {"inlineCompletion": None}})
        assert client.leave() == 0
    assert result["serverInfo"]["name"] == "midspan"
    assert result["capabilities"] == {
        "positionEncoding": "utf-16",
        "textDocumentSync": {"openClose": True, "change": 2, "save": True},
        "inlineCompletionProvider": {"workDoneProgress": False},
        "codeActionProvider": {"codeActionKinds": [action.kind for action in ACTIONS], "resolveProvider": True},
        "executeCommandProvider": {"commands": ["midspan.didAccept", "midspan.languagesOn", "midspan.why"]},
        "workspace": {"workspaceFolders": {"supported": True, "changeNotifications": True}, "fileOperations": {}},
    }


def test_a_client_with_a_malformed_capability_is_served(tmp_path: Path) -> None:
    odd = {"textDocument": {"inlineCompletion": {"dynamicRegistration": 1}}, "window": {"workDoneProgress": "no"}}
    with connected(tmp_path) as client:
        assert client.initialize(capabilities=odd)["capabilities"]["inlineCompletionProvider"]
        assert client.leave() == 0


@pytest.mark.parametrize("end", ["exit", "end of input"])
def test_the_end_without_shutdown_has_exit_code_1(tmp_path: Path, end: str) -> None:
    with connected(tmp_path) as client:
        client.start()
        if end == "exit":
            client.send(call(None, "exit"))
        else:
            assert client.process.stdin is not None
            client.process.stdin.close()
        assert client.ended() == 1


def test_a_client_that_no_longer_reads_ends_the_server(tmp_path: Path) -> None:
    process = subprocess.Popen(command(tmp_path), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    process.stdin.write(b"".join(framed(call(id, "no/such")) for id in (1, 2)))
    process.stdin.flush()
    try:
        assert process.wait(WAIT_S) == 1
        assert b"the client no longer reads" in process.stderr.read()
    finally:
        process.kill()
        process.stdin.close()
        process.stderr.close()


def test_shutdown_during_a_fill_cancels_and_answers_it(tmp_path: Path) -> None:
    with connected(tmp_path) as client:
        client.start()
        client.open("forever")
        client.send(complete(1, 0, 7), call(2, "shutdown"), call(3, "shutdown"), call(None, "exit"))
        assert client.answer(1)["error"]["code"] == -32800
        assert client.answer(2)["result"] is None
        assert client.answer(3)["error"]["code"] == -32600
        assert client.ended() == 0


def test_shutdown_while_loading_ends_the_server_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "gate")
    with connected(tmp_path, "--gate", str(tmp_path / "gate")) as client:
        client.initialize({"status": True})
        client.send(call(None, "initialized", {}))
        assert client.notification("midspan/status")["state"] == "loading"
        assert client.leave() == 0


def test_an_edit_right_after_a_request_makes_its_answer_null(tmp_path: Path) -> None:
    with connected(tmp_path) as client:
        client.start()
        client.open("forever")
        client.send(complete(1, 0, 7), change("x = ", 2), complete(2, 0, 4))
        assert items(client.answer(1)) is None
        assert items(client.answer(2)) == [TEXT]
        [first, _] = client.history()["asked"]
        assert first["stopped"]
        assert client.leave() == 0


def test_a_position_is_never_applied_to_a_later_text(tmp_path: Path) -> None:
    with connected(tmp_path) as client:
        client.start()
        client.open("before\nx = ")
        client.send(complete(1, 1, 4), change("after\ny = z", 2))
        assert items(client.answer(1)) is None
        assert client.leave() == 0


def test_the_newest_request_of_a_document_wins(tmp_path: Path) -> None:
    with connected(tmp_path) as client:
        client.start({"debounce_ms": 0})
        client.open("forever\nx = ")
        client.send(complete(1, 0, 7), complete(2, 0, 7), complete(3, 1, 4))
        assert [items(client.answer(id)) for id in (1, 2, 3)] == [None, None, [TEXT]]
        assert all(asked["stopped"] for asked in client.history()["asked"][:2])
        assert client.leave() == 0


def test_no_frame_comes_after_its_answer(tmp_path: Path) -> None:
    with connected(tmp_path) as client:
        client.start({"preview": True})
        client.open("forever\nx = ")
        client.send(complete(1, 0, 7))
        frame = client.notification("midspan/frame")
        client.send(complete(2, 1, 4))
        assert items(client.answer(1)) is None
        assert items(client.answer(2)) == [TEXT]
        while any(message.get("method") == "midspan/frame" for message in client.kept):
            client.notification("midspan/frame")
        assert client.leave() == 0
    answered = next(number for number, message in enumerate(client.seen) if message.get("id") == 1)
    assert frame in [message.get("params") for message in client.seen[:answered]]
    assert "midspan/frame" not in [message.get("method") for message in client.seen[answered:]]


def test_pygls_keeps_no_second_copy_of_the_documents(tmp_path: Path) -> None:
    server = build(ServeOptions(checkpoint="none", device="cpu", state_dir=tmp_path, log_file=None))
    server.protocol.set_writer(StdoutWriter(io.BytesIO()))
    document = {"uri": URI, "languageId": "python", "version": 1, "text": "x = "}
    server.protocol.receive(json.dumps(call(0, "initialize", {"processId": None, "capabilities": {}})).encode())
    server.protocol.receive(json.dumps(call(None, "textDocument/didOpen", {"textDocument": document})).encode())
    server.protocol.receive(json.dumps(change("y = ", 2)).encode())
    opened = server.documents.get(URI)
    assert opened is not None
    assert (opened.text, opened.version) == ("y = ", 2)
    assert server.workspace.text_documents == {}


@pytest.mark.parametrize("method", ["textDocument/didClose", "textDocument/didOpen"])
def test_closing_or_opening_again_makes_the_answer_null(tmp_path: Path, method: str) -> None:
    document = {"uri": URI, "languageId": "python", "version": 9, "text": "x = "}
    with connected(tmp_path) as client:
        client.start()
        client.open("forever")
        client.send(complete(1, 0, 7), call(None, method, {"textDocument": document}))
        assert items(client.answer(1)) is None
        assert client.leave() == 0


def test_a_request_in_another_document_does_not_stop_this_one(tmp_path: Path) -> None:
    with connected(tmp_path) as client:
        client.start()
        client.open("frames = ")
        client.open("x = ", uri="file:///other.py")
        client.send(complete(1, 0, 9), complete(2, 0, 4, uri="file:///other.py"))
        assert items(client.answer(1)) == items(client.answer(2)) == [TEXT]
        assert client.leave() == 0


def test_requests_before_the_engine_is_loaded_are_null(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    with connected(tmp_path, "--gate", str(gate)) as client:
        client.initialize({"status": True})
        client.open("x = ")
        assert client.ask(complete(1, 0, 4)) is None
        client.send(call(None, "initialized", {}))
        assert client.notification("midspan/status")["state"] == "loading"
        assert client.ask(complete(2, 0, 4)) is None
        gate.write_bytes(b"")
        assert client.notification("midspan/status")["state"] == "ready"
        assert client.ask(complete(3, 0, 4)) == [TEXT]
        assert not client.history()["torch"]
        assert client.leave() == 0


@pytest.mark.parametrize("refused", [False, True])
def test_loading_is_shown_as_progress(tmp_path: Path, refused: bool) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    with connected(tmp_path, "--gate", str(gate)) as client:
        client.initialize({"status": True}, {"window": {"workDoneProgress": True}})
        client.send(call(None, "initialized", {}))
        create = client.take(lambda message: message.get("method") == "window/workDoneProgress/create")
        answer = {"error": {"code": -32603, "message": "no"}} if refused else {"result": None}
        client.send({"jsonrpc": "2.0", "id": create["id"]} | answer)
        if not refused:
            begin = client.notification("$/progress")
            assert (begin["token"], begin["value"]["kind"]) == (create["params"]["token"], "begin")
        gate.write_bytes(b"")
        if not refused:
            end = client.notification("$/progress")
            assert (end["token"], end["value"]["kind"]) == (create["params"]["token"], "end")
        assert [client.notification("midspan/status")["state"] for _ in range(2)] == ["loading", "ready"]
        assert client.leave() == 0


@pytest.mark.parametrize(("gigabytes", "said"), [(2, [12, 25, 37, 50, 62, 75, 87, 100]), (0, [])])
def test_loading_a_large_checkpoint_reports_percentages(tmp_path: Path, gigabytes: int, said: list[int]) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    with connected(tmp_path, "--gate", str(gate), "--gigabytes", str(gigabytes)) as client:
        client.initialize({}, {"window": {"workDoneProgress": True}})
        client.send(call(None, "initialized", {}))
        create = client.take(lambda message: message.get("method") == "window/workDoneProgress/create")
        client.send({"jsonrpc": "2.0", "id": create["id"], "result": None})
        assert client.notification("$/progress")["value"]["kind"] == "begin"
        gate.write_bytes(b"")
        seen = list[Any]()
        while (value := client.notification("$/progress")["value"])["kind"] == "report":
            seen.append(value)
        assert [value["percentage"] for value in seen] == said
        assert [value["message"] for value in seen][-1:] == ["2.0 of 2.0 GB"][: len(said)]
        assert client.leave() == 0


def test_torch_is_imported_after_initialize_and_a_missing_checkpoint_is_reported(tmp_path: Path) -> None:
    with connected(tmp_path, "--real", str(tmp_path / "no-checkpoint")) as client:
        client.initialize({"status": True})
        assert "libtorch" not in Path(f"/proc/{client.process.pid}/maps").read_text()
        client.send(call(None, "initialized", {}))
        assert client.notification("midspan/status")["state"] == "loading"
        failed = client.notification("midspan/status")
        assert failed["state"] == "error"
        assert "no-checkpoint" in failed["message"]
        assert client.notification("window/showMessage") == {"type": 1, "message": f"midspan: {failed['message']}"}
        assert "libtorch" in Path(f"/proc/{client.process.pid}/maps").read_text()
        assert client.leave() == 0


def test_a_failed_load_is_reported_and_requests_stay_null(tmp_path: Path) -> None:
    with connected(tmp_path, "--break") as client:
        client.initialize()
        client.send(call(None, "initialized", {}))
        said = client.notification("window/showMessage")
        assert "RuntimeError" in said["message"]
        assert "midspan doctor" in said["message"]
        client.open("x = ")
        assert client.ask(complete(1, 0, 4)) is None
        assert client.leave() == 0
        assert "the scripted load broke" in client.stderr


def test_a_library_that_prints_does_not_break_the_protocol(tmp_path: Path) -> None:
    with connected(tmp_path, "--chatter") as client:
        client.start()
        assert client.leave() == 0
        assert "a library that prints" in client.stderr
        assert "a C library that prints" in client.stderr


def test_a_handler_that_raises_gives_one_error_and_the_server_goes_on(tmp_path: Path) -> None:
    with connected(tmp_path, "--threshold-none") as client:
        client.start()
        client.open("x = ")
        for id in (1, 2):
            assert client.exchange(complete(id, 0, 4))["error"]["code"] == -32603
        assert client.leave() == 0
        assert "Traceback" in client.stderr
        assert "inline_completion" in client.stderr


def test_an_empty_fill_gives_an_empty_list_so_that_old_ghost_text_goes(tmp_path: Path) -> None:
    with connected(tmp_path) as client:
        client.start()
        client.open("empty\n")
        assert client.ask(complete(1, 0, 5)) == []
        assert client.leave() == 0


def test_an_engine_that_crashes_is_reported_once_and_the_next_request_works(tmp_path: Path) -> None:
    with connected(tmp_path) as client:
        client.start()
        client.open("crash\nx = ")
        assert client.ask(complete(1, 0, 5)) is None
        assert "log" in client.notification("window/showMessage")["message"]
        assert client.ask(complete(2, 0, 5)) is None
        assert client.ask(complete(3, 1, 4)) == [TEXT]
        assert client.leave() == 0
        assert client.stderr.count("RuntimeError: the scripted engine crashed") == 2


def test_a_malformed_edit_is_reported(tmp_path: Path) -> None:
    with connected(tmp_path) as client:
        client.start()
        client.open("x = ")
        client.send(call(None, "textDocument/didChange", {"textDocument": {"uri": URI}, "contentChanges": []}))
        assert "could not be handled" in client.notification("window/showMessage")["message"]
        assert client.leave() == 0


def test_invalid_settings_are_reported_and_defaults_hold(tmp_path: Path) -> None:
    with connected(tmp_path) as client:
        client.initialize({"previw": True, "enable": "no"})
        client.send(call(None, "initialized", {}))
        said = client.notification("window/showMessage")
        assert said["type"] == 1
        assert "previw" in said["message"]
        client.open("x = ")
        ids = itertools.takewhile(lambda id: client.ask(complete(id, 0, 4)) is None, range(999))
        assert len(list(ids)) < 999
        assert client.leave() == 0


async def test_no_look_ahead_starts_after_shutdown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(midspan.server.requests, "AHEAD_S", 0.0)
    server = build(ServeOptions(checkpoint="none", device="cpu", state_dir=tmp_path, log_file=None))
    looked, over = list[None](), asyncio.Event()
    server.requests.plan_ahead(URI, lambda: looked.append(None))
    await server._close()
    # A timer that is set later fires later.
    asyncio.get_running_loop().call_later(0, over.set)
    await asyncio.wait_for(over.wait(), WAIT_S)
    assert looked == []


def test_a_disabled_server_loads_nothing_and_answers_null(tmp_path: Path) -> None:
    with connected(tmp_path) as client:
        client.initialize({"enable": False, "status": True})
        client.send(call(None, "initialized", {}))
        client.open("x = ")
        assert client.ask(complete(1, 0, 4)) is None
        assert client.leave() == 0
        assert "scripted engine loaded" not in client.stderr


def test_no_code_in_the_log(tmp_path: Path) -> None:
    log, place = tmp_path / "log", tmp_path / "state"
    with connected(place, "--log-file", str(log)) as client:
        client.start()
        client.open(f"{SECRET} = 1\ncrash {SECRET}\nx = ")
        client.send(change(f"{SECRET} = 2\ncrash {SECRET}\nx = echo {SECRET}", 2))
        client.exchange(complete(1, 1, 30))
        client.notification("window/showMessage")
        assert SECRET in json.dumps(client.exchange(complete(2, 2, 40)))
        client.request(3, "textDocument/inlineCompletion", {"position": SECRET, "textDocument": {"uri": SECRET}})
        client.request(4, "workspace/executeCommand", {"command": "midspan.didAccept", "arguments": ["nothing"]})
        client.request(5, f"no/{SECRET[:0]}such", {"text": SECRET})
        client.send(change(f"{SECRET}", 3, uri="file:///never-opened.py"))
        broken = change(SECRET, 3)
        broken["params"]["contentChanges"][0]["range"] = {"start": SECRET}
        client.send(broken)
        for words in ("had not opened", "could not be handled"):
            assert words in client.notification("window/showMessage")["message"]
        assert client.leave() == 0
        assert SECRET not in client.stderr
    written = log.read_text()
    assert "scripted engine loaded" in written
    assert "the scripted engine crashed" in written
    assert SECRET not in written
    for file in place.rglob("*"):
        assert SECRET.encode() not in file.read_bytes()


def test_the_engines_prepare_runs_before_any_thread_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Settled(Exception):
        pass

    def prepare() -> None:
        raise Settled

    monkeypatch.setattr("midspan.engine.prepare", prepare)
    before = threading.active_count()
    with pytest.raises(Settled):
        serve(ServeOptions(checkpoint="none", device="cpu", state_dir=tmp_path, log_file=None))
    assert threading.active_count() == before
