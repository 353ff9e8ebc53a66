"""Trimming as pictures: the raw fill between ├ and ┤, then the same place as the user gets it, or null."""

from __future__ import annotations

from pathlib import Path

import pytest

from midspan.server.documents import Document
from midspan.server.hole import build_hole
from midspan.server.trim import trim
from tests.server.pictures import FIXTURES, cut, place, read

PICTURES = sorted((FIXTURES / "trim").glob("*.txt"))


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.stem)
def test_trim(path: Path) -> None:
    picture, expected = read(path)
    before, fill, after = cut(picture)
    document = Document("file:///a.py", "python", 1, before + after)
    text = trim(build_hole(document, place(before)), fill)
    shown = "null\n" if text is None else f"{before}├{text}┤{after}"
    assert shown == expected
