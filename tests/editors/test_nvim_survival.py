"""A real Neovim whose server ends, and what the statusline says of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.editors.neovim import Stage
from tests.editors.neovim import scripted as scripted_command
from tests.server import scripted


@pytest.fixture
def stage(nvim: str, tmp_path: Path) -> Stage:
    return Stage(nvim, tmp_path, "survival.lua")


def test_a_killed_server_is_started_again_and_serves(stage: Stage) -> None:
    seen = stage.play("killed", "\n\n")
    assert (seen["before"], seen["ghost"]) == ("midspan: ready", [scripted.TEXT])
    assert seen["taken"] == ["x = ", f"y = {scripted.TEXT}"]
    assert "Error" not in seen["messages"]


def test_a_server_that_stops_again_and_again_is_left_alone(stage: Stage) -> None:
    seen = stage.play("killed_often")
    assert (seen["clients"], seen["statusline"], seen["again"]) == (0, "midspan: does not run", "midspan: ready")
    # Once when it happens, once as the status.
    assert seen["messages"].count("the server stopped 5 times in three minutes") == 2


def test_a_server_that_ends_at_once_is_not_tried_again(stage: Stage) -> None:
    assert stage.play("ends_at_once", server=["sh", "-c", "exit 3"])["clients"] == 0


def test_a_server_that_was_told_to_stop_stays_stopped(stage: Stage) -> None:
    seen = stage.play("told_to_stop")
    assert (seen["statusline"], "started again" in seen["messages"]) == ("", False)


def test_an_old_server_is_told_of_with_the_fix(stage: Stage, tmp_path: Path) -> None:
    stage.play("is_old", server=[*scripted_command(tmp_path), "--told-version", "0.0.9"])


def test_the_statusline_says_what_the_server_does(stage: Stage) -> None:
    seen = stage.play("statusline")
    assert seen["lines"][0] == "midspan: loading"
    assert seen["lines"][1:] == ["midspan: ready", "midspan: working", "midspan: ready"]
    assert (seen["paused"], seen["elsewhere"], seen["below"]) == ("midspan: paused", "", "midspan: paused")
