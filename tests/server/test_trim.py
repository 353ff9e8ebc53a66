"""Trimming as pictures: the raw fill between ├ and ┤, the same place as the user gets it, or null.

A third section names the kind of gap where the place alone does not tell.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from midspan.engine.api import GapKind
from midspan.server.documents import Document
from midspan.server.hole import build_hole
from midspan.server.trim import trim
from tests.server.pictures import FIXTURES, cut, place, read

PICTURES = sorted((FIXTURES / "trim").glob("*.txt"))


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.stem)
def test_trim(path: Path) -> None:
    picture, expected, *kind = read(path)
    before, fill, after = cut(picture)
    document = Document("file:///a.py", "python", 1, before + after)
    hole = build_hole(document, place(before))
    if kind:
        hole = replace(hole, kind=cast(GapKind, kind[0].strip()))
    text = trim(hole, fill)
    shown = "null\n" if text is None else f"{before}├{text}┤{after}"
    assert shown == expected
