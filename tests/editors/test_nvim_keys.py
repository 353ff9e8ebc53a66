"""A real Neovim: the keys of the plugin, what they take of a suggestion, and what they are without one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.editors.neovim import Stage
from tests.server import scripted

WORD = scripted.TEXT.split(" ")[0]


@pytest.fixture
def stage(nvim: str, tmp_path: Path) -> Stage:
    return Stage(nvim, tmp_path, "keys.lua")


@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["LF", "CRLF"])
def test_plug_mappings_take_a_word_a_line_and_the_rest(stage: Stage, end: str) -> None:
    seen = stage.play("parts", end.join(["def lines(left, right):", "", "", "lines(1, 2)", ""]))
    above, below = ["def lines(left, right):"], ["", "lines(1, 2)"]
    line = f"    {scripted.TEXT}"
    assert seen["ghost"] == [scripted.TEXT, line]
    assert seen["word"] == [*above, f"    {WORD}", *below]
    assert seen["line"] == [*above, line, *below]
    assert seen["whole"] == [*above, line, line, *below]
    assert seen["undone"] == seen["line"]


def test_parts_are_taken_behind_text_that_is_not_ascii(stage: Stage) -> None:
    text = "größe = 'é' + '𝄞' +"
    seen = stage.play("parts_behind", f"{text}\n")
    assert (seen["word"], seen["line"]) == ([f"{text} {WORD}"], [f"{text} {scripted.TEXT}"])


def test_next_and_previous_show_others_and_dismiss_takes_them_away(stage: Stage) -> None:
    seen = stage.play("others", "\n")
    assert (seen["first"], seen["kept"]) == ([scripted.TEXT], ["several = "])


def test_asking_shows_what_is_too_unsure_to_be_offered(stage: Stage) -> None:
    seen = stage.play("ask", "\n")
    assert "unasked" not in seen
    assert seen["asked"] == [scripted.TEXT]


def test_an_answer_about_an_older_text_is_not_shown(stage: Stage) -> None:
    seen = stage.play("ask_late", "\n")
    assert seen["in_time"] == ["late"]
    assert "late" not in seen


def test_keys_fall_through_to_whatever_they_were_mapped_to(stage: Stage) -> None:
    seen = stage.play("fall_through", "empty\n")
    assert seen["tab"] == ["empty\t"]
    assert seen["global"] == ["empty\tglobal "]
    assert seen["expr"] == ["empty\tglobal expr "]
    assert seen["callback"] == ["empty\tglobal expr callback "]
    assert seen["script"] == ["empty\tglobal expr callback vimscript "]
    assert seen["remapped"] == ["empty\tglobal expr callback vimscript again"]
    assert seen["plug"] == ["empty\tglobal expr callback vimscript again\x0c"]


def test_keys_fall_through_to_the_buffers_own_mapping(stage: Stage) -> None:
    seen = stage.play("fall_through_own", "empty\n")
    assert (seen["own"], seen["again"]) == (["emptyown "], ["emptyown own "])


def test_what_another_server_offers_is_taken_too(stage: Stage) -> None:
    assert stage.play("another_server", "\n")["taken"] == ["empty = call()"]


def test_a_newer_neovim_loses_only_what_is_not_public(stage: Stage) -> None:
    seen = stage.play("another_neovim", "\n")
    assert (seen["taken"], seen["tab"]) == ([f"x = {scripted.TEXT}"], [f"x = {scripted.TEXT}\t"])
    assert "WARNING this Neovim keeps inline completion elsewhere" in seen["health"]


def test_two_windows_on_one_buffer(stage: Stage) -> None:
    seen = stage.play("windows", "\n\nlast\n")
    assert (seen["ghost"], seen["marks"]) == ([scripted.TEXT], 1)
    assert seen["taken"] == [f"x = {scripted.TEXT}", "", "last"]
    assert (seen["cursor"][0], seen["other_cursor"]) == (1, [3, 2])
    assert seen["both"] == [f"x = {scripted.TEXT}", f"y = {scripted.TEXT}", "last"]
