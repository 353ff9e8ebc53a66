"""Commands in a working folder that was removed: they run, and refuse a relative path with one line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

import midspan
from midspan.server.cli import main
from tests.engine.tiny import tiny_checkpoint
from tests.server.raw_client import RawClient, complete

GONE = 'mkdir "$1" && cd "$1" && rmdir "$1" && shift && exec "$@"'
MODULE = (sys.executable, "-m", "midspan.server")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_checkpoint(tmp_path_factory.mktemp("checkpoint")))


@pytest.fixture(autouse=True)
def absolute_pythonpath(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set absolute entries of PYTHONPATH, as relative ones cannot be resolved in a removed folder."""
    source = str(Path(str(midspan.__file__)).parents[1])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([source, str(Path(__file__).parents[3])]))


def in_gone_folder(tmp_path: Path, *command: str) -> list[str]:
    """The command line that runs another one in a removed folder."""
    return ["sh", "-c", GONE, "sh", str(tmp_path / "gone"), *command]


def ran(tmp_path: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(in_gone_folder(tmp_path, *command), capture_output=True, text=True, timeout=100)


@pytest.fixture
def in_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process works in a removed folder."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "here").rmdir()


def test_a_gap_is_filled(tmp_path: Path, checkpoint: str) -> None:
    file = tmp_path / "a.py"
    file.write_text("x = \n")
    found = ran(tmp_path, *MODULE, "fill", str(file), "--at", "1:5", "--checkpoint", checkpoint)
    assert found.returncode == 0, found.stderr


@pytest.mark.usefixtures("in_gone")
@pytest.mark.parametrize("more", [["--watch"], ["--explain"], ["--json"]], ids=str)
def test_a_gap_is_filled_and_more_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], checkpoint: str, more: Sequence[str]
) -> None:
    file = tmp_path / "a.py"
    file.write_text("x = \n")
    code = main(["fill", str(file), "--at", "1:5", "--checkpoint", checkpoint, *more])
    assert code == 0, capsys.readouterr().err


@pytest.mark.usefixtures("in_gone")
def test_doctor_needs_no_fix(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["doctor", "--state-dir", str(tmp_path / "state")])
    said = capsys.readouterr()
    assert (code, said.out.splitlines()[-1]) == (0, "all is well"), said.out + said.err


def test_the_demo_runs(tmp_path: Path) -> None:
    found = ran(tmp_path, sys.executable, "-m", "midspan.server.commands.demo")
    assert found.returncode == 0, found.stderr
    assert "exactly as it stood there" in found.stdout


def test_the_server_serves_and_its_store_is_reported(tmp_path: Path, checkpoint: str) -> None:
    state = tmp_path / "state"
    options = ("--checkpoint", checkpoint, "--device", "cpu", "--state-dir", str(state))
    client = RawClient(in_gone_folder(tmp_path, *MODULE, "serve", *options))
    try:
        client.start({"show_threshold": 0.0})
        client.open("x = ")
        client.exchange(complete(1, 0, 4, invoked=True))
        assert client.leave() == 0
    finally:
        client.process.kill()
        client.process.wait(60)
        for stream in (client.process.stdin, client.process.stdout, client.process.stderr):
            assert stream is not None
            stream.close()
    page = tmp_path / "page.html"
    found = ran(tmp_path, *MODULE, "report", "--state-dir", str(state), "--html", str(page))
    assert (found.returncode, found.stderr) == (0, "")
    assert page.exists()


@pytest.mark.parametrize("what", ["quality", "keystroke", "soak", "replay", "kernels"])
def test_help_is_printed(tmp_path: Path, what: str) -> None:
    found = ran(tmp_path, *MODULE, "bench", what, "--help")
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout.startswith("usage:")


@pytest.mark.parametrize(
    "command",
    [
        "fill a.py --at 1:1",
        "fill /a.py --at 1:1 --checkpoint ./model",
        "fill /a.py --at 1:1 --checkpoint model",
        "serve --log-file log",
        "serve --state-dir state",
        "report --html page.html",
        "bench quality --tasks tasks.jsonl",
        "bench replay --files files.jsonl",
    ],
)
def test_a_relative_path_is_refused_with_one_line(tmp_path: Path, command: str) -> None:
    found = ran(tmp_path, *MODULE, *command.split())
    assert (found.returncode, found.stdout) == (1, "")
    assert found.stderr.endswith(": the working folder is gone; give the whole path, or go to a folder that exists\n")
    assert found.stderr.count("\n") == 1
