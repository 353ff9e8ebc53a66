"""Memory of parsing: the text that a parser has read is released, so that typing does not leak it at every key."""

from __future__ import annotations

import sys
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midspan.server.text.documents import Document
from midspan.server.text.languages import language_of
from midspan.server.text.parsing import Pieces
from midspan.server.workspace.tags import definitions

LINES = 'def area(width, height):\n    return "é" * width\n\n' * 200
KEYS = 40


def memory_growth(work: object, times: int) -> int:
    """The growth of memory in bytes over so many calls of `work`, after two calls to warm up."""
    assert callable(work)
    tracemalloc.start()
    try:
        for _ in range(2):
            work()
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(times):
            work()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return after - before


def test_typing_keeps_no_text_of_older_parses() -> None:
    document = Document("file:///a.py", "python", 1, LINES)

    def key() -> None:
        document.change(((1, 0), (1, 0)), "(", "utf-16")
        assert document.parse(60.0)
        document.change(((1, 0), (1, 1)), "", "utf-16")
        assert document.parse(60.0)

    assert memory_growth(key, KEYS) < len(LINES)


def test_a_parse_that_is_abandoned_keeps_no_text_either() -> None:
    def halfway() -> None:
        document = Document("file:///a.py", "python", 1, LINES)
        document.change(((1, 0), (1, 0)), "(((", "utf-16")
        document.parse(0.0)
        document.change(((1, 0), (1, 0)), "(((", "utf-16")
        document.parse(60.0)

    assert memory_growth(halfway, 10) < len(LINES)


def test_the_indexer_keeps_no_text_of_the_files_it_has_read() -> None:
    language = language_of("python")
    data = LINES.encode()
    assert memory_growth(lambda: list(definitions(language, data)), 10) < len(data)
    assert data.decode() == LINES


@given(st.lists(st.binary(max_size=5), max_size=20))
def test_releasing_pieces_leaves_balanced_reference_counts_alone(given: list[bytes]) -> None:
    """With a caller that does not leak references: the counts stay the same, and releasing twice does no harm."""
    pieces = Pieces(lambda offset: given[offset])
    holders = [sys.getrefcount(one) for one in given]
    seen = [len(pieces(number, None)) for number in range(len(given))]
    pieces.let_go()
    pieces.let_go()
    assert seen == [len(one) for one in given]
    assert [sys.getrefcount(one) for one in given] == holders


@pytest.mark.parametrize("patience_s", [0.0, 60.0])
def test_trees_stay_right_when_their_text_is_released(patience_s: float) -> None:
    document = Document("file:///a.py", "python", 1, LINES)
    for column, key in enumerate("x = [1, (2"):
        document.change(((0, column), (0, column)), key, "utf-16")
        while not document.parse(patience_s):
            pass
    fresh = Document("file:///b.py", "python", 1, document.text)
    assert fresh.parse(60.0)
    assert fresh.syntax is not None
    assert document.syntax is not None
    assert [node.type for node in document.syntax.top()][-5:] == [node.type for node in fresh.syntax.top()][-5:]
