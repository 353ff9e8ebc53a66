"""Command `bench load`: people who type against servers of the tests, and against one engine in turns."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from midspan.engine.api import Engine
from midspan.server.bench import load as module
from midspan.server.bench.load_figures import lines
from midspan.server.bench.people import Rhythm
from midspan.server.cli import main
from midspan.server.commands.loading import load_shown
from tests.engine.remote.http_server import Asked as Request
from tests.engine.remote.http_server import HttpServer, Reply, json_reply
from tests.engine.remote.test_llama_server import end, piece
from tests.engine.tiny import tiny_checkpoint

# Answers of a machine that is busy come before the next key, and before anything waits for one.
EVEN = Rhythm(key_s=0.25, key_spread=0.1, line_s=0.2, line_spread=0.1)
FILES = {"a.py": "first = 11\nsecond = 22\n\n    third = 33  \n", "b.py": "fourth = 44\nfifth = 55\n"}
LINES = [line.strip() for text in FILES.values() for line in text.split("\n") if line.strip()]
WAIT_S = 60.0


def rest_of(line: str) -> str:
    """What a line of FILES goes on with, nothing where several do or none does."""
    goes_on = {whole[len(line.strip()) :] for whole in LINES if whole.startswith(line.strip())}
    return goes_on.pop() if len(goes_on) == 1 and line.strip() else ""


def llama_server(fill: Callable[[Request], Reply]) -> Callable[[Request], Reply]:
    """A llama-server that is well, and answers gaps so."""

    def answer(asked: Request) -> Reply:
        if asked.path == "/v1/models":
            return json_reply({"data": [{"id": "qwen.gguf"}]})
        if asked.path != "/infill":
            return json_reply({"error": {"code": 501, "message": "start it with --metrics"}}, 501)
        if "input_prefix" not in asked.body:
            return json_reply({"error": {"code": 400, "message": "input_prefix is required"}}, 400)
        return fill(asked)

    return answer


def knowing(asked: Request) -> Reply:
    """Writes the rest of the line."""
    return Reply(
        headers={"content-type": "text/event-stream"}, chunks=[piece(rest_of(asked.body["prompt"]), -0.01), end()]
    )


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setattr(module, "RHYTHM", EVEN)
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    return [str(tmp_path / name) for name in FILES]


def configure(folder: Path, url: str) -> None:
    (folder / "midspan").mkdir()
    table = f'[[backends]]\nname = "there"\nkind = "llama-server"\naddress = "{url}"\n'
    (folder / "midspan" / "config.toml").write_text(table)


def run(capsys: pytest.CaptureFixture[str], *argv: str) -> dict[str, Any]:
    code = main(["bench", "load", *argv, "--json"])
    out, err = capsys.readouterr()
    assert code == 0, err
    found: dict[str, Any] = json.loads(out.splitlines()[-1])
    return found


def test_many_people_type_and_take_what_is_right(
    capsys: pytest.CaptureFixture[str], files: list[str], tmp_path: Path
) -> None:
    with HttpServer(llama_server(knowing)) as server:
        configure(tmp_path, server.url)
        found = run(
            capsys,
            "--backend",
            "there",
            "--users",
            "3",
            "--seconds",
            "4",
            "--files",
            *files,
            "--price-per-hour",
            "36",
        )
        gaps = [asked.body for asked in server.asked if asked.path == "/infill" and "input_prefix" in asked.body]
    assert (found["users"], found["texts"], found["checkpoint"], found["interrupted"]) == (3, 2, "there", False)
    assert found["accepted"] > 0
    assert found["keys"] > found["lines"] > 3
    assert 0 < found["first_useful_ms"]["p50"] <= found["first_useful_ms"]["p95"] < 1000
    assert found["errors"] == {}
    # One connection each, and one of the probe and the counts.
    assert server.connections >= 4
    # Each types in a file of its own, as far as there are files.
    around = [body["input_prefix"] + body["input_suffix"] for body in gaps]
    assert any("= 33" in text for text in around)
    assert any("= 55" in text for text in around)
    # It has written these milliseconds itself.
    assert found["queue_ms"]["p50"] >= 0
    # A server that counts nothing: its pieces are passes, and how busy it was is not known.
    assert (found["forwards_by"], found["at_work"], found["utilisation"]) == ("pieces that came", None, None)
    assert found["forwards_per_accepted"] == found["forwards"] / found["accepted"]
    assert found["price_per_accepted"] == pytest.approx(found["device_s_per_accepted"] * 36 / 3600, rel=0.01)


def test_a_key_ends_the_request_before_it(capsys: pytest.CaptureFixture[str], files: list[str], tmp_path: Path) -> None:
    with HttpServer(llama_server(lambda _: Reply(hangs=True))) as server:
        configure(tmp_path, server.url)
        found = run(capsys, "--backend", "there", "--users", "2", "--seconds", "2", "--files", *files)
        assert server.gone.wait(WAIT_S)
    assert found["cancelled"] == found["cancelled_time"] == 1.0
    assert found["requests"] > 1
    assert (found["accepted"], found["first_useful_ms"], found["device_s_per_accepted"]) == (0, None, None)
    assert "cost of an accepted edit: none was accepted" in [*lines(found)]


def test_errors_are_counted_by_kind(capsys: pytest.CaptureFixture[str], files: list[str], tmp_path: Path) -> None:
    refusing = llama_server(lambda _: json_reply({"error": {"code": 429, "message": "slowly"}}, 429))
    with HttpServer(refusing) as server:
        configure(tmp_path, server.url)
        found = run(capsys, "--backend", "there", "--users", "2", "--seconds", "2", "--files", *files)
    assert found["errors"].keys() == {"status 429"}
    assert found["requests"] >= found["errors"]["status 429"] > 0
    assert any(line.startswith("errors: status 429: ") for line in lines(found))


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (
            ["--backend", "nobody", "--users", "2"],
            1,
            "--backend nobody: no engine has this name; give one of diffusion,",
        ),
        (["--backend", "there", "--users", "2"], 1, "nothing answers there; start the server or correct its address"),
        (["--backend", "there", "--users", "0"], 2, "'0' is not a number of people from 1 to 1000"),
        (["--backend", "there", "--users", "1001"], 2, "'1001' is not a number of people from 1 to 1000"),
        (["--backend", "there", "--users", "few"], 2, "'few' is not a number of people"),
        (["--backend", "there", "--users", "2", "--seconds", "nan"], 2, "'nan' is not a number of seconds up to 3600"),
        (["--backend", "there", "--users", "2", "--seconds", "-1"], 2, "'-1' is not a number of seconds"),
        (["--backend", "there", "--users", "2", "--price-per-hour", "free"], 2, "'free' is not a price above 0"),
        (["--backend", "there", "--users", "2", "--price-per-hour", "inf"], 2, "'inf' is not a price above 0"),
        (["--backend", "there", "--users", "2", "--files", "FOLDER/none.py"], 1, "none.py: No such file or directory;"),
        (["--backend", "there", "--users", "2", "--files", "FOLDER/empty.py"], 1, "empty.py: holds no line to type"),
        (["--backend", "there", "--users", "2", "--files", "FOLDER/latin.py"], 1, "latin.py: not UTF-8 at byte 1"),
        (["--users", "2"], 2, "--backend"),
    ],
)
def test_a_mistake_is_one_line(
    capsys: pytest.CaptureFixture[str], files: list[str], tmp_path: Path, argv: list[str], code: int, said: str
) -> None:
    with HttpServer(lambda _: pytest.fail("nobody asks")) as gone:
        configure(tmp_path, gone.url)
    (tmp_path / "empty.py").write_text("\n \n")
    (tmp_path / "latin.py").write_bytes(b"x\xe9")
    try:
        ended = main(["bench", "load", *(word.replace("FOLDER", str(tmp_path)) for word in argv)])
    except SystemExit as error:
        ended = int(str(error.code))
    out, err = capsys.readouterr()
    assert (ended, out) == (code, "")
    assert said in err
    assert len(err.splitlines()) == 1, err


def test_a_server_whose_model_fills_no_gaps_is_one_line(
    capsys: pytest.CaptureFixture[str], files: list[str], tmp_path: Path
) -> None:
    def without(asked: Request) -> Reply:
        return json_reply({"data": []}) if asked.path == "/v1/models" else json_reply({"error": {"code": 501}}, 501)

    with HttpServer(without) as server:
        configure(tmp_path, server.url)
        assert main(["bench", "load", "--backend", "there", "--users", "1"]) == 1
    assert "there serves a model that fills no gaps" in capsys.readouterr().err


def test_an_interrupt_prints_what_there_is(files: list[str], tmp_path: Path) -> None:
    typed = threading.Event()

    def answer(asked: Request) -> Reply:
        typed.set()
        return knowing(asked)

    with HttpServer(llama_server(answer)) as server:
        configure(tmp_path, server.url)
        command = [sys.executable, "-m", "midspan.server", "bench", "load", "--backend", "there", "--users", "5"]
        process = subprocess.Popen(
            [*command, "--seconds", "600", "--json", "--files", *files],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"XDG_CONFIG_HOME": str(tmp_path)},
            text=True,
        )
        assert typed.wait(WAIT_S)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=WAIT_S)
    found = json.loads(out)
    assert process.returncode == 130
    assert found["interrupted"]
    assert 0 < found["seconds"] < 600
    assert found["keys"] >= 1


def test_people_share_the_local_checkpoint_which_is_loaded_once(
    capsys: pytest.CaptureFixture[str], files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = list[str]()

    def noted(checkpoint: str, device: str) -> Engine:
        loaded.append(checkpoint)
        return load_shown(checkpoint, device)

    monkeypatch.setattr(module, "load_shown", noted)
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    checkpoint = str(tiny_checkpoint(folder))
    found = run(
        capsys,
        "--backend",
        "diffusion",
        "--users",
        "4",
        "--seconds",
        "3",
        "--files",
        *files,
        "--checkpoint",
        checkpoint,
    )
    assert loaded == [checkpoint]
    assert (found["users"], found["device"], found["slots"], found["forwards_by"]) == (
        4,
        "cpu",
        1.0,
        "steps of the engine",
    )
    assert found["requests"] > 4
    assert found["forwards"] > 0
    # No two fills run at once.
    assert 0 < found["utilisation"] == found["at_work"] < 1.5
