"""The command line: fills of awkward files, one line for every mistake, and the JSON of the contract."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from midspan.server.cli import main, state_home
from midspan.server.commands.fill import in_place, open_document
from midspan.server.text.documents import Document
from tests.engine.tiny import tiny_checkpoint
from tests.server.scripted import ScriptedEngine


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_checkpoint(tmp_path_factory.mktemp("checkpoint")))


def run(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of one command in this process."""
    try:
        code = main(list(argv))
    except SystemExit as ended:
        code = int(str(ended.code))
    out, err = capsys.readouterr()
    return code, out, err


def fill_json(capsys: pytest.CaptureFixture[str], checkpoint: str, file: Path, *argv: str) -> dict[str, object]:
    code, out, err = run(capsys, "fill", str(file), "--checkpoint", checkpoint, "--json", *argv)
    assert code == 0, err
    found = json.loads(out)
    assert isinstance(found, dict)
    return found


KEYS = {"text", "confidence", "candidates", "steps", "stopped", "checkpoint", "device", "latency_ms"}


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("def add(a, b):\n    return \n", "2:12"),
        ("", "1:1"),
        ("def f(:\n  )) x = (\n", "2:9"),
        ("a = 1\r\nb = \r\n", "2:5"),
        ("𝒳 = '😀'; y = \n", "1:14"),
        ("\ufeffx = \n", "1:5"),
        ("x\x0cy\u2028z = \n", "1:9"),
        ("x = 1", "1:99"),
    ],
    ids=["plain", "empty", "does not parse", "CRLF", "astral", "BOM", "not line ends", "past the line's end"],
)
def test_awkward_files_are_filled(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, checkpoint: str, text: str, at: str
) -> None:
    file = tmp_path / "a.py"
    file.write_bytes(text.encode())
    found = fill_json(capsys, checkpoint, file, "--at", at)
    assert found.keys() == KEYS
    latency = found["latency_ms"]
    assert isinstance(latency, dict)
    assert latency.keys() == {"total", "encode", "denoise", "rank"}
    assert found["checkpoint"] == checkpoint


def test_candidates_seed_and_span(capsys: pytest.CaptureFixture[str], tmp_path: Path, checkpoint: str) -> None:
    file = tmp_path / "a.py"
    file.write_text("def add(a, b):\n    # it is a - b\n\n    return a\n")
    options = ("--at", "2:12", "--to", "2:17", "--candidates", "3", "--seed", "7")
    one = fill_json(capsys, checkpoint, file, *options)
    two = fill_json(capsys, checkpoint, file, *options)
    assert one["candidates"] == two["candidates"]
    assert isinstance(one["candidates"], list)
    assert 1 <= len(one["candidates"]) <= 3
    assert file.read_text() == "def add(a, b):\n    # it is a - b\n\n    return a\n"


