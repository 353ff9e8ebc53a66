"""Recently edited regions: they move with their lines, merge, and are limited in number."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from midspan.server.context.recent_edits import KEPT, MAX_LINES, Edits, Region
from midspan.server.text.documents import Document
from midspan.server.text.line_index import Range
from tests.server.inside import Inside
from tests.server.raw_client import call, change

URI = "file:///a.py"
CHANGES = st.lists(st.tuples(st.booleans(), st.integers(0, 300), st.integers(0, 6), st.integers(0, 6)), max_size=10)


def regions(edits: Edits) -> list[tuple[int, int]]:
    return [(region.first, region.last) for region in edits.newest()]


def edited(*changes: tuple[int, int, str]) -> Edits:
    """The record of replacements of lines [first, last); each goes from line start to line start."""
    edits = Edits()
    for first, last, text in changes:
        edits.note(URI, ((first, 0), (last, 0)), text)
    return edits


@given(CHANGES)
def test_a_region_moves_with_its_line(changes: list[tuple[bool, int, int, int]]) -> None:
    document, edits = Document(URI, "plaintext", 1, "line\n" * 400), Edits()

    def change(span: Range, text: str) -> None:
        edits.note(URI, span, text)
        document.change(span, text, "utf-32")

    change(((200, 0), (200, 0)), "marked")
    for below, at, deleted, added in changes:
        line = next(number for number, text in enumerate(document.lines) if "marked" in text)
        # Far enough away that the two regions do not merge.
        first = line + 10 + at % (len(document.lines) - line - 20) if below else at % (line - 20)
        change(((first, 0), (first + deleted, 0)), "new\n" * added)
    line = next(number for number, text in enumerate(document.lines) if "marked" in text)
    assert any(region.first <= line <= region.last for region in edits.newest())


def test_edits_near_each_other_are_one_region() -> None:
    assert regions(edited((10, 10, "a"), (12, 12, "b"), (11, 11, "c"))) == [(10, 12)]
    assert regions(edited((10, 10, "a"), (20, 20, "b"))) == [(20, 20), (10, 10)]


def test_lines_added_above_move_a_region_and_a_deletion_around_it_replaces_it() -> None:
    assert regions(edited((50, 50, "a"), (10, 10, "x\ny\n"))) == [(10, 12), (52, 52)]
    assert regions(edited((50, 50, "a"), (10, 13, ""))) == [(10, 10), (47, 47)]
    assert regions(edited((50, 50, "a"), (40, 60, ""))) == [(40, 40)]


def test_line_ends_of_every_kind_count_once() -> None:
    assert regions(edited((50, 50, "a"), (10, 10, "x\r\ny\rz\n"))) == [(10, 13), (53, 53)]


def test_the_newest_regions_come_first_and_old_ones_are_dropped() -> None:
    edits = edited(*((100 * number, 100 * number, "a") for number in range(KEPT + 5)))
    assert regions(edits) == [(100 * number, 100 * number) for number in range(KEPT + 4, 4, -1)]


def test_a_region_stays_short() -> None:
    [(first, last)] = regions(edited((10, 10, "x\n" * 500)))
    assert (first, last) == (510 - MAX_LINES, 510)


def test_other_documents_stay_as_they_are() -> None:
    edits = edited((10, 10, "a"))
    edits.note("file:///b.py", ((0, 0), (0, 0)), "x\n" * 5)
    assert Region(URI, 10, 10) in edits.newest()
    edits.note(URI, None, "all new")
    assert [region.uri for region in edits.newest()] == ["file:///b.py"]


def test_whole_texts_of_a_client_give_regions_of_the_changed_lines_only(tmp_path: Path) -> None:
    inside = Inside(tmp_path)
    inside.initialize()
    context = inside.server.context
    context._tokens = 100
    document = {"uri": URI, "languageId": "plaintext", "version": 1, "text": "line\n" * 9}
    inside.send(call(None, "textDocument/didOpen", {"textDocument": document}))
    inside.send(change("line\n" * 4 + "lines\n" + "line\n" * 4, 2, uri=URI))
    assert regions(context.edits) == [(4, 4)]
