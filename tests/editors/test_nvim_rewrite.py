"""A real Neovim: a rewrite is shown as a diff, by lines and words, before it is applied or discarded."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.editors.neovim import Stage
from tests.server import scripted

TEXT = "def add(a, b):\n    total = a + b\n    return total\n\nend\n"
REWRITTEN = TEXT.replace("a + b", scripted.TEXT)
SHOWN = [
    " def add(a, b):",
    "-    total = [a] + [b]",
    "+    total = [list] + [range]",
    "     return total",
    " ",
    " end",
]


@pytest.fixture
def stage(nvim: str, tmp_path: Path) -> Stage:
    return Stage(nvim, tmp_path, "rewrite.lua")


def lines(text: str) -> list[str]:
    return text.splitlines()


@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["LF", "CRLF"])
def test_a_rewrite_is_shown_accepted_and_undone_in_one_step(stage: Stage, end: str) -> None:
    seen = stage.play("accepted", TEXT.replace("\n", end))
    assert "rewrite half of the selection" in seen["titles"]
    assert seen["picture"] == SHOWN
    assert (seen["before"], seen["after"], seen["undone"]) == (lines(TEXT), lines(REWRITTEN), lines(TEXT))
    assert (seen["marks"], seen["keys"]) == (0, ["", ""])


def test_a_rewrite_behind_text_that_is_not_ascii(stage: Stage) -> None:
    text = TEXT.replace("total = ", "größe = 'é𝄞', ")
    seen = stage.play("accepted", text)
    assert seen["picture"][1:3] == ["-    größe = 'é𝄞', [a] + [b]", "+    größe = 'é𝄞', [list] + [range]"]
    assert seen["after"] == lines(text.replace("a + b", scripted.TEXT))


def test_a_discarded_rewrite_leaves_text_and_keys_as_they_were(stage: Stage) -> None:
    seen = stage.play("discarded", TEXT)
    assert (seen["unchanged"], seen["marks"], seen["own_key"]) == (True, 0, "doneend")


def test_a_change_of_the_text_takes_the_preview_away(stage: Stage) -> None:
    assert stage.play("outdated", TEXT)["marks"] == 0


def test_a_rewrite_is_applied_at_once_if_the_user_wants_no_preview(stage: Stage) -> None:
    seen = stage.play("at_once", TEXT, options={"preview": False})
    assert (seen["after"], seen["undone"]) == (lines(REWRITTEN), lines(TEXT))


def test_what_another_server_finds_wrong_is_fixed(stage: Stage) -> None:
    seen = stage.play("fixed", TEXT)
    assert seen["picture"][1:3] == ["-    [total = a] + [b]", "+    [list] + [range]"]
    assert seen["after"] == lines(TEXT.replace("total = a + b", scripted.TEXT))


@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["LF", "CRLF"])
def test_lines_that_come_are_shown_below_the_line_they_come_behind(stage: Stage, end: str) -> None:
    seen = stage.play("inserted", TEXT.replace("\n", end))
    docstring = f'    """{scripted.TEXT}"""'
    assert seen["picture"] == [" def add(a, b):", f"+{docstring}", *(f" {line}" for line in lines(TEXT)[1:])]
    assert seen["after"] == [lines(TEXT)[0], docstring, *lines(TEXT)[1:]]


def test_too_long_a_selection_is_refused(stage: Stage) -> None:
    stage.play("too_long", "x = 1\n" * 1000)


def test_where_there_is_nothing_to_write_that_is_said(stage: Stage) -> None:
    stage.play("nothing", TEXT)


def test_a_diff_is_by_lines_and_within_them_by_words(stage: Stage) -> None:
    seen = stage.play("diffs")
    one, two = seen["two"]
    assert (one["gone"], one["come"], one["out"], one["inn"]) == (["a = 1"], ["a = 2"], [[[4, 5]]], [[[4, 5]]])
    assert (two["out"], two["inn"]) == ([[[4, 6]]], [[[4, 7]]])
    assert [(one["come"], one["at"], one["inn"]) for one in seen["inserted"]] == [(["more", ""], 1, [[], []])]
    assert [(one["gone"], one["come"], one["out"]) for one in seen["removed"]] == [(["one"], [], [[]])]
    assert [(one["come"], one["at"]) for one in seen["first"]] == [(["one"], 0)]
    (joined,) = seen["joined"]
    assert (joined["out"], joined["inn"]) == ([[], [[0, 2]]], [[[4, 5]]])
