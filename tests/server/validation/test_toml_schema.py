"""Fills in TOML documents that have a schema: pictures, where `├…┤` is the fill."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midspan.server.validation.schema_errors import OTHER_WORDS, WORDS
from midspan.server.validation.toml_schema import MAX_CHARS, objection
from tests.server.pictures import cut
from tests.server.validation.schema_pictures import objected, project

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "pattern": "^[a-z]+$"},
        "port": {"type": "integer", "maximum": 9999},
        "made": {"type": "string"},
        "tool": {
            "type": "object",
            "properties": {"mode": {"enum": ["fast", "safe"]}, "paths": {"type": "array", "items": {"type": "string"}}},
            "required": ["mode"],
            "additionalProperties": False,
        },
    },
    "required": ["name"],
    "additionalProperties": False,
}
HEAD = "#:schema schema.json\n"
FITS = [
    HEAD + '├name = "a"┤\n',
    HEAD + 'name = "├A┤"\n',
    HEAD + "port = ├80┤\n",
    HEAD + "made = ├2026-11-30┤\n",
    HEAD + 'made = ├07:32:00\nname = "a"┤\n',
    HEAD + '[tool]\n├paths = ["a"]┤\n',
    HEAD + '[tool]\nmode = ├"fast"┤\n',
    HEAD + '├[tool]\n┤mode = "fast"\n',
]
WRONG = [
    (HEAD + "name = ├1┤\n", "type"),
    (HEAD + 'name = ├"A"┤\n', "pattern"),
    (HEAD + "port = ├10000┤\n", "maximum"),
    (HEAD + '├nam = "a"┤\n', "additionalProperties"),
    (HEAD + '[tool]\nmode = "├slow┤"\n', "enum"),
    (HEAD + '[tool]\nmode = "fast"\n├[tol]┤\n', "additionalProperties"),
    (HEAD + '[tool]\nmode = "fast"\npaths = ["a", ├1┤]\n', "type"),
    (HEAD + '├port = "a"\n┤name = "a"\n', "type"),
]
NOTHING_SAID = [
    "name = ├1┤\n",
    "#:schema https://example.com/schema.json\nname = ├1┤\n",
    "#:schema ../outside.json\nname = ├1┤\n",
    HEAD + "name = ├1┤ =\n",
    HEAD + "name = 1├2┤\n",
    HEAD + "bad = 1\n├port = 80┤\n",
    HEAD + "paths = [\n├1,\n]┤\n",
    HEAD + f"{'# long' * (MAX_CHARS // 5)}\nname = ├1┤\n",
    HEAD + f"name = ├{'[' * 3000}{']' * 3000}┤\n",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return project(tmp_path_factory.mktemp("outer"), SCHEMA)


def said(folder: Path, picture: str) -> str | None:
    found = objected(objection, folder / "settings.toml", picture)
    assert found is None or found.spans == ((0, len(cut(picture)[1])),)
    return None if found is None else found.words


@pytest.mark.parametrize("picture", FITS)
def test_what_fits_the_schema_stays_though_the_document_is_not_complete(folder: Path, picture: str) -> None:
    assert said(folder, picture) is None


@pytest.mark.parametrize(("picture", "keyword"), WRONG)
def test_what_breaks_the_schema_is_objected_to(folder: Path, picture: str, keyword: str) -> None:
    assert said(folder, picture) == WORDS.get(keyword, OTHER_WORDS)


@pytest.mark.parametrize("picture", NOTHING_SAID)
def test_what_was_wrong_before_and_what_cannot_be_read_meets_no_objection(folder: Path, picture: str) -> None:
    assert said(folder, picture) is None


TABLES = st.fixed_dictionaries(
    {"mode": st.sampled_from(["fast", "safe"])},
    optional={"paths": st.lists(st.text("ab\"'#[]", max_size=4), max_size=3)},
)
DOCUMENTS = st.fixed_dictionaries(
    {"name": st.from_regex("[a-z]{1,6}", fullmatch=True)},
    optional={"port": st.integers(0, 9999), "made": st.just("now"), "tool": TABLES},
)


@given(DOCUMENTS, st.data())
def test_any_span_of_a_document_that_fits_fills_itself_in(
    folder: Path, document: dict[str, Any], data: st.DataObject
) -> None:
    tool = document.pop("tool", {"mode": "safe"})
    lines = [f"{key} = {json.dumps(value)}" for key, value in document.items()]
    lines += ["[tool]", *(f"{key} = {json.dumps(value)}" for key, value in tool.items())]
    text = HEAD + "\n".join(lines) + "\n"
    begin = data.draw(st.integers(len(HEAD), len(text)))
    end = data.draw(st.integers(begin, len(text)))
    assert said(folder, f"{text[:begin]}├{text[begin:end]}┤{text[end:]}") is None
