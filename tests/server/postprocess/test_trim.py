"""Trimming as pictures: the raw fill between ├ and ┤, then the text that the user gets there, or null.

Further sections name the language (Python if there is none), the kind of gap if the place does not determine it, and
CRLF line ends.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from midspan.engine.api import GapKind
from midspan.server.postprocess.trim import trim
from midspan.server.text.documents import Document
from midspan.server.text.hole import build_hole
from midspan.server.text.line_index import Place
from tests.server.pictures import FIXTURES, cut, named, place

PICTURES = sorted((FIXTURES / "trim").glob("*.txt"))


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.stem)
def test_trim(path: Path) -> None:
    sections = named(path)
    before, fill, after = cut(sections[""])
    line_end = "\r\n" if sections.get("line ends", "").strip() == "crlf" else "\n"
    language = sections.get("language", "python").strip()
    document = Document("file:///a", language, 1, (before + after).replace("\n", line_end))
    hole = build_hole(document, place(before))
    if "kind" in sections:
        hole = replace(hole, kind=cast(GapKind, sections["kind"].strip()))
    text = trim(hole, fill.replace("\n", line_end))
    shown = "null\n" if text is None else f"{before}├{text}┤{after}"
    assert shown == sections["expect"]
    assert in_document(document, place(before), text or "") == (before + (text or "") + after).replace("\n", line_end)


def in_document(document: Document, at: Place, text: str) -> str:
    """The document's text after the insertion, written as by completion.py."""
    document.change((at, at), text.replace("\n", document.line_end()), "utf-32")
    return document.text
