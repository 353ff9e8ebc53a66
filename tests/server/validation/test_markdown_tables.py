"""Filled rows of Markdown tables: pictures, where `├…┤` is the fill."""

from __future__ import annotations

import pytest

from midspan.server.validation.markdown_tables import MAX_CHARS, cells, objection
from midspan.server.validation.splice import Splice
from tests.server.pictures import cut

TABLE = "| a | b |\n|---|:-:|\n"
EVEN = [
    TABLE + "├| 1 | 2 |┤\n",
    TABLE + "| 1 |├ 2 |┤\n",
    TABLE + "| 1 | 2 |\n├| 3 | 4 |\n┤| 5 | 6 |\n",
    TABLE + "├1 | 2┤\n",
    TABLE + "├| `a \\| b` | 2 |┤\n",
    "> | a | b |\n> |---|---|\n> ├| 1 | 2 |┤\n",
    "├| a | b |\n|---|---|\n| 1 | 2 |┤\n",
    "| a | b |\r\n|---|---|\r\n├| 1 | 2 |┤\r\n",
    "├| a | b |┤\n|---|---|\n",
    "| a | b |\n├|---|---|┤\n",
    TABLE + "\n├a | b | c┤\n",
]
UNEVEN = [
    (TABLE + "├| 1 |┤\n", 1, 2),
    (TABLE + "| 1 |├ 2 | 3 |┤\n", 3, 2),
    (TABLE + "├| 1 | 2 |\n| 3 | 4 | 5 |\n┤| 5 | 6 |\n", 3, 2),
    (TABLE + "├1 | 2 | 3┤\n", 3, 2),
    ("> | a | b |\n> |---|---|\n> ├| 1 |┤\n", 1, 2),
    ("├| a | b |\n|---|---|\n| 1 | 2 | 3 |┤\n", 3, 2),
    ("├| a | b | c |┤\n|---|---|\n", 3, 2),
    ("| a | b |\n├|---|┤\n", 1, 2),
]
NOTHING_SAID = [
    "├a | b┤\n",
    TABLE + "| 1 |\n├| 3 | 4 | 5 |┤\n",
    "```\n" + TABLE + "├| 1 |┤\n```\n",
    TABLE + "├text without a bar┤\n",
    "a ├| b┤\n" + TABLE,
    "x" * MAX_CHARS + "\n\n" + TABLE + "├| 1 |┤\n",
]


def said(picture: str) -> str | None:
    before, fill, after = cut(picture)
    found = objection(Splice(uri="file:///a.md", before=before, fill=fill, after=after))
    assert found is None or found.kind == "table"
    return None if found is None else found.words


@pytest.mark.parametrize("picture", EVEN)
def test_a_row_with_as_many_cells_as_the_header_stays(picture: str) -> None:
    assert said(picture) is None


@pytest.mark.parametrize(("picture", "has", "wanted"), UNEVEN)
def test_a_row_with_too_few_cells_or_too_many_is_objected_to(picture: str, has: int, wanted: int) -> None:
    assert said(picture) == f"has {has} cells in a row of a table that has {wanted}"


@pytest.mark.parametrize("picture", NOTHING_SAID)
def test_where_there_is_no_even_table_nothing_is_said(picture: str) -> None:
    assert said(picture) is None


@pytest.mark.parametrize(
    ("row", "count"), [("| a | b |", 2), ("a | b", 2), ("| a |", 1), ("a | b |", 2), ("| a | b \\|", 2), ("| | |", 2)]
)
def test_cells(row: str, count: int) -> None:
    assert cells(row) == count
