"""The syntax judge marks the characters of a fill that cause errors, and no errors that were there before."""

from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midspan.engine.api import Hole
from midspan.server.text.syntax_check import SyntaxJudge

CASES = [
    # text around the gap, fill, the marked part of the fill (None: nothing)
    ("def f(a):\n    ret‸\n\nx = 1\n", "urn a + 1", None),
    ("def f(a):\n    ret‸\n\nx = 1\n", "urn a + (1", "urn a + (1"),
    ("x = [1, ‸]\n", "2, 3", None),
    ("x = [1, ‸]\n", "2, 3]", "2, 3]"),
    ("if x‸\n    pass\n", " == 1:", None),
    ("print(‸\n", "a, b", "a, b"),
    ("y = ‸\nz = 1\n", "é + )", ")"),
    ("for a in b:\n    ‸y\n", "x = = 3\n", "="),
    ("def broken(:\n  x\n\ny = ‸\n", "2 + 3", None),
    ("", "x = 1", None),
    ("def f():\n    return ‸", "(𝒳 + 1", "(𝒳 + 1"),
]


def hole_of(text: str, language: str = "python") -> Hole:
    prefix, _, suffix = text.partition("‸")
    return Hole(prefix=prefix, suffix=suffix, language=language)


@pytest.mark.parametrize(("text", "fill", "marked"), CASES)
def test_the_broken_part_of_a_fill_is_marked(text: str, fill: str, marked: str | None) -> None:
    spans = SyntaxJudge()(hole_of(text), fill)
    assert [fill[begin:end] for begin, end in spans] == ([] if marked is None else [marked])


def test_a_judge_can_check_many_fills_and_holes() -> None:
    judge, first, second = SyntaxJudge(), hole_of("x = [‸]\n"), hole_of("x = (‸)\n")
    assert [bool(judge(hole, ")")) for hole in (first, second, first)] == [True, True, True]
    assert [bool(judge(hole, "1, 2")) for hole in (first, first, second)] == [False, False, False]


def test_other_languages_are_checked_by_their_own_grammar_if_there_is_one() -> None:
    assert SyntaxJudge()(hole_of("let x = ‸;\n", "javascript"), "a => (a") != ()
    assert SyntaxJudge()(hole_of("let x = ‸;\n", "javascript"), "a => (a)") == ()
    assert SyntaxJudge()(hole_of("anything ‸ goes\n", "klingon"), ")))") == ()


@given(st.text("ab é𝒳()[]'\"\n:=", max_size=12), st.text("ab(\n)", max_size=8), st.text("ab (\n)", max_size=8))
def test_marks_lie_within_the_fill(fill: str, prefix: str, suffix: str) -> None:
    for begin, end in SyntaxJudge()(Hole(prefix=prefix, suffix=suffix), fill):
        assert 0 <= begin < end <= len(fill)


def test_other_threads_run_while_a_text_is_parsed() -> None:
    turns, over = list[None](), threading.Event()

    def take_turns() -> None:
        while not over.is_set():
            turns.append(None)
            time.sleep(0)

    hole = hole_of("x = [1, (2), {3: 4}]\n" * 20_000 + "y = ‸\n")
    other = threading.Thread(target=take_turns)
    other.start()
    before = len(turns)
    SyntaxJudge()(hole, "5")
    during = len(turns) - before
    over.set()
    other.join()
    assert during > 20
