"""Failures while the server runs (engine, memory, store, disk): each is reported once, and the server goes on."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from midspan.engine.api import DeviceError
from midspan.server.checkpoint_watch import CheckpointWatch
from midspan.server.engine_errors import failed_load, failed_request
from midspan.server.telemetry.schema import FILE_NAME
from tests.engine.tiny import tiny_checkpoint
from tests.server.raw_client import RawClient, call, complete, connected, items
from tests.server.scripted import TEXT


def begin(client: RawClient) -> str:
    """Initialize, wait until the engine is loaded or has failed, and return the state with its message."""
    client.initialize({"status": True})
    client.send(call(None, "initialized", {}))
    while (news := client.notification("midspan/status"))["state"] == "loading":
        pass
    return f"{news['state']}: {news['message']}"


def degraded(client: RawClient, begun: str) -> str:
    """The message of the state "degraded", which may have come before the engine was loaded."""
    return begun if begun.startswith("degraded") else client.state("degraded")


def shown_message(client: RawClient) -> str:
    """The next message to the user."""
    message: str = client.notification("window/showMessage")["message"]
    return message


def completions(client: RawClient, times: int = 3) -> list[list[str] | None]:
    """Request completion on several lines of an ordinary document."""
    client.open("x = \n" * times, uri="file:///plain.py")
    return [client.ask(complete(100 + line, line, 4, uri="file:///plain.py")) for line in range(times)]


@pytest.mark.parametrize(("script", "words"), [("crash", "log says why"), ("memory", "out of memory")])
def test_a_failed_fill_is_reported_once_and_in_the_status_until_one_succeeds(
    tmp_path: Path, script: str, words: str
) -> None:
    with connected(tmp_path) as client:
        client.start()
        client.open(f"{script}\nx = ")
        assert client.ask(complete(1, 0, len(script))) is None
        assert words in shown_message(client)
        assert words in client.state("degraded")
        assert client.ask(complete(2, 0, len(script))) is None
        assert client.ask(complete(3, 1, 4)) == [TEXT]
        assert "scripted on cpu" in client.state("ready")
        assert client.leave() == 0


def test_a_device_error_is_reported_with_its_fix() -> None:
    line = "GPU memory has no room for one canvas beside the weights; close what else uses it"
    assert failed_request(DeviceError(line)) == line


def test_torchs_out_of_memory_error_has_a_message_with_a_fix() -> None:
    import torch

    words = failed_request(torch.OutOfMemoryError("CUDA out of memory"))
    assert "out of memory" in words
    assert "--device" in words
    assert "out of memory" in failed_load(torch.OutOfMemoryError("CUDA out of memory"))


def test_full_memory_is_distinguished_from_other_failures() -> None:
    import torch

    with pytest.raises(RuntimeError) as raised:
        torch.empty(2**60, dtype=torch.uint8)
    windows = "[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 4096 bytes."
    alloc = "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"
    for error in (raised.value, RuntimeError(windows), RuntimeError("CUDA error: out of memory"), RuntimeError(alloc)):
        assert "close other programs" in failed_request(error)
        assert "smaller --checkpoint" in failed_load(error)
    assert "the log says why" in failed_request(ValueError("not enough memory of the past"))


@pytest.mark.parametrize(
    "words",
    [
        "CUDA error: device-side assert triggered\nCUDA kernel errors might be asynchronously reported",
        "CUDA error: an illegal memory access was encountered",
        "CUDA driver error: invalid argument",
        "Triton Error [CUDA]: an illegal memory access was encountered",
    ],
)
def test_a_lost_gpu_needs_a_restart(words: str) -> None:
    import torch

    for error in (RuntimeError(words), torch.AcceleratorError(words)):
        assert "restart midspan" in failed_request(error)
        assert "restart midspan" in failed_load(error)
    assert "restart" not in failed_request(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


def test_too_little_memory_to_load_is_reported_with_the_fix(tmp_path: Path) -> None:
    with connected(tmp_path, "--out-of-memory") as client:
        state = begin(client)
        assert state.startswith("error: out of memory")
        assert "smaller --checkpoint" in shown_message(client)
        assert completions(client) == [None] * 3
        assert client.leave() == 0


def test_an_engine_that_hangs_is_reported_and_does_not_block_the_server(tmp_path: Path) -> None:
    with connected(tmp_path, "--patience", "0.2") as client:
        client.start({"deadline_ms": 1})
        client.open("hang")
        client.send(complete(1, 0, 4))
        assert client.state("working")
        assert items(client.answer(1)) is None
        assert "has not answered" in shown_message(client)
        assert "restart midspan" in client.state("degraded")
        assert client.leave() == 0


def test_a_checkpoint_replaced_while_the_server_runs_is_reported_once(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    tiny_checkpoint(folder)
    with connected(tmp_path / "state", "--real", str(folder), "--look-always") as client:
        assert begin(client).startswith("ready")
        before = completions(client)
        for file in folder.iterdir():
            file.write_bytes(b"another")
        assert completions(client) == before
        assert "restart midspan" in shown_message(client)
        assert "has changed" in client.state("degraded")
        shutil.rmtree(folder)
        assert completions(client) == before
        assert client.leave() == 0


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_the_checkpoints_files_are_checked_once_a_minute(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("one")
    now = 0.0
    replaced = CheckpointWatch(str(tmp_path), clock=lambda: now)
    assert replaced.message() is None
    (tmp_path / "README.md").write_text("Its card is not read.")
    now = 60.0
    assert replaced.message() is None
    (tmp_path / name).write_text("another")
    assert replaced.message() is None
    now = 120.0
    assert str(tmp_path) in (replaced.message() or "")
    now = 180.0
    assert replaced.message() is None


@pytest.mark.parametrize("name", ["a.gguf", "a.gguf.midspan.json"])
def test_a_gguf_file_and_its_settings_are_checked(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.gguf").write_text("one")
    (tmp_path / "b.gguf").write_text("one")
    now = 0.0
    replaced = CheckpointWatch(str(tmp_path / "a.gguf"), clock=lambda: now)
    (tmp_path / "b.gguf").write_text("another")
    now = 60.0
    assert replaced.message() is None
    (tmp_path / name).write_text("another")
    now = 120.0
    assert str(tmp_path / "a.gguf") in (replaced.message() or "")


def folder_in_the_way(state: Path) -> None:
    (state / FILE_NAME).mkdir(parents=True)


def not_a_database(state: Path) -> None:
    state.mkdir()
    (state / FILE_NAME).write_bytes(b"text" * 1000)


def read_only_folder(state: Path) -> None:
    state.mkdir(mode=0o500)


def read_only_file(state: Path) -> None:
    state.mkdir()
    with closing(sqlite3.connect(state / FILE_NAME)) as store:
        store.execute("PRAGMA user_version = 0")
        store.execute("CREATE TABLE something (x)")
    (state / FILE_NAME).chmod(0o400)
    state.chmod(0o500)


@pytest.mark.parametrize("spoil", [folder_in_the_way, not_a_database, read_only_folder, read_only_file])
def test_an_unusable_state_folder_is_reported_once_and_completion_goes_on(
    tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    state = tmp_path / "state"
    spoil(state)
    try:
        with connected(state, "--obey-permissions") as client:
            begun = begin(client)
            assert completions(client) == [[TEXT]] * 3
            assert "--state-dir" in shown_message(client)
            assert "no telemetry" in degraded(client, begun)
            assert completions(client) == [[TEXT]] * 3
            assert client.leave() == 0
    finally:
        state.chmod(0o700)


def test_a_store_removed_while_in_use_does_no_harm(tmp_path: Path) -> None:
    with connected(tmp_path) as client:
        begin(client)
        assert completions(client) == [[TEXT]] * 3
        for file in tmp_path.iterdir():
            file.unlink()
        (tmp_path / FILE_NAME).mkdir()
        assert completions(client) == [[TEXT]] * 3
        client.send(call(9999, "shutdown"), call(None, "exit"))
        client.answer(9999)
        client.process.wait(60)


def test_a_full_disk_under_the_log_is_reported_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"x" * 40_000)
    with connected(tmp_path / "state", "--log-file", str(log), "--file-limit", "40000") as client:
        begun = begin(client)
        assert "--log-file" in shown_message(client)
        assert "no log" in degraded(client, begun)
        client.open("crash")
        assert client.ask(complete(1, 0, 5)) is None
        assert "log says why" in shown_message(client)
        assert completions(client) == [[TEXT]] * 3
        client.send(call(9999, "shutdown"), call(None, "exit"))
        client.answer(9999)
        assert client.process.wait(60) == 0
        assert "Logging error" not in client.stderr


def test_two_servers_with_one_state_folder_both_store_their_rows(tmp_path: Path) -> None:
    with connected(tmp_path) as one, connected(tmp_path) as other:
        one.start()
        other.start()
        assert completions(one) == completions(other) == [[TEXT]] * 3
        assert one.leave() == other.leave() == 0
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as store:
        assert store.execute("SELECT count(*) FROM completion").fetchone() == (6,)


def test_a_killed_server_leaves_a_store_that_the_next_can_use(tmp_path: Path) -> None:
    with connected(tmp_path) as client:
        client.start()
        assert completions(client) == [[TEXT]] * 3
        client.open("forever")
        client.send(complete(1, 0, 7))
        client.process.kill()
        client.process.wait(60)
    with connected(tmp_path) as client:
        client.start()
        assert completions(client) == [[TEXT]] * 3
        assert client.leave() == 0
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as store:
        (count,) = store.execute("SELECT count(*) FROM completion").fetchone()
        assert count >= 3
        assert store.execute("PRAGMA integrity_check").fetchone() == ("ok",)