def test_watch_prints_every_step(capsys: pytest.CaptureFixture[str], tmp_path: Path, checkpoint: str) -> None:
    file = tmp_path / "a.py"
    file.write_text("x = \ny = 2\n")
    code, out, _ = run(capsys, "fill", str(file), "--at", "1:5", "--watch", "--checkpoint", checkpoint)
    assert code == 0
    drawn = [line for line in out.splitlines() if line.startswith("step ")]
    # If the fill does not parse, the steps of a repair follow.
    assert [line.split()[1] for line in drawn[:4]] == ["1/4", "2/4", "3/4", "4/4"]
    assert all("⏎y = 2" in line for line in drawn)


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (["fill", "FOLDER/none.py", "--at", "1:1"], 1, "no such file"),
        (["fill", "FOLDER", "--at", "1:1"], 1, "a folder; give a file"),
        (["fill", "FOLDER/pipe.py", "--at", "1:1"], 1, "give a plain file"),
        (["fill", "/dev/zero", "--at", "1:1"], 1, "give a plain file"),
        (["fill", "FOLDER/huge.py", "--at", "1:1"], 1, "over 32 MB"),
        (["fill", "FOLDER/latin.py", "--at", "1:1"], 1, "not UTF-8 at byte 5"),
        (["fill", "FOLDER/a.py", "--at", "9:1"], 1, "past the last one, 2"),
        (["fill", "FOLDER/a.py", "--at", "1:3", "--to", "1:2"], 1, "swap them"),
        (["fill", "FOLDER/a.py", "--at", "0:1"], 2, "not LINE:COL"),
        (["fill", "FOLDER/a.py", "--at", "1"], 2, "not LINE:COL"),
        (["fill", "FOLDER/a.py"], 2, "--at"),
        (["fill", "FOLDER/a.py", "--at", "1:1", "--candidates", "0"], 2, "not a number from 1"),
        (["fill", "FOLDER/a.py", "--at", "1:1", "--checkpoint", "FOLDER/nowhere/x/y"], 1, "no such folder"),
        (["fill", "FOLDER/a.py", "--at", "1:1", "--checkpoint", "FOLDER"], 1, "config.json: missing"),
        (["fill", "FOLDER/a.py", "--at", "1:1", "--candidates", "100000"], 2, "20 at most"),
        (["fill", "FOLDER/a.py", "--at", "1:1", "--seed", "-1"], 2, "not a number from 0"),
        (["fill", "FOLDER/a.py", "--at", "1:1", "--seed", "4294967296"], 2, "not a number from 0"),
        (["fill", "FOLDER/a.py", "--at", "1:1", "--log-file", "FOLDER/none/log"], 1, "give a --log-file"),
        (["fill", "FOLDER/a.py", "--at", "1:1", "--to", "9:1"], 1, "past the last one, 2"),
        (["fill", "FOLDER/key.py", "--at", "1:1"], 1, "key.py: a private key stands near the gap"),
        (["bench", "quality", "--tasks", "FOLDER/none.jsonl"], 1, "No such file"),
        (["bench", "quality", "--tasks", "FOLDER/a.py"], 1, "HumanEval-Infilling's schema"),
        (["bench", "quality", "--tasks", "FOLDER/empty.jsonl"], 1, "holds no task"),
        (["bench", "quality", "--tasks", "FOLDER/bad.jsonl.gz"], 1, "bad.jsonl.gz"),
        (["bench", "quality", "--tasks", "FOLDER/corrupt.jsonl.gz"], 1, "corrupt.jsonl.gz"),
        (["bench", "quality", "--tasks", "FOLDER/late.jsonl"], 1, "late.jsonl:2: "),
        (["nonsense"], 2, "invalid choice"),
    ],
)
def test_a_mistake_is_reported_with_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, argv: list[str], code: int, said: str
) -> None:
    (tmp_path / "a.py").write_text("x = 1\n")
    (tmp_path / "key.py").write_text("x = \n'''-----BEGIN " + "PRIVATE KEY-----\n'''\n")
    (tmp_path / "latin.py").write_bytes(b"x = '\xe9'\n")
    os.mkfifo(tmp_path / "pipe.py")
    with (tmp_path / "huge.py").open("wb") as huge:
        huge.truncate((32 << 20) + 1)
    (tmp_path / "empty.jsonl").write_text("\n")
    (tmp_path / "bad.jsonl.gz").write_text("not gzip")
    (tmp_path / "corrupt.jsonl.gz").write_bytes(gzip.compress(b"")[:10] + b"\xff" * 20)
    (tmp_path / "late.jsonl").write_text("\n{}\n")
    found, out, err = run(capsys, *(word.replace("FOLDER", str(tmp_path)) for word in argv))
    assert (found, out) == (code, "")
    assert said in err
    assert len(err.splitlines()) == 1, err


def test_the_fill_is_shown_between_its_lines() -> None:
    lines = [f"line {number}\n" for number in range(1, 10)]
    lines[4] = "def f(x):\n"
    shown = in_place(Document("a.py", "python", 0, "".join(lines)), (4, 6), (4, 7), "left, right")
    assert shown.plain == "line 3\nline 4\ndef f(left, right):\nline 6\nline 7"
    (marked,) = [span for span in shown.spans if "green" in str(span.style)]
    assert shown.plain[marked.start : marked.end] == "left, right"
    assert in_place(Document("a.py", "python", 0, ""), (0, 0), (0, 0), "x").plain == "x"


