"""Command `bench keystroke`: real server processes over stdio, with the scripted engine and with a tiny real one."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from lsprotocol import types

from midspan.server.bench.keystroke import LONG, LONG_KEYS, OPTIONS, measure, recorded, saved
from midspan.server.cli import main
from midspan.server.client.pipes import Pipes
from midspan.server.client.typist import peak_rss_mb, typing
from midspan.server.commands.errors import CommandError
from tests.engine.tiny import tiny_checkpoint
from tests.server.scripted import TEXT

SCRIPT = Path(__file__).parents[1] / "scripted_serve.py"
RECORDED = Path(__file__).parents[3] / "fixtures" / "keystroke"
WAIT_S = 60


def scripted(tmp_path: Path, *options: str) -> list[str]:
    """The server's command line with the scripted engine; the state folder is still to be added."""
    return [sys.executable, str(SCRIPT), "--log-file", str(tmp_path / "server.log"), *options]


# Names are not judged behind such an import: what the scripted engine writes runs into the letters typed.
async def test_every_key_is_answered_and_an_exact_rest_of_the_line_saves_keys(tmp_path: Path) -> None:
    # Of the second line "ab = " is typed, and the rest is accepted with one key.
    text = f"from all import *\nab = {TEXT}\n"
    found = await asyncio.wait_for(measure({"a.py": text}, scripted(tmp_path), 100, 0.5), WAIT_S)
    keys = len(f"ab = {TEXT}")
    assert (found["keystrokes"], found["longest_file_lines"]) == (keys, 2)
    # Plausible for a Python process with a language server.
    assert (found["rss_mb"] or 0) > 20 or sys.platform != "linux"
    # The engine gets requests for "a" to "ab = ", and one after its whole text was typed; after "ab " its text would be
    # a syntax error.
    assert (found["offered"], found["typed_along"]) == (5, len(TEXT) - 1)
    assert found["saved"] == 1 - len("ab = ") / keys - 1 / keys
    response, along = found["response_ms"], found["typed_along_ms"]
    assert 0 < response["p50"] <= response["p95"] <= response["p99"]
    assert 0 < along["p50"] <= along["p95"] <= along["p99"] <= response["p99"]


async def test_the_servers_own_time_is_the_response_time_minus_the_engines_time(tmp_path: Path) -> None:
    found = await asyncio.wait_for(
        measure({"a.py": "from all import *\nabcdef\n"}, scripted(tmp_path), 100, 0.5), WAIT_S
    )
    assert (found["offered"], found["typed_along"], found["typed_along_ms"]) == (6, 0, None)
    assert found["from_engine_ms"] == found["response_ms"]
    # The scripted engine reports 1 ms for each fill.
    assert {name: round(ms + 1, 2) for name, ms in found["server_ms"].items()} == found["response_ms"]


async def test_the_long_file_has_figures_of_its_own_and_the_start_is_timed(tmp_path: Path) -> None:
    files = {"a.py": "from all import *\nab = 1\n", "long.py": "from all import *\nx\n"}
    found = await asyncio.wait_for(measure(files, scripted(tmp_path), 100, 0.5), WAIT_S)
    assert (found["offered"], found["offered_long"]) == (5, 1)
    # The text has one key.
    assert found["server_long_ms"]["p50"] == found["server_long_ms"]["p99"] <= found["server_ms"]["p99"]
    # Most of the time is the interpreter's start and the imports.
    assert 0 < found["initialize_ms"] < found["start_ms"]
    alone = await asyncio.wait_for(measure({"a.py": files["a.py"]}, scripted(tmp_path), 100, 0.5), WAIT_S)
    assert alone["server_long_ms"] is None


async def test_the_limit_counts_keys_of_each_file(tmp_path: Path) -> None:
    files = {"a.py": "\nabcdef\n", "b.py": "\n    ghi\n", LONG: "\n" + "x" * 99}
    found = await asyncio.wait_for(measure(files, scripted(tmp_path), 4, 0.5), WAIT_S)
    assert found["keystrokes"] == 4 + 3 + LONG_KEYS * 4


async def test_the_servers_document_equals_the_typed_text_at_every_key(tmp_path: Path) -> None:
    # The scripted engine answers "echo" with the hole.
    text = "first\n    echo  # x\n\n  echo y\nlast\n"
    async with typing([*scripted(tmp_path), "--state-dir", str(tmp_path)], OPTIONS) as typist:
        uri = "file:///bench/a.py"
        typist.open(uri, text)
        typist.replace(uri, 1, 4, 13, "")
        for column, letter in enumerate("echo", 4):
            typist.replace(uri, 1, column, column, letter)
        _, asked = await typist.complete(uri, types.Position(1, 8))
    assert json.loads(asked)[:2] == ["first\n    echo", "\n\n  echo y\nlast\n"]


