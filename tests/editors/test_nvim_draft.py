"""A real Neovim: the draft is drawn while it settles, and goes with the request, the text and insert mode."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.editors.neovim import Stage
from tests.server import scripted

ON: dict[str, object] = {"draft": True}


@pytest.fixture
def stage(nvim: str, tmp_path: Path) -> Stage:
    return Stage(nvim, tmp_path, "draft.lua")


def test_the_draft_stands_until_the_suggestion_comes(stage: Stage) -> None:
    seen = stage.play("settles", "\n", options=ON)
    first, *_, last = seen["frames"]
    assert first == [scripted.TEXT[0]]
    # The last frame has settled: what it says comes as the suggestion.
    assert last == []
    assert seen["ghost"] == [scripted.TEXT]
    assert "left" not in seen


def test_no_draft_is_drawn_unless_the_user_wants_it(stage: Stage) -> None:
    assert stage.play("settles", "\n")["frames"] == []


def test_the_draft_goes_with_the_next_key_and_with_insert_mode(stage: Stage) -> None:
    seen = stage.play("is_cleared", "\n", options=ON)
    assert len(seen["space"]) == 1
    assert seen["typed"] == ["forever = x"]
    assert not {"after_key", "after_insert", "after_all"} & seen.keys()


def test_a_frame_of_an_older_text_is_refused(stage: Stage) -> None:
    seen = stage.play("is_refused", "\n", options=ON)
    assert seen["current"] == ["draft"]
    assert "older" not in seen


def test_the_draft_stands_at_the_cursor_behind_text_that_is_not_ascii(stage: Stage) -> None:
    seen = stage.play("place", "\n", options=ON)
    assert seen["column"] == seen["cursor"]
