"""Whatever stands in a file that is right stays: any span of one, cut out and filled back in, meets no objection."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midspan.server.validation import json_schema, markdown_tables, python_names
from midspan.server.validation.splice import Files, Splice
from tests.server.validation.test_json_schema import SCHEMA

ROOT = Path(__file__).parents[3]
MODULES = sorted((ROOT / "server" / "text").glob("*.py"))
PAGES = [one for one in sorted((ROOT / "docs").glob("*.md")) if "\n|---" in one.read_text(encoding="utf-8")]
SERVERS = st.fixed_dictionaries(
    {"host": st.text(max_size=5), "port": st.integers()}, optional={"mode": st.sampled_from(["fast", "safe"])}
)
DOCUMENTS = st.fixed_dictionaries(
    {"$schema": st.just("schema.json"), "name": st.from_regex("[a-z]{1,6}", fullmatch=True), "code": st.just("c")},
    optional={"servers": st.lists(SERVERS, max_size=3), "limit": st.just(3)},
)


def spans(text: str) -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(st.integers(0, len(text)), st.integers(1, 200)).map(lambda one: (one[0], one[0] + one[1]))


def filled_back(text: str, span: tuple[int, int], uri: str = "file:///a") -> Splice:
    begin, end = span
    return Splice(uri=uri, before=text[:begin], fill=text[begin:end], after=text[end:], files=Files(patience_s=60.0))


@given(st.data())
def test_names(data: st.DataObject) -> None:
    text = data.draw(st.sampled_from(MODULES)).read_text(encoding="utf-8")
    assert python_names.objection(filled_back(text, data.draw(spans(text)))) is None


@given(st.data())
def test_tables(data: st.DataObject) -> None:
    text = data.draw(st.sampled_from(PAGES)).read_text(encoding="utf-8")
    assert markdown_tables.objection(filled_back(text, data.draw(spans(text)))) is None


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("project")
    (folder / "schema.json").write_text(json.dumps(SCHEMA), encoding="utf-8")
    return (folder / "a.json").as_uri()


@given(data=st.data(), value=DOCUMENTS, indent=st.sampled_from([None, 2]))
def test_schemas(uri: str, data: st.DataObject, value: dict[str, Any], indent: int | None) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    assert json_schema.objection(filled_back(text, data.draw(spans(text)), uri)) is None
