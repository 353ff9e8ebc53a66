"""How much of what was taken still stands, by tokens: against what a person would count in the final text."""

from __future__ import annotations

from functools import lru_cache

import pytest
from hypothesis import given
from hypothesis import strategies as some

from midspan.server.telemetry.schema import HORIZONS
from midspan.server.telemetry.survival import COUNT_S, common
from tests.server.telemetry.desk import Desk, kept

LINES = "total = sum(values)\n    mean = total / len(values)"
PICTURE = "def f(values):\n    ‸\n    return mean\n"
TOKENS = 6 + 8


def taken(text: str = LINES, picture: str = PICTURE) -> Desk:
    """A desk with a suggestion that was taken a moment ago."""
    at = Desk(picture)
    at.offer(text)
    at.insert(text)
    at.clock.pass_by(2 * COUNT_S)
    return at


def shares(at: Desk) -> list[float]:
    """Which share of it stands at each time, if nothing more is changed."""
    at.clock.pass_by(HORIZONS[-1])
    return list(kept(at.told))


def test_what_is_left_alone_is_kept_at_each_time() -> None:
    at = taken()
    assert shares(at) == [1.0] * len(HORIZONS)
    assert [event[2] for event in at.told.of("kept")] == list(HORIZONS)


def test_what_is_undone_is_not_kept_from_then_on() -> None:
    at = taken()
    at.clock.pass_by(60.0)
    at.replace((1, 4), (2, 30), "")
    assert shares(at) == [1.0, 1.0, 0.0, 0.0, 0.0]


def test_what_is_undone_and_done_again_is_kept() -> None:
    at = taken()
    at.replace((1, 4), (2, 30), "")
    at.replace((1, 4), (1, 4), LINES)
    assert shares(at)[0] == 1.0


def test_a_variable_with_another_name_is_a_token_each_time() -> None:
    at = taken()
    at.replace((2, 11), (2, 16), "all")
    at.replace((1, 4), (1, 9), "all")
    assert shares(at)[0] == pytest.approx((TOKENS - 2) / TOKENS, abs=1e-3)


def test_a_line_of_it_that_is_deleted_is_lost() -> None:
    at = taken()
    at.replace((2, 0), (3, 0), "")
    assert shares(at)[0] == pytest.approx(6 / TOKENS, abs=1e-3)


def test_a_line_that_is_moved_is_kept() -> None:
    at = taken()
    at.replace((2, 0), (3, 0), "")
    at.replace((0, 0), (0, 0), "mean = total / len(values)\n")
    assert shares(at)[0] == 1.0


def test_a_line_that_stood_elsewhere_before_was_not_moved_there() -> None:
    line = "mean = total / len(values)"
    at = taken(picture=f"{line}\n\n{PICTURE}")
    at.replace((4, 0), (5, 0), "")
    assert shares(at)[0] == pytest.approx(6 / TOKENS, abs=1e-3)


def test_a_line_that_is_deleted_at_once_was_not_moved() -> None:
    at = Desk(PICTURE)
    at.offer(LINES)
    at.insert(LINES)
    at.replace((2, 0), (3, 0), "")
    assert shares(at)[0] == pytest.approx(6 / TOKENS, abs=1e-3)


def test_lines_that_are_indented_are_kept() -> None:
    at = taken()
    at.change((((2, 0), (2, 0)), "    "), (((1, 0), (1, 0)), "    "))
    assert shares(at)[0] == 1.0


def test_text_around_it_is_not_part_of_it() -> None:
    at = taken()
    at.replace((2, 30), (2, 30), " or 1")
    at.replace((1, 4), (1, 4), "x = 1; ")
    assert shares(at)[0] == 1.0


@pytest.mark.parametrize("send", ["whole", "one edit"])
def test_a_formatter_that_changes_blanks_keeps_it(send: str) -> None:
    at = taken("total=sum( values )")
    text = "def  f( values ):\n        total = sum(values)\n        return mean\n"
    if send == "whole":
        at.whole(text)
    else:
        at.replace((0, 0), (3, 0), text)
    assert shares(at)[0] == 1.0


def test_a_formatter_that_changes_marks_elsewhere_keeps_it() -> None:
    at = taken(picture="name = 'a'\n‸\nother = 'b'\n")
    at.whole(f'name = "a"\n{LINES}\nother = "b"\n')
    assert shares(at)[0] == 1.0


def test_a_text_that_replaces_the_whole_file_keeps_none_of_it() -> None:
    at = taken()
    at.whole("nothing of the kind\n")
    assert shares(at)[0] == 0.0


def test_a_file_that_is_renamed_is_the_same_file() -> None:
    at = taken()
    text = at.close()
    at.open(text, "file:///renamed.txt")
    at.replace((2, 0), (3, 0), "")
    assert shares(at)[0] == pytest.approx(6 / TOKENS, abs=1e-3)


def test_a_file_that_is_closed_keeps_its_text() -> None:
    at = taken()
    at.replace((2, 0), (3, 0), "")
    at.close()
    assert shares(at) == [pytest.approx(6 / TOKENS, abs=1e-3)] * len(HORIZONS)


def test_a_file_that_was_changed_while_it_was_closed_is_looked_at_again() -> None:
    at = taken()
    text = at.close()
    at.open("# a new first line\n" + text.replace("    mean = total / len(values)\n", ""))
    assert shares(at)[0] == pytest.approx(6 / TOKENS, abs=1e-3)


def test_of_a_file_whose_text_is_unknown_nothing_is_said() -> None:
    at = taken()
    at.aftermath.lose(at.uri)
    assert shares(at) == []


def test_what_was_taken_in_part_is_followed_so_far_as_it_was_taken() -> None:
    at = Desk(PICTURE)
    at.offer(LINES)
    at.insert("total = sum(values)")
    at.clock.pass_by(2 * COUNT_S)
    at.replace((1, 4), (1, 9), "all")
    assert shares(at)[0] == pytest.approx(5 / 6, abs=1e-3)


def test_what_the_client_tells_is_followed_once_it_stands() -> None:
    at = Desk(PICTURE)
    at.offer(LINES)
    at.aftermath.told("1")
    at.change((((1, 4), (1, 4)), LINES), keys=len(LINES))
    assert shares(at)[0] == 1.0
    # As many quick keys as characters: the edits alone would not tell.
    assert at.told.of("taken") == []


def test_a_part_that_the_client_tells_is_followed_in_utf_16_units() -> None:
    at = Desk("‸")
    at.offer("\U0001f600x = other + more")
    at.insert("\U0001f600x = other", keys=10)
    at.aftermath.told_part("1", 11)
    at.replace((0, 5), (0, 10), "")
    assert shares(at)[0] == pytest.approx(3 / 4, abs=1e-3)


def test_what_was_typed_to_its_end_is_followed_if_the_client_tells_that_it_was_taken() -> None:
    at = Desk("‸")
    at.offer("ab c")
    at.type("ab c")
    at.aftermath.told("1")
    assert shares(at)[0] == 1.0


@given(some.text("abc", max_size=12), some.text("abc", max_size=12))
def test_common_tokens_are_those_of_the_textbook(one: str, other: str) -> None:
    @lru_cache(None)
    def longest(i: int, j: int) -> int:
        if not i or not j:
            return 0
        if one[i - 1] == other[j - 1]:
            return longest(i - 1, j - 1) + 1
        return max(longest(i - 1, j), longest(i, j - 1))

    assert common(one, other) == longest(len(one), len(other))
