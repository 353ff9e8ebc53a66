"""A server that is stopped while its model loads: it ends at once, and logs no error."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from midspan.engine.api import CheckpointError, OnProgress
from midspan.server.session import Session
from midspan.server.settings import ServeOptions
from tests.server.raw_client import WAIT_S, RawClient, call, command, connected, framed


def shut_down(client: RawClient) -> None:
    client.request(1, "shutdown")
    client.send(call(None, "exit"))


def exited(client: RawClient) -> None:
    client.send(call(None, "exit"))


def disconnected(client: RawClient) -> None:
    assert client.process.stdin is not None
    client.process.stdin.close()


def terminated(client: RawClient) -> None:
    client.process.send_signal(signal.SIGTERM)


def interrupted(client: RawClient) -> None:
    client.process.send_signal(signal.SIGINT)


@pytest.mark.parametrize(
    ("stop", "code"),
    [(shut_down, 0), (exited, 1), (disconnected, 1), (terminated, -signal.SIGTERM), (interrupted, 130)],
)
def test_a_server_stopped_while_loading_ends_and_logs_no_error(
    tmp_path: Path, stop: Callable[[RawClient], None], code: int
) -> None:
    log, gate = tmp_path / "log", tmp_path / "gate"
    os.mkfifo(gate)
    with connected(tmp_path / "state", "--log-file", str(log), "--gate", str(gate)) as client:
        client.initialize({"status": True})
        client.send(call(None, "initialized", {}))
        client.state("loading")
        stop(client)
        assert client.ended() == code
        assert "ERROR" not in log.read_text()
        assert client.stderr == ""


def test_a_client_that_stops_reading_while_loading_is_no_error(tmp_path: Path) -> None:
    log, gate = tmp_path / "log", tmp_path / "gate"
    os.mkfifo(gate)
    serve = command(tmp_path / "state", "--log-file", str(log), "--gate", str(gate))
    with subprocess.Popen(serve, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        params = {"processId": None, "rootUri": None, "capabilities": {}, "initializationOptions": {"status": True}}
        process.stdin.write(framed(call(0, "initialize", params)) + framed(call(None, "initialized", {})))
        process.stdin.flush()
        received = b""
        while b'"loading"' not in received:
            received += os.read(process.stdout.fileno(), 4096)
        process.stdout.close()
        with gate.open("wb"):
            pass
        assert process.wait(WAIT_S) == 1
        assert process.stderr.read() == b""
    text = log.read_text()
    assert "the client no longer reads; stopping" in text
    assert "ERROR" not in text
    assert "indexer" not in text


class Gate:
    """A load that waits until the gate is opened, and then succeeds or fails."""

    def __init__(self, problem: CheckpointError | None) -> None:
        self.problem, self.opened = problem, threading.Event()

    def load(self, checkpoint: str, device: str, progress: OnProgress) -> None:
        assert self.opened.wait(WAIT_S)
        if self.problem is not None:
            raise self.problem


@pytest.mark.parametrize("problem", [None, CheckpointError("no weights; copy them")])
def test_a_load_that_ends_after_the_server_logs_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, problem: CheckpointError | None
) -> None:
    gate = Gate(problem)
    session = Session(ServeOptions(checkpoint="none", device="cpu", state_dir=tmp_path, log_file=None), gate.load)  # type: ignore[arg-type]

    async def serve() -> None:
        loading = asyncio.create_task(session.load(lambda done, total: None))
        await asyncio.sleep(0)
        loading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await loading

    caplog.set_level(logging.INFO)
    asyncio.run(serve())
    gate.opened.set()
    assert session._loading is not None
    assert session._loading.exception(WAIT_S) is problem
    # The load's callbacks run after that, on the load's own thread.
    for thread in threading.enumerate():
        if thread.name.startswith("midspan-load"):
            thread.join(WAIT_S)
    assert caplog.records == []