async def test_the_time_to_cancel_excludes_requests_answered_before(tmp_path: Path) -> None:
    async with typing([*scripted(tmp_path), "--state-dir", str(tmp_path)], OPTIONS) as typist:
        typist.open("file:///a.py", "forever")
        typist.open("file:///b.py", "# nothing that lasts")
        # Without cancelling, the first request would never be answered.
        cancelled = await asyncio.wait_for(typist.cancel("file:///a.py", types.Position(0, 7), "one"), WAIT_S)
        unknown = await asyncio.wait_for(typist.cancel("file:///none.py", types.Position(0, 0), "two"), WAIT_S)
    assert cancelled is not None
    assert cancelled > 0
    assert unknown is None


async def test_a_server_that_cannot_load_is_reported_with_one_line(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"^x: broken; fix x$"):
        async with typing([*scripted(tmp_path, "--refuse", "x: broken; fix x"), "--state-dir", str(tmp_path)], OPTIONS):
            raise AssertionError("the server is ready")


async def test_a_server_that_cannot_start_is_reported_with_its_last_line_of_stderr(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import sys; sys.exit('midspan: no such thing; fix it')"]
    with pytest.raises(CommandError, match=r"^no such thing; fix it$"):
        async with typing(command, OPTIONS):
            raise AssertionError("the server is ready")


def test_peak_memory_is_that_of_one_process_and_does_not_shrink() -> None:
    grown = "import sys; x = bytearray(b'x' * 200_000_000); del x; print(flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", grown], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        peak = peak_rss_mb(process.pid)
        process.communicate()
    if sys.platform == "linux":
        assert peak is not None
        assert 200 < peak < 450
    else:
        assert peak is None


def test_only_exact_confident_suggestions_save_keys() -> None:
    seen = [("1", "", "bcd"), ("2", "cd", "cd"), ("3", "d", "d"), ("4", "", "")]
    sure = dict.fromkeys("1234", 0.9)
    # Three keys (a, b, accept) in place of four.
    assert saved(seen, sure, 0.5) == 1 - 3 / 4
    assert saved(seen, sure, 0.95) == 0
    assert saved([("1", "xx", "bcd"), *seen[1:]], sure, 0.5) == 1 - 3 / 4
    assert saved([(id, "", rest) for id, _, rest in seen], sure, 0.5) == 0


def test_the_recorded_files_are_ascii_and_one_is_long(tmp_path: Path) -> None:
    files = recorded(RECORDED, 1000)
    assert len(files) == 3
    assert all(text.isascii() for text in files.values())
    assert files["long.py"].count("\n") == 1000
    with pytest.raises(CommandError, match="repository's root"):
        recorded(tmp_path, 1000)


def test_the_command_prints_one_object(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "fixtures" / "keystroke"
    folder.mkdir(parents=True)
    (folder / "words.py").write_text("def add(a, b):\n    return a + b\n\n\nprint(add(1, 2))\n")
    (tmp_path / "checkpoint").mkdir()
    monkeypatch.chdir(tmp_path)
    argv = ["bench", "keystroke", "--json", "--limit", "1"]
    code = main([*argv, "--checkpoint", str(tiny_checkpoint(tmp_path / "checkpoint"))])
    out, err = capsys.readouterr()
    assert code == 0, err
    found = json.loads(out.splitlines()[-1])
    assert {"response_ms", "server_ms", "cancel_ms", "saved", "checkpoint", "device"} <= set(found)
    assert (found["keystrokes"], found["device"]) == (1 + LONG_KEYS, "cpu")


async def test_times_are_taken_at_the_pipes_and_exclude_the_clients_work() -> None:
    """`sent` is the time before a message is written; `came` is the time when its body arrived, not when it is read."""
    reader, times = asyncio.StreamReader(), list[float]()

    class Sink(asyncio.WriteTransport):
        def write(self, data: bytes | bytearray | memoryview) -> None:
            times.append(time.perf_counter())

        def is_closing(self) -> bool:
            return True

    loop = asyncio.get_running_loop()
    pipes = Pipes(reader, asyncio.StreamWriter(Sink(), asyncio.StreamReaderProtocol(reader), reader, loop))
    pipes.write(b"question")
    assert 0 < pipes.sent <= times[0]
    body = asyncio.ensure_future(pipes.readexactly(6))
    await asyncio.sleep(0)
    assert not pipes.came
    fed = time.perf_counter()
    reader.feed_data(b"answer")
    assert await body == b"answer"
    assert fed <= pipes.came <= time.perf_counter()
