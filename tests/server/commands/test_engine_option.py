"""Option `--engine`: the local checkpoint's readings, and an engine elsewhere; and the decision that is printed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from midspan.server.cli import main
from tests.engine.remote.http_server import Asked, HttpServer, Reply, json_reply
from tests.engine.tiny import rewrite_settings, tiny_checkpoint
from tests.server.test_engines import THERE, llama_server

__all__ = ["llama_server"]
TASKS = Path(__file__).parents[3] / "fixtures" / "bench" / "mbpp-sample.jsonl"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tiny_checkpoint(tmp_path_factory.mktemp("checkpoint"))
    rewrite_settings(folder, beams=3)
    return str(folder)


@pytest.fixture
def gap(tmp_path: Path) -> list[str]:
    file = tmp_path / "a.py"
    file.write_text("def add(a, b):\n    return \n\n\nprint(add(1, 2))\n")
    return ["fill", str(file), "--at", "2:12"]


def printed(capsys: pytest.CaptureFixture[str], *argv: str) -> dict[str, Any]:
    assert main([*argv, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return found


@pytest.fixture
def configured(llama_server: HttpServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HttpServer:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "midspan").mkdir()
    table = f'[[backends]]\nname = "there"\nkind = "llama-server"\naddress = "{llama_server.url}"\n'
    (tmp_path / "midspan" / "config.toml").write_text(table)
    return llama_server


def test_both_readings_of_the_local_checkpoint(
    capsys: pytest.CaptureFixture[str], checkpoint: str, gap: list[str]
) -> None:
    own = printed(capsys, *gap, "--checkpoint", checkpoint)
    canvases = printed(capsys, *gap, "--checkpoint", checkpoint, "--engine", "diffusion")
    beams = printed(capsys, *gap, "--checkpoint", checkpoint, "--engine", "autoregressive", "--explain")
    assert own["candidates"] == canvases["candidates"]
    assert beams["steps"] != canvases["steps"]
    assert (beams["decision"]["reason"], beams["decision"]["answered_by"]) == ("the only engine", "autoregressive")
    assert "decision" not in canvases


def test_an_engine_elsewhere_is_asked_and_no_checkpoint_is_loaded(
    capsys: pytest.CaptureFixture[str], configured: HttpServer, gap: list[str]
) -> None:
    found = printed(capsys, *gap, "--checkpoint", "/nowhere", "--engine", "there")
    assert found["text"] == THERE
    assert main([*gap, "--engine", "other"]) == 1
    assert "give one of diffusion, autoregressive, there" in capsys.readouterr().err


def test_with_engines_configured_the_router_chooses_and_says_why(
    capsys: pytest.CaptureFixture[str], configured: HttpServer, checkpoint: str, gap: list[str]
) -> None:
    assert main([*gap, "--checkpoint", checkpoint, "--explain"]) == 0
    out = capsys.readouterr().out
    assert "decision: line_end (invoked): there (autoregressive) is first for line_end by " in out
    assert out.splitlines()[-1] == THERE
    found = printed(capsys, *gap, "--checkpoint", checkpoint, "--explain")
    assert [one["name"] for one in found["decision"]["candidates"]] == ["diffusion", "there"]
    assert found["decision"]["attempts"][0]["outcome"] == "answered"


def test_a_server_that_is_gone_is_one_line(
    capsys: pytest.CaptureFixture[str], configured: HttpServer, gap: list[str], tmp_path: Path
) -> None:
    file = tmp_path / "midspan" / "config.toml"
    with HttpServer(lambda _: pytest.fail("nobody asks")) as gone:
        url = gone.url
    file.write_text(file.read_text().replace(configured.url, url))
    assert main([*gap, "--engine", "there"]) == 1
    said = capsys.readouterr().err
    assert "nothing answers there; start the server or correct its address" in said
    assert said.count("\n") == 1


def test_a_key_that_is_missing_is_one_line(
    capsys: pytest.CaptureFixture[str], configured: HttpServer, gap: list[str], tmp_path: Path
) -> None:
    with (tmp_path / "midspan" / "config.toml").open("a") as file:
        file.write('key_variable = "NO_KEY_IS_HERE"')
    assert main([*gap, "--engine", "there"]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert "the environment variable NO_KEY_IS_HERE holds no key" in line


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ('exclude = ["*.py"]', "there (exclusion: its pattern names this file)"),
        ('[policy]\nprivacy = "in_process"', "there (privacy: loopback, "),
        ('[policy]\ntrust = ["editor"]', "there (trust: named by configuration)"),
    ],
)
def test_a_named_engine_sees_no_more_than_the_router_would_give_it(
    capsys: pytest.CaptureFixture[str], configured: HttpServer, gap: list[str], tmp_path: Path, more: str, said: str
) -> None:
    with (tmp_path / "midspan" / "config.toml").open("a") as file:
        file.write(more)
    assert main([*gap, "--engine", "there"]) == 1
    assert said in capsys.readouterr().err
    assert not any(asked.body and "input_prefix" in asked.body for asked in configured.asked)


def test_a_server_that_stays_silent_leaves_the_gap_to_the_local_checkpoint(
    capsys: pytest.CaptureFixture[str], configured: HttpServer, checkpoint: str, gap: list[str], tmp_path: Path
) -> None:
    def silent(asked: Asked) -> Reply:
        if asked.path == "/v1/models":
            return json_reply({"data": [{"id": "qwen.gguf"}]})
        if asked.body is None or "input_prefix" not in asked.body:
            return json_reply({"error": {"code": 400, "message": "input_prefix is required"}}, 400)
        return Reply(hangs=True)

    file = tmp_path / "midspan" / "config.toml"
    with HttpServer(silent) as server:
        file.write_text(file.read_text().replace(configured.url, server.url))
        found = printed(capsys, *gap, "--checkpoint", checkpoint, "--explain")
    attempts = found["decision"]["attempts"]
    assert [(one["name"], one["role"]) for one in attempts] == [("there", "first"), ("diffusion", "hedge")]
    assert attempts[0]["outcome"] == "overtaken"


def test_the_benchmark_takes_an_engine(capsys: pytest.CaptureFixture[str], checkpoint: str) -> None:
    argv = ["bench", "quality", "--tasks", str(TASKS), "--limit", "2", "--checkpoint", checkpoint]
    both = [printed(capsys, *argv, "--engine", name) for name in ("diffusion", "autoregressive")]
    assert both[0]["steps_mean"] != both[1]["steps_mean"]


def test_where_the_checkpoint_does_not_load_engines_elsewhere_answer(
    capsys: pytest.CaptureFixture[str], configured: HttpServer, gap: list[str]
) -> None:
    assert main([*gap, "--checkpoint", "/nowhere"]) == 0
    printed = capsys.readouterr()
    assert printed.out == f"{THERE}\n"
    assert printed.err.startswith("midspan: the local checkpoint did not load: /nowhere")
    assert printed.err.endswith("; engines elsewhere answer\n")


def test_where_nobody_answers_the_checkpoints_problem_is_what_is_said(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gap: list[str]
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "midspan").mkdir()
    table = '[[backends]]\nname = "there"\nkind = "llama-server"\naddress = "http://127.0.0.1:9"\n'
    (tmp_path / "midspan" / "config.toml").write_text(table)
    assert main([*gap, "--checkpoint", "/nowhere"]) == 1
    assert "/nowhere" in capsys.readouterr().err


def test_doctor_says_who_answers_in_the_checkpoints_place(
    capsys: pytest.CaptureFixture[str], configured: HttpServer, tmp_path: Path
) -> None:
    assert main(["doctor", "--json", "--checkpoint", "/nowhere", "--state-dir", str(tmp_path / "state")]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["answers"] == "the local checkpoint did not load; answered by: there"
    assert any("/nowhere" in fix for fix in found["fixes"])
