"""A real Neovim: ghost text and keys beside an open completion menu."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.editors.neovim import Stage
from tests.server import scripted

TAKEN = f"x = {scripted.TEXT}"


@pytest.fixture
def stage(nvim: str, tmp_path: Path) -> Stage:
    return Stage(nvim, tmp_path, "menus.lua")


def test_an_open_menu_hides_ghost_text_and_has_the_keys(stage: Stage) -> None:
    seen = stage.play("own", "\n")
    assert (seen["back"], seen["chosen"]) == ([scripted.TEXT], ["x = first"])


def test_an_answer_that_comes_under_the_menu_waits(stage: Stage) -> None:
    seen = stage.play("late", "\n")
    assert "ghost" not in seen
    assert seen["back"] == [scripted.TEXT]


def test_ghost_text_is_kept_beside_the_menu_if_the_user_wants_it(stage: Stage) -> None:
    seen = stage.play("kept", "\n", options={"menu": "keep"})
    assert (seen["ghost"], seen["chosen"]) == ([scripted.TEXT], ["x = first"])


def test_the_menu_is_ignored_if_the_user_wants_it(stage: Stage) -> None:
    seen = stage.play("ignored", "\n", options={"menu": "ignore"})
    assert (seen["ghost"], seen["taken"]) == ([scripted.TEXT], [TAKEN])


@pytest.mark.parametrize("session", ["blink_first", "blink_last", "cmp"])
def test_completion_plugins_keep_their_keys_while_their_menu_is_open(stage: Stage, session: str) -> None:
    seen = stage.play(session, "\n")
    assert seen.get("unchanged", ["x = "]) == ["x = "]
    assert (seen["back"], seen["taken"], seen["chosen"]) == ([scripted.TEXT], [TAKEN], 1)
    assert seen["tab"] == [TAKEN, "\t"]
