"""Fills in JSON documents that name a schema: pictures, where `├…┤` is the fill, and files that are no schema."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from midspan.server.text.documents import Document
from midspan.server.validation import schema_files, tree_schema
from midspan.server.validation.json_schema import SHAPE, objection
from midspan.server.validation.plain_patterns import is_plain
from midspan.server.validation.schema_check import SchemaCheck
from midspan.server.validation.schema_errors import OTHER_WORDS, WORDS
from midspan.server.validation.schema_files import check_of, file_of, has_schema, reference_in
from midspan.server.validation.splice import Files, Splice
from tests.server.pictures import cut
from tests.server.validation.schema_pictures import WAIT_S, objected, project

SERVER = {
    "type": "object",
    "properties": {"host": {"type": "string"}, "port": {"type": "integer"}, "mode": {"enum": ["fast", "safe"]}},
    "required": ["host", "port"],
    "additionalProperties": False,
}
SCHEMA: dict[str, Any] = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "type": "object",
    "properties": {
        "$schema": {"type": "string"},
        "name": {"type": "string", "pattern": "^[a-z]+$"},
        "code": {"type": "string", "pattern": "^(?:[a-z]+)+$"},
        "words": {"type": "array", "items": {"type": "string", "minLength": 3}},
        "ids": {"type": "object", "propertyNames": {"minLength": 3}},
        "servers": {"type": "array", "items": {"$ref": "#/definitions/server"}, "maxItems": 3},
        "limit": {"const": 3},
    },
    "definitions": {"server": SERVER},
    "required": ["name"],
    "if": {"properties": {"limit": {"const": 3}}, "required": ["limit"]},
    "then": {"required": ["code"]},
    "additionalProperties": False,
}
HEAD = '{"$schema": "schema.json", '
FITS = [
    HEAD + '├"name": "a"┤}',
    HEAD + '"name": ├"a"┤}',
    HEAD + '"name": "├a┤"}',
    HEAD + '├"servers": []┤}',
    HEAD + '"servers": [{├"host": "a"┤}]}',
    HEAD + '"servers": [{"host": "a", "port": 1}├, {"host": "b", "port": 2}┤]}',
    HEAD + '"servers": [{"host": "a"├, "mode": "fast"┤}]}',
    HEAD + '"limit": ├3┤}',
    HEAD + '"code": "├A┤"}',
    HEAD + '"name": "├A┤"}',
    HEAD + '"name": ├"A┤"}',
    HEAD + '├"name": "A┤"}',
    HEAD + '"words": ["├a┤"]}',
    HEAD + '"words": ["a├", "bcd"], "limit┤": 3}',
    HEAD + '"ids": {"├a┤": 1}}',
    HEAD + '// said\n "name": ├"a" /* too */┤}',
]
WRONG = [
    (HEAD + '"name": ├1┤}', "type"),
    (HEAD + '"name": ├"A"┤}', "pattern"),
    (HEAD + '"words": [├"a"┤]}', "minLength"),
    (HEAD + '"words": ["├abc", "a", "b┤"]}', "minLength"),
    (HEAD + '"ids": {├"a": 1┤}}', "minLength"),
    (HEAD + '"name": "a", ├"nam": 1┤}', "additionalProperties"),
    (HEAD + '"name": "a", "├nam┤": 1}', "additionalProperties"),
    (HEAD + '"servers": [{"host": ├null┤}]}', "type"),
    (HEAD + '"servers": [{"host": "a", "port": 1├0.5┤}]}', "type"),
    (HEAD + '"servers": [{"mode": "├slow┤"}]}', "enum"),
    (HEAD + '"servers": [├{"host": "a"}┤]}', "required"),
    (HEAD + '├"servers": [{"host": "a"}]┤}', "required"),
    (HEAD + '"limit": ├4┤}', "const"),
    (HEAD + '"servers": [{"bad": 1, ├"worse": 2┤}]}', "additionalProperties"),
]
NOTHING_SAID = [
    '{"name": ├1┤}',
    '{"inner": {"$schema": "schema.json"}, "name": ├1┤}',
    '{├"$schema": "schema.json", "name": 1┤}',
    '{"$schema": "https://example.com/schema.json", "name": ├1┤}',
    '{"$schema": "//example.com/schema.json", "name": ├1┤}',
    '{"$schema": "gone.json", "name": ├1┤}',
    '{"$schema": "../outside.json", "name": ├1┤}',
    '{"$schema": "schema.json\\u0000", "name": ├1┤}',
    '{"$schema": "\\q", "name": ├1┤}',
    HEAD + '"name": ├1┤,}',
    HEAD + '"name": 1├2┤}',
    HEAD + '"bad": 1, "name": "├a┤"}',
    HEAD + f'"name": {" " * SHAPE.most_chars}├1┤}}',
    HEAD + f'"{"k" * 300}": ├1┤}}',
    HEAD + f'"name": ├{"[" * 3000}{"]" * 3000}┤}}',
    HEAD + '"name": ├1┤} {}',
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return project(tmp_path, SCHEMA)


def said(folder: Path, picture: str) -> str | None:
    found = objected(objection, folder / "settings.json", picture)
    return None if found is None else found.words


@pytest.mark.parametrize("picture", FITS)
def test_what_fits_the_schema_stays_though_the_document_is_not_complete(folder: Path, picture: str) -> None:
    assert said(folder, picture) is None


@pytest.mark.parametrize(("picture", "keyword"), WRONG)
def test_what_breaks_the_schema_is_objected_to(folder: Path, picture: str, keyword: str) -> None:
    assert said(folder, picture) == WORDS.get(keyword, OTHER_WORDS)


@pytest.mark.parametrize("picture", NOTHING_SAID)
def test_without_a_schema_of_the_workspace_nothing_is_said(folder: Path, picture: str) -> None:
    assert said(folder, picture) is None


@pytest.mark.parametrize(
    "schema",
    [
        "[",
        '{"type": "objekt"}',
        '{"$ref": "https://example.com/other.json"}',
        '{"$ref": "#"}',
        '{"type": "object", "patternProperties": {"^(a+)+$": {"type": "string"}}}',
        '{"type": "object", "patternProperties": {"(": {"type": "string"}}}',
        "[" * 100_000,
        json.dumps({"$defs": {f"a{n}": {"allOf": [{"$ref": f"#/$defs/a{n + 1}"}] * 2} for n in range(40)}
                    | {"a40": {"type": "string"}}, "$ref": "#/$defs/a0"}),
    ],
    ids=["no JSON", "no schema", "elsewhere", "a circle", "backtracks", "no pattern", "too deep", "for ever"],
)  # fmt: skip
def test_a_schema_that_cannot_be_used_says_nothing(folder: Path, schema: str) -> None:
    (folder / "schema.json").write_text(schema, encoding="utf-8")
    assert said(folder, HEAD + '"name": ├1┤}') is None


def test_a_schema_that_is_changed_is_read_again(folder: Path) -> None:
    picture = HEAD + '"name": ├1┤}'
    assert said(folder, picture) is not None
    (folder / "schema.json").write_text("true", encoding="utf-8")
    assert said(folder, picture) is None


def test_nobody_waits_for_a_schema_that_is_not_read_yet(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema_files, "_known", {})
    monkeypatch.setattr(schema_files, "_make", lambda path, ready: None)
    before, fill, after = cut(HEAD + '"name": ├1┤}')
    uri = (folder / "settings.json").as_uri()
    assert objection(Splice(uri=uri, before=before, fill=fill, after=after)) is None


def test_a_schema_lies_in_the_folder_that_holds_the_document(tmp_path: Path) -> None:
    inner, uri = tmp_path / "a" / "b", (tmp_path / "a" / "b" / "c.json").as_uri()
    inner.mkdir(parents=True)
    assert file_of("../s.json", uri, [tmp_path / "a"]) == os.path.realpath(tmp_path / "a" / "s.json")
    assert file_of((tmp_path / "a" / "s.json").as_uri(), uri, [tmp_path / "a"]) is not None
    assert file_of("./s.json#/x", uri, []) == os.path.realpath(inner / "s.json")
    for reference, folders in (("../../s.json", [tmp_path / "a"]), ("../s.json", []), ("/etc/passwd", [tmp_path])):
        assert file_of(reference, uri, folders) is None
    (inner / "link.json").symlink_to(tmp_path / "s.json")
    assert file_of("link.json", uri, []) is None
    assert file_of("s.json", "untitled:/c.json", []) is None


def test_a_reference_is_found_before_and_behind_the_gap() -> None:
    assert reference_in('{"$schema": "a.json", ', "") == "a.json"
    assert reference_in("{", '"$schema" : "a\\/b.json"}') == "a/b.json"
    assert reference_in("{", "}") is None


def test_patterns_that_take_long_are_not_matched() -> None:
    assert is_plain("^[a-z]+[0-9]*$")
    for pattern in ("(a+)+", "(a|a)*b", "a*a*a*b", "a?" * 6, "(", "x" * 301, "(?:a){2,}"):
        assert not is_plain(pattern)
    check = SchemaCheck({"pattern": "^a+$"})
    assert check.errors("b") != []
    assert check.errors("b" * 257) == []
    assert SchemaCheck({"uniqueItems": True}).errors([{}] * 301) == []
    assert SchemaCheck({"uniqueItems": True}).errors([{}] * 2) != []


def test_a_file_that_is_none_has_no_check(tmp_path: Path) -> None:
    assert check_of(str(tmp_path / "none.json")).result(0) is None
    (tmp_path / "large.json").write_bytes(b" " * (schema_files.MOST_BYTES + 1))
    assert check_of(str(tmp_path / "large.json")).result(WAIT_S) is None


def test_the_user_names_schemas_by_the_files_that_they_are_for(folder: Path) -> None:
    def words(picture: str, schemas: dict[str, str], name: str = "settings.json") -> str | None:
        before, fill, after = cut(picture)
        files = Files(folders=[folder], schemas=schemas, patience_s=WAIT_S)
        uri = (folder / "below" / name).as_uri()
        found = objection(Splice(uri=uri, before=before, fill=fill, after=after, files=files))
        return None if found is None else found.words

    wrong = '{"name": ├1┤}'
    by_name = {"other.json": "gone.json", "sett*.json": "schema.json"}
    assert words(wrong, by_name) == WORDS["type"]
    assert words(wrong, {"below/settings.json": str(folder.parent / "outside.json")}) == WORDS["type"]
    assert words(wrong, by_name, "another.json") is None
    assert words(wrong, {"*.json": "gone.json"}) is None
    assert words(wrong, {"*.json": "schema\0.json"}) is None
    # What the document says itself goes first, unless that is none of the workspace.
    (folder / "below").mkdir()
    (folder / "below" / "any.json").write_text("true", encoding="utf-8")
    assert words('{"$schema": "any.json", "name": ├1┤}', by_name) is None
    assert words('{"$schema": "https://example.com/s.json", "name": ├1┤}', by_name) == WORDS["type"]


def test_a_document_that_has_a_schema_is_known_by_its_beginning(folder: Path) -> None:
    def has(text: str, name: str, language: str, schemas: dict[str, str]) -> bool:
        document = Document((folder / name).as_uri(), language, 1, text)
        return has_schema(document, Files(folders=[folder], schemas=schemas))

    assert has(HEAD, "a.json", "json", {})
    assert not has('{"$schema": "gone.json"', "a.json", "json", {})
    assert not has("{}", "a.json", "json", {})
    assert has("#:schema ./schema.json\n", "a.toml", "toml", {})
    assert has("", "a.toml", "toml", {"a.toml": "schema.json"})
    assert not has("", "a.toml", "toml", {"b.toml": "schema.json"})
    assert not has("", "a.py", "python", {"*.py": "schema.json"})


def test_of_a_document_that_takes_too_long_to_read_nothing_is_said(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = HEAD + '"words": ["abc"], "name": ├1┤}'
    assert said(folder, wrong) is not None
    monkeypatch.setattr(tree_schema, "PATIENCE_S", -1.0)
    assert said(folder, wrong) is None
