"""What a person takes of a suggestion, by style. `|` parts what is taken from what is left of the suggestion."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midspan.server.replay.styles import LEAST, STYLES


@pytest.mark.parametrize(
    ("style", "shown", "rest"),
    [
        ("vscode", "abc|", "abc"),
        ("vscode", "abc|", "abcd"),
        ("vscode", "ab|", "ab"),
        ("vscode", "|ab", "abcd"),
        ("vscode", "|abcde", "abcd"),
        ("vscode", "|abc\nd", "abc"),
        ("vscode", "|", "abc"),
        ("vscode", "|abc", ""),
        ("neovim", "return x|", "return x + 1"),
        ("word", "return| x", "return y"),
        ("word", "return| x", "return x"),
        ("word", " +| other", " + one"),
        ("word", " a|", " a"),
        ("word", "| ab", " a c"),
        ("word", "|returns", "return x"),
        ("word", "a| b", "a"),
        ("line", "abc|\n    d", "abc"),
        ("line", "|abd\n    d", "abc"),
        ("line", "|\n    d", "abc"),
    ],
)
def test_what_is_taken(style: str, shown: str, rest: str) -> None:
    taken = shown.partition("|")[0]
    assert STYLES[style].taken(shown.replace("|", ""), rest) == taken


LETTERS = st.text("ab \n", max_size=8)


@given(style=st.sampled_from(sorted(STYLES)), shown=LETTERS, rest=st.text("ab ", max_size=8))
def test_nobody_takes_what_is_wrong_or_hardly_anything(style: str, shown: str, rest: str) -> None:
    taken = STYLES[style].taken(shown, rest)
    assert shown.startswith(taken)
    assert rest.startswith(taken)
    if taken and not shown.startswith(rest):
        assert shown[:LEAST] == rest[:LEAST]
        assert len(shown) >= LEAST


@given(style=st.sampled_from(sorted(STYLES)), rest=st.text("ab (+", min_size=1, max_size=12))
def test_the_rest_of_a_line_is_taken_in_the_end_whatever_the_style(style: str, rest: str) -> None:
    keys = 0
    while rest:
        taken = STYLES[style].taken(rest, rest)
        assert taken
        rest, keys = rest[len(taken) :], keys + 1
    assert style == "word" or keys == 1
