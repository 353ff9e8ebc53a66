"""What the edits after a suggestion tell: whether it was seen, taken, typed, rejected or left."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from midspan.server.text.documents import end_of
from midspan.server.text.line_index import Range
from tests.server.telemetry.desk import Desk

TEXT = "list + range"
FATES = ("taken", "part", "typed", "rejected", "dismissed")


def desk(picture: str = "x = ‸\ny = 2\n", *texts: str) -> Desk:
    found = Desk(picture)
    found.offer(*texts or (TEXT,))
    return found


def test_all_of_it_in_one_edit_was_taken() -> None:
    at = desk()
    at.insert(TEXT)
    assert at.told.of(*FATES) == [("taken", "1")]


def test_what_is_left_of_it_after_some_keys_was_taken() -> None:
    at = desk()
    at.type("li")
    assert at.told.of(*FATES) == []
    at.insert(TEXT[2:])
    assert at.told.of(*FATES) == [("taken", "1")]


def test_an_edit_that_replaces_what_was_typed_by_all_of_it_was_an_acceptance() -> None:
    at = desk()
    at.type("li")
    at.replace((0, 4), (0, 6), TEXT)
    assert at.told.of(*FATES) == [("taken", "1")]


def test_what_is_typed_to_its_end_was_not_taken() -> None:
    at = desk()
    at.type(TEXT)
    assert at.told.of(*FATES) == [("typed", "1")]


def test_quick_keys_in_one_change_are_keys_as_its_version_tells() -> None:
    at = desk()
    at.insert("list", keys=4)
    at.insert(" + range", keys=8)
    assert at.told.of(*FATES) == [("typed", "1")]


def test_words_are_taken_in_part_and_the_last_one_takes_it_whole() -> None:
    at = desk()
    at.insert("list")
    at.insert(" +")
    assert at.told.of(*FATES) == [("part", "1", 4), ("part", "1", 6)]
    at.insert(" range")
    assert at.told.of(*FATES)[2:] == [("taken", "1")]


def test_parts_are_counted_in_utf_16_units() -> None:
    at = desk("‸", "'\U0001f600' + other")
    at.insert("'\U0001f600' +")
    assert at.told.of(*FATES) == [("part", "1", 6)]


def test_whoever_takes_most_of_it_by_words_takes_its_last_mark_too() -> None:
    at = desk("‸", "print(value)")
    at.insert("print(value")
    at.insert(")")
    assert at.told.of(*FATES) == [("part", "1", 11), ("taken", "1")]


def test_an_entry_of_a_menu_that_begins_it_is_no_part_of_it() -> None:
    at = desk()
    at.type("li")
    at.replace((0, 4), (0, 6), "list")
    assert at.told.of(*FATES) == []


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_a_line_end_with_its_indent_is_one_key(line_end: str) -> None:
    at = desk("‸", f"if x:{line_end}    return")
    at.type("if x:")
    at.insert(f"{line_end}    ")
    assert at.told.of(*FATES) == []


def test_brackets_that_the_editor_closes_are_typed_along_and_what_is_between_is_taken() -> None:
    at = desk("‸", "(left, right)")
    at.change(((at.cursor, at.cursor), "()"))
    at.cursor = (0, 1)
    assert at.told.of(*FATES) == []
    at.insert("left, right")
    assert at.told.of(*FATES) == [("taken", "1")]


def test_a_pair_that_is_all_of_it_was_typed() -> None:
    at = desk("f‸", "()")
    at.insert("()")
    assert at.told.of(*FATES) == [("typed", "1")]


def test_another_key_rejects_it_and_it_may_still_be_taken() -> None:
    at = desk()
    at.type("z")
    assert at.told.of(*FATES) == [("rejected", "1")]
    at.replace((0, 4), (0, 5), "")
    at.cursor = (0, 4)
    at.insert(TEXT)
    assert at.told.of(*FATES) == [("rejected", "1"), ("taken", "1")]


def test_an_edit_elsewhere_dismisses_it() -> None:
    at = desk()
    at.replace((1, 4), (1, 5), "3")
    assert at.told.of(*FATES) == [("dismissed", "1")]


def test_its_place_moves_with_edits_above_it() -> None:
    at = desk()
    at.replace((0, 0), (0, 0), "first\n")
    at.cursor = (1, 4)
    at.insert(TEXT)
    assert at.told.of("taken") == [("taken", "1")]


def test_it_is_taken_at_one_of_several_cursors() -> None:
    at = desk("x = ‸\ny = \n")
    at.change((((1, 4), (1, 4)), TEXT), (((0, 4), (0, 4)), TEXT))
    assert at.told.of(*FATES) == [("taken", "1")]


def test_an_edit_over_its_place_rejects_it() -> None:
    at = desk("x = ‸1\ny = 2\n")
    at.replace((0, 0), (1, 0), "")
    assert at.told.of(*FATES) == [("rejected", "1")]


def test_of_several_that_begin_alike_the_one_that_stands_was_taken() -> None:
    at = desk("x = ‸", TEXT, "list")
    at.insert("list")
    assert at.told.of(*FATES) == [("taken", "2")]


def test_a_part_of_several_that_begin_alike_counts_for_the_first() -> None:
    at = desk("x = ‸", TEXT, "list + set")
    at.insert("list +")
    assert at.told.of(*FATES) == [("part", "1", 6)]


def test_an_undo_of_an_acceptance_does_not_unsay_it_and_a_redo_does_not_repeat_it() -> None:
    at = desk()
    at.insert(TEXT)
    at.replace((0, 4), (0, 4 + len(TEXT)), "")
    at.replace((0, 4), (0, 4), TEXT)
    assert at.told.of(*FATES) == [("taken", "1")]


def test_what_was_typed_comes_back_by_an_undo_and_was_not_taken() -> None:
    at = desk()
    at.type("list +")
    at.replace((0, 4), (0, 10), "")
    at.replace((0, 4), (0, 4), "list +")
    assert at.told.of("taken", "part") == []


def test_a_diff_that_is_cut_elsewhere_is_the_same_edit() -> None:
    # What stands behind the cursor begins like the suggestion: an editor that compares lines sees the rest come behind.
    at = desk("x = ‸l\n")
    at.replace((0, 5), (0, 5), TEXT[1:] + "l")
    assert at.told.of(*FATES) == [("taken", "1")]


@pytest.mark.parametrize(("seconds", "seen"), [(0.05, []), (0.3, [("seen", "1")])])
def test_what_stood_long_enough_was_seen(seconds: float, seen: list[tuple[str, str]]) -> None:
    at = Desk("x = ‸")
    at.offer(TEXT)
    at.clock.now = seconds
    at.type("z")
    at.clock.pass_by(1.0)
    at.type("z")
    assert at.told.of("seen") == seen


def test_only_the_first_of_several_was_seen() -> None:
    at = desk("x = ‸", TEXT, "set")
    at.type("z")
    assert at.told.of("seen") == [("seen", "1")]


def test_what_was_taken_was_seen_however_quickly() -> None:
    at = Desk("x = ‸")
    at.offer(TEXT)
    at.clock.now = 0.0
    at.insert(TEXT)
    assert at.told.of("seen") == [("seen", "1")]


def test_a_file_that_is_closed_dismisses_it() -> None:
    at = desk()
    at.close()
    assert at.told.of("seen", *FATES) == [("seen", "1"), ("dismissed", "1")]


def test_without_a_store_nothing_is_watched() -> None:
    at = Desk("x = ‸")
    at.aftermath._sink = lambda: None
    at.offer(TEXT)
    at.insert(TEXT)
    assert (at.told.events, at.aftermath._watched) == ([], {})


def test_a_suggestion_that_is_offered_again_is_watched_once() -> None:
    at = desk()
    at.offer(TEXT)
    at.insert(TEXT)
    assert at.told.of(*FATES) == [("taken", "1")]


SPOT = some.tuples(some.integers(0, 3), some.integers(0, 6))


@given(
    some.text("ab\n\r", max_size=8),
    some.text("ab\n", min_size=1, max_size=5),
    some.lists(some.tuples(some.tuples(SPOT, SPOT), some.text("ab\n\r", max_size=5)), max_size=5),
)
def test_whatever_is_edited_what_was_taken_stands(text: str, offer: str, edits: list[tuple[Range, str]]) -> None:
    at = Desk(f"{text}‸")
    at.cursor = end_of((0, 0), text)
    at.offer(offer)
    for span, new in edits:
        taken = at.told.of("taken")
        at.change((span, new))
        assert at.told.of("taken") == taken or offer in at.document.text
    at.clock.pass_by(700.0)
