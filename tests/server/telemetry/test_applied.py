"""Whether the edit of a code action was applied and undone, and what is kept of it, in each style of applying edits."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from midspan.server.telemetry.applied import UNDO_S, WATCHED
from midspan.server.telemetry.schema import HORIZONS
from tests.server.telemetry.desk import Desk, Event, kept

PICTURE = "def f(values):\n    total = one + two\n    return total‸\n"
OLD = PICTURE.replace("‸", "")
# Of its seven tokens `total`, `=` and `+` stood there before.
SPAN, TEXT = ((1, 4), (1, 21)), "total = left + right * 2"
NEW = OLD.replace("total = one + two", TEXT)


def acted() -> Desk:
    """A desk with an edit that was made and not applied."""
    at = Desk(PICTURE)
    at.act(*SPAN, TEXT)
    return at


def applied() -> Desk:
    at = acted()
    at.replace(*SPAN, TEXT)
    return at


def fate(at: Desk) -> list[Event]:
    return at.told.of("taken", "undone", "dismissed", "rejected", "part", "typed")


def in_pieces(at: Desk) -> None:
    at.change((((1, 18), (1, 21)), "right * 2"), (((1, 12), (1, 15)), "left"))


def in_two_changes(at: Desk) -> None:
    at.replace((1, 18), (1, 21), "right * 2")
    at.replace((1, 12), (1, 15), "left")


def with_a_key_behind(at: Desk) -> None:
    at.change((SPAN, TEXT), (((2, 16), (2, 16)), ";"))


@pytest.mark.parametrize(
    "send",
    [lambda at: at.replace(*SPAN, TEXT), in_pieces, in_two_changes, lambda at: at.whole(NEW), with_a_key_behind],
    ids=["one edit", "pieces", "two changes", "whole text", "with a key behind"],
)
def test_an_edit_is_applied_however_an_editor_sends_it(send: Callable[[Desk], None]) -> None:
    at = acted()
    send(at)
    assert at.told.of("seen") == [("seen", "1")]
    assert fate(at) == [("taken", "1")]
    at.clock.pass_by(HORIZONS[-1])
    assert list(kept(at.told)) == [1.0] * len(HORIZONS)


def test_an_edit_that_nobody_applies_is_dismissed_with_its_file() -> None:
    at = acted()
    at.type("x = 1")
    assert fate(at) == []
    at.close()
    assert fate(at) == [("dismissed", "1")]


def test_of_several_alternatives_the_one_that_stands_is_applied() -> None:
    at = acted()
    at.act(*SPAN, "total = sum(values)", "2")
    at.replace(*SPAN, "total = sum(values)")
    assert fate(at) == [("taken", "2")]


def test_an_edit_is_forgotten_once_enough_newer_ones_were_made() -> None:
    at = acted()
    for number in range(WATCHED):
        at.act(*SPAN, f"total = {number}", f"other {number}")
    assert fate(at) == [("dismissed", "1")]
    at.replace(*SPAN, TEXT)
    assert fate(at) == [("dismissed", "1")]


@pytest.mark.parametrize(
    "send", [lambda at: at.replace((1, 4), (1, 28), "total = one + two"), lambda at: at.whole(OLD)]
)
def test_what_is_undone_within_a_minute_is_told_and_nothing_of_it_is_kept(send: Callable[[Desk], None]) -> None:
    at = applied()
    at.clock.pass_by(UNDO_S / 2)
    send(at)
    assert fate(at) == [("taken", "1"), ("undone", "1")]
    at.clock.pass_by(HORIZONS[-1])
    # 15 and 30 seconds after the edit it still stood.
    assert list(kept(at.told)) == [1.0, 1.0, 0.0, 0.0, 0.0]


def test_an_undo_behind_other_edits_is_one() -> None:
    at = applied()
    at.type(" # why")
    at.replace((2, 16), (2, 22), "")
    assert fate(at) == [("taken", "1")]
    at.whole(OLD)
    assert fate(at) == [("taken", "1"), ("undone", "1")]


def test_after_a_minute_it_is_no_undo() -> None:
    at = applied()
    at.clock.pass_by(UNDO_S + 1)
    at.whole(OLD)
    assert fate(at) == [("taken", "1")]


def test_what_is_done_again_is_applied_again() -> None:
    at = applied()
    at.whole(OLD)
    at.whole(NEW)
    assert fate(at) == [("taken", "1"), ("undone", "1"), ("taken", "1")]
    at.clock.pass_by(HORIZONS[0])
    assert list(kept(at.told)) == [1.0]


def test_only_what_it_brought_is_followed() -> None:
    at = applied()
    at.replace((1, 19), (1, 24), "all")
    at.clock.pass_by(HORIZONS[0])
    assert list(kept(at.told)) == pytest.approx([3 / 4], abs=1e-3)


def test_an_edit_that_only_deletes_is_told_and_not_followed() -> None:
    at = Desk(PICTURE)
    at.act(*SPAN, "total = one")
    at.replace(*SPAN, "total = one")
    at.clock.pass_by(HORIZONS[-1])
    assert fate(at) == [("taken", "1")]
    assert list(kept(at.told)) == []


def test_of_a_file_whose_text_is_unknown_nothing_is_told() -> None:
    at = acted()
    at.aftermath.lose(at.uri)
    at.close()
    assert at.told.events == []


def test_without_telemetry_nothing_is_watched() -> None:
    at = acted()
    at.aftermath.clear()
    at.replace(*SPAN, TEXT)
    assert at.told.events == []