def test_an_empty_fill_leaves_stdout_empty(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.py"
    file.write_text("empty")
    monkeypatch.setattr("midspan.engine.load", lambda checkpoint, device, judge: ScriptedEngine())
    assert run(capsys, "fill", str(file), "--at", "1:6") == (0, "", "midspan: nothing to insert here\n")
    file.write_text("several")
    assert run(capsys, "fill", str(file), "--at", "1:8")[1] == "list + range\n"


def test_what_an_editor_would_not_be_offered_is_not_printed(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("midspan.engine.load", lambda checkpoint, device, judge: ScriptedEngine())
    nothing = (0, "", "midspan: nothing to insert here\n")
    (tmp_path / "a.py").write_text("x = 1\nx()\n")
    assert run(capsys, "fill", str(tmp_path / "a.py"), "--at", "1:6") == nothing, "`1list + range` is no Python"
    (tmp_path / "a.py").write_text("x = 1 + \\\n    2\n")
    assert run(capsys, "fill", str(tmp_path / "a.py"), "--at", "1:10") == nothing, "behind a backslash nothing fits"


def test_the_command_that_the_readme_has_people_try_fills_something(capsys: pytest.CaptureFixture[str]) -> None:
    root = Path(__file__).parents[2]
    found = re.search(r"Try `\.venv/bin/midspan (fill .*?)`", (root / "README.md").read_text(encoding="utf-8"))
    assert found is not None
    command, file, *rest = found[1].split()
    code, out, err = run(capsys, command, str(root / file), *rest)
    assert (code, err) == (0, "")
    at, to = (int(place.partition(":")[2]) - 1 for place in (rest[1], rest[3]))
    line = (root / file).read_text(encoding="utf-8").splitlines()[int(rest[1].partition(":")[0]) - 1]
    assert out.strip() == line[at:to]


@pytest.mark.parametrize(("name", "note"), [("a.go", "go"), ("a.unknown", "plaintext"), ("a.py", "")])
def test_a_language_that_was_not_trained_is_reported(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, note: str
) -> None:
    (tmp_path / name).write_text("x = ")
    monkeypatch.setattr("midspan.engine.load", lambda checkpoint, device, judge: ScriptedEngine())
    said = f"midspan: scripted was trained on python, not on {note}\n" if note else ""
    assert run(capsys, "fill", str(tmp_path / name), "--at", "1:5") == (0, "list + range\n", said)


def test_the_log_file_is_written_by_any_command(tmp_path: Path, checkpoint: str) -> None:
    file, log = tmp_path / "a.py", tmp_path / "log"
    file.write_text("hunter2 = \n")
    argv = ["fill", str(file), "--at", "1:11", "--checkpoint", checkpoint, "--log-file", str(log)]
    command = [sys.executable, "-m", "midspan.server", *argv]
    subprocess.run(command, capture_output=True, timeout=60, check=True)
    assert f"loaded {checkpoint}" in log.read_text()
    assert "hunter2" not in log.read_text()


def test_the_module_runs_the_command_line() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "midspan.server", "--version"], capture_output=True, text=True, timeout=60, check=True
    )
    assert ran.stdout.strip() == "0.1.0"


def test_the_command_line_does_not_import_torch() -> None:
    modules = "midspan.server.cli, midspan.server.commands.fill, midspan.server.commands.doctor"
    code = f"import sys, {modules}; print('torch' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.strip() == "False"


def test_the_state_folder_is_the_usual_one_of_the_platform() -> None:
    if sys.platform == "linux":
        assert state_home({"XDG_STATE_HOME": "/state"}) == Path("/state/midspan")
        assert state_home({}) == Path.home() / ".local" / "state" / "midspan"


def test_a_large_file_is_parsed_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("midspan.server.text.documents.PATIENCE_S", 0.0)
    (tmp_path / "a.py").write_text("def f(a):\n    b = 1\n" * 1000)
    assert open_document(tmp_path / "a.py").syntax is not None
