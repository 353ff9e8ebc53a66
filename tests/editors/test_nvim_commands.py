"""A real Neovim: `:Midspan` and each of its subcommands."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.editors.neovim import Stage
from tests.editors.neovim import scripted as scripted_command
from tests.server import scripted

SUBCOMMANDS = ["doctor", "fix", "log", "report", "restart", "rewrite", "status", "toggle", "why"]


@pytest.fixture
def stage(nvim: str, tmp_path: Path) -> Stage:
    return Stage(nvim, tmp_path, "commands.lua")


def test_status_says_what_the_server_does_and_where_there_is_none(stage: Stage) -> None:
    messages = stage.play("status", "x = 1\n")["messages"]
    assert messages.count("midspan: ready: scripted on cpu") == 2
    assert "it starts for the filetypes python, and there is none here; config.filetypes names them" in messages


def test_subcommands_are_completed_and_a_wrong_one_is_named(stage: Stage) -> None:
    seen = stage.play("names")
    assert (seen["all"], seen["some"]) == (SUBCOMMANDS, ["report", "restart", "rewrite"])
    assert (seen["toggles"], seen["buffer"]) == (["buffer", "everywhere", "language", "quiet"], ["buffer"])
    assert seen["none"] == []
    assert f'midspan: no subcommand "statsu": use {", ".join(SUBCOMMANDS)}' in seen["messages"]
    assert 'midspan: no toggle "all": use everywhere, buffer, language or quiet' in seen["messages"]


def test_why_gives_the_last_decision_and_what_keeps_suggestions_away(stage: Stage) -> None:
    assert "ghost" not in stage.play("why", "x = 1\n")


def test_toggle_turns_suggestions_off_and_on(stage: Stage) -> None:
    seen = stage.play("toggle", "\n\n")
    assert (seen["asked_when_off"], seen["key_when_off"]) == (0, "x = \t")
    assert (seen["statusline_when_off"], seen["ghost"]) == ("midspan: paused", [scripted.TEXT])
    assert "midspan: suggestions are off\n" in seen["messages"]
    assert "midspan: suggestions are on" in seen["messages"]


def test_toggle_buffer_leaves_other_buffers_on(stage: Stage) -> None:
    seen = stage.play("toggle_buffer")
    assert (seen["here"], seen["there"], seen["again"]) == ("midspan: paused", "midspan: ready", "midspan: ready")
    assert seen["ghost"] == [scripted.TEXT]
    # What is said of all buffers holds for each.
    assert seen["everywhere"] == "midspan: ready"


def test_toggle_quiet_leaves_what_is_asked_for(stage: Stage) -> None:
    seen = stage.play("toggle_quiet", "\n\n")
    assert "unasked" not in seen
    assert (seen["asked"], seen["after"]) == ([scripted.TEXT], [scripted.TEXT])


def test_toggle_language_turns_it_off_and_on(stage: Stage) -> None:
    seen = stage.play("toggle_language", "\n", settings={"languages": {"go": True}})
    # What was on from the start stays so.
    assert (seen["ghost"], seen["on"]) == ([scripted.TEXT], ["go", "python"])


def test_the_doctor_comes_in_a_window_of_its_own(stage: Stage, tmp_path: Path) -> None:
    # What `serve` alone knows is not for the doctor.
    lines = stage.play("doctor", server=[*scripted_command(tmp_path), "--debug"])["lines"]
    assert "checkpoint      scripted" in lines
    assert lines[-1] == "all is well"


def test_the_report_counts_what_was_taken(stage: Stage) -> None:
    lines = stage.play("report", "\n")["lines"]
    assert f"{'accepted':27} 1 (100 %, 21 to 100)" in lines


def test_the_log_is_opened(stage: Stage) -> None:
    seen = stage.play("log")
    assert seen["file"] == seen["expected"]


def test_restart_serves_the_same_buffers_with_the_same_settings(stage: Stage) -> None:
    seen = stage.play("restart", "x = 1\n")
    assert (seen["clients"], seen["stopped"], seen["other"]) == (1, True, True)


def test_a_program_that_is_not_there_is_named_with_the_fix(stage: Stage) -> None:
    seen = stage.play("no_program", server=["no-such-midspan", "serve"])
    said = "there is no program no-such-midspan: install midspan, or name its program in setup("
    assert f"midspan: {said}" in seen["at_first"]
    assert f"midspan: does not run: {said}" in seen["status"]
    assert f"midspan: {said}" in seen["doctor"]
    assert (seen["statusline"], seen["elsewhere"]) == ("midspan: does not run", "")
