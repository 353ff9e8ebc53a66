"""Where a piece of a document stands after edits: always within the document, and whole while edits leave it alone."""

from __future__ import annotations

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as some

from midspan.server.telemetry.regions import Region, text_between
from midspan.server.text.documents import Document, Documents, end_of
from midspan.server.text.line_index import Place, Range

PIECES = some.text("ab \n\r", max_size=8)
SPOTS = some.tuples(some.integers(0, 9), some.integers(0, 9))


def followed(text: str, region: Region, edits: list[tuple[Range, str]]) -> Document:
    """The document after these edits, each known to the region before it is made."""
    documents = Documents()
    document = documents.open("file:///a.txt", "plaintext", 1, text)
    for number, (span, new) in enumerate(edits, 2):
        follow = lambda document, span, new: region.follow(document.lines, span, new)  # noqa: E731
        documents.change(document.uri, number, [(span, new)], "utf-32", follow)
    return document


@given(PIECES, PIECES, PIECES, some.lists(some.tuples(some.tuples(SPOTS, SPOTS), PIECES), max_size=4))
@example("a\rc", "b", "", [(((1, 0), (1, 1)), ""), (((1, 0), (1, 0)), "\n")])
@example("b", "", "\ra", [(((0, 0), (1, 0)), "b\n")])
@example("", "a\rb", "", [(((0, 0), (0, 0)), "\r"), (((1, 0), (2, 0)), "\n")])
def test_a_region_is_always_a_part_of_the_document(
    before: str, text: str, behind: str, edits: list[tuple[Range, str]]
) -> None:
    # A line end that is cut in two is no place.
    assume(not before.endswith("\r") and not text.endswith("\r"))
    start = end_of((0, 0), before)
    region = Region(start, end_of(start, text))
    document = followed(before + text + behind, region, edits)
    if region.known:
        assert text_between(document.lines, region.start, region.end) in document.text


@given(some.text("ab\n", max_size=8), some.text("xy \n", min_size=1, max_size=8), some.text("ab\n", max_size=8), PIECES)
def test_edits_before_and_behind_leave_it_whole(before: str, text: str, behind: str, new: str) -> None:
    new = new.replace("\r", "")
    start = end_of((0, 0), before)
    end = end_of(start, text)
    last: Place = end_of(end, behind)
    for span in (((0, 0), start), (end, last), (start, start), (end, end)):
        region = Region(start, end)
        document = followed(before + text + behind, region, [(span, new)])
        assert text_between(document.lines, region.start, region.end) == text


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("a=1\nb =2\nc= 3\n", "a = 1\nb = 2\nc = 3\n", "b = 2"),
        ("a = 1\nb =2\nc = 3\n", "a = 1\nc = 3\n", ""),
        ("a = 'x'\nb =2\nc = 'z'\n", 'a = "x"\nb =2\nc = "z"\n', "b =2"),
        ("a = 'x'\nb =2\nc = 'z'\n", 'import os\n\na = "x"\nif a:\n    b =2\nc = "z"\n', "b =2"),
    ],
)
def test_a_formatter_that_rewrites_the_file_moves_it(old: str, new: str, text: str) -> None:
    region = Region((1, 0), (1, 4))
    document = followed(old, region, [(((0, 0), (3, 0)), new)])
    assert text_between(document.lines, region.start, region.end).strip() == text
