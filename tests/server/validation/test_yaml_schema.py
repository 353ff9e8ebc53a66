"""Fills in YAML documents that have a schema: pictures, where `├…┤` is the fill."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midspan.server.validation.schema_errors import OTHER_WORDS, WORDS
from midspan.server.validation.yaml_schema import SHAPE, objection
from tests.server.validation.schema_pictures import objected, project

STEP = {
    "type": "object",
    "properties": {"run": {"type": "string"}, "retries": {"type": "integer"}, "when": {"enum": ["always", "never"]}},
    "required": ["run"],
    "additionalProperties": False,
}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "pattern": "^[a-z]+$"},
        "on": {"type": "array", "items": {"type": "string"}},
        "limit": {"type": ["number", "null"]},
        "quick": {"type": "boolean"},
        "steps": {"type": "array", "items": STEP},
    },
    "required": ["name"],
    "additionalProperties": False,
}
HEAD = "# yaml-language-server: $schema=schema.json\n"
FITS = [
    HEAD + "├name: a┤\n",
    HEAD + "name: ├a┤\n",
    HEAD + "name: ab├c\nquick: true┤\n",
    HEAD + 'name: "├A┤"\n',
    HEAD + "limit: ├0x10┤\n",
    HEAD + "limit: ├null┤\n",
    HEAD + "on: [├push┤]\n",
    HEAD + "on:\n  - push\n  ├- 'it''s'┤\n",
    HEAD + "steps:\n  - run: a\n    ├retries: 3┤\n",
    HEAD + "steps:\n  - run: |\n      make\n      ├make test┤\n",
    HEAD + "steps:\n  - ├run: make  # said\n    when: always┤\n",
    HEAD + "name: a\nsteps:├\n  - run: a\n  - run: b┤\n",
    HEAD + "quick:├ false┤\nname: a\n",
    HEAD + "steps:\n  - ├run: ┤\n",
]
WRONG = [
    (HEAD + "name: ├1┤\n", "type"),
    (HEAD + "name: ├A b┤\n", "pattern"),
    (HEAD + "quick: ├'true'┤\n", "type"),
    (HEAD + "├nam: a┤\n", "additionalProperties"),
    (HEAD + "name: a\n├limits: 3┤\n", "additionalProperties"),
    (HEAD + "on:\n  - push\n  - ├1.5┤\n", "type"),
    (HEAD + "steps:\n  - run: a\n    when: ├sometimes┤\n", "enum"),
    (HEAD + "steps:\n  - run: a\n    ├retry: 3┤\n", "additionalProperties"),
    (HEAD + "steps:\n  ├- retries: 3┤\n", "required"),
    (HEAD + "steps: [{run: a, ├retries: x┤}]\n", "type"),
]
NOTHING_SAID = [
    "name: ├1┤\n",
    HEAD + "name: ├1┤: 2: [\n",
    HEAD + "nam: a\nquick: ├true┤\n",
    HEAD + "base: &base\n  name: a\nname: ├1┤\n",
    HEAD + "base: *base\nname: ├1┤\n",
    HEAD + "name: ├!!str 1┤\n",
    HEAD + "name: ├1┤\n---\nname: a\n",
    HEAD + "? [a]\n: b\nname: ├1┤\n",
    HEAD + "limit: .inf\nname: ├1┤\n",
    HEAD + f"{'# long' * (SHAPE.most_chars // 5)}\nname: ├1┤\n",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return project(tmp_path_factory.mktemp("outer"), SCHEMA)


def said(folder: Path, picture: str) -> str | None:
    found = objected(objection, folder / "settings.yaml", picture)
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


def test_values_are_read_by_the_core_schema() -> None:
    text = "a: 0o17\nb: 0x1F\nc: -1.5e3\nd: ~\ne: TRUE\nf: yes\ng: \"a\\nb\"\nh: 'it''s'\n"
    root = SHAPE.root(text.encode())
    assert root is not None
    values = [SHAPE.scalar(value) for _, _, value in SHAPE.pairs(root)]
    assert values == [15, 31, -1500.0, None, True, "yes", "a\nb", "it's"]


STEPS = st.fixed_dictionaries(
    {"run": st.text("ab 'é", min_size=1, max_size=4)},
    optional={"retries": st.integers(0, 9), "when": st.sampled_from(["always", "never"])},
)
DOCUMENTS = st.fixed_dictionaries(
    {"name": st.from_regex("[a-z]{1,6}", fullmatch=True), "steps": st.lists(STEPS, min_size=1, max_size=3)},
    optional={"quick": st.booleans(), "limit": st.none() | st.integers()},
)


def written(document: dict[str, Any]) -> str:
    """A document as people write it, strings in quotes."""
    steps = document.pop("steps")
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in document.items()]
    lines.append("steps:")
    for step in steps:
        members = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in step.items()]
        lines += [f"  - {members[0]}", *(f"    {member}" for member in members[1:])]
    return "\n".join(lines) + "\n"


@given(DOCUMENTS, st.data())
def test_any_span_of_a_document_that_fits_fills_itself_in(
    folder: Path, document: dict[str, Any], data: st.DataObject
) -> None:
    text = HEAD + written(document)
    begin = data.draw(st.integers(len(HEAD), len(text)))
    end = data.draw(st.integers(begin, len(text)))
    assert said(folder, f"{text[:begin]}├{text[begin:end]}┤{text[end:]}") is None
