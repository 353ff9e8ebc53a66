"""Definitions in the languages' samples: names, headers and outlines, never a function's body."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midspan.server.text.languages import BY_EXTENSION, TABLE, language_of
from midspan.server.workspace.tags import OUTLINE_CHARS, PATIENCE_S, definitions, has_tags
from tests.server.pictures import FIXTURES

SAMPLES = {BY_EXTENSION[path.suffix]: path.read_bytes() for path in sorted((FIXTURES / "languages").iterdir())}
EXPECTED = {
    "python": "Shop __init__ load sell total",
    "javascript": "Shop load sell total",
    "typescript": "Item State Shop load find",
    "tsx": "Props Picker",
    "go": "Shop Load Sell Total",
    "rust": "Shop new sell total",
    "java": "Sample put sell total",
    "c": "shop find sell",
    "cpp": "Shop Shop sell total",
    "csharp": "Sample Sell Total",
    "ruby": "Shop initialize load sell total",
    "php": "Shop put sell total",
    "lua": "new load sell",
}


@pytest.mark.parametrize("name", EXPECTED)
def test_the_definitions_of_a_sample(name: str) -> None:
    data = SAMPLES[name]
    found = definitions(language_of(name), data)
    assert [one.name for one in found] == EXPECTED[name].split()
    for one in found:
        assert one.head == data.decode().splitlines()[one.row].strip()
        assert one.name in one.head


def test_languages_without_a_query_have_no_definitions() -> None:
    assert {language.name for language in TABLE if has_tags(language)} == set(EXPECTED)
    assert definitions(language_of("json"), b'{"a": 1}') == []
    assert definitions(language_of("plaintext"), b"def f(): pass") == []


def texts(language: str, code: str) -> list[str]:
    return [one.text for one in definitions(language_of(language), code.encode())]


def test_bodies_are_left_out() -> None:
    [shown] = texts("python", "def f(a):\n    body = 1\n")
    assert shown == "def f(a):"
    assert texts("go", "package p\nfunc F(a int) int {\n\tbody := 1\n\treturn body\n}\n") == ["func F(a int) int"]
    assert texts("typescript", "const f = (a: number) => {\n  const body = 1;\n};\n") == ["const f = (a: number) =>"]


def test_a_method_has_the_header_of_its_class() -> None:
    assert texts("python", "@final\nclass A(B):\n    @property\n    def f(self):\n        return 1\n") == [
        "@final\nclass A(B):\n    @property\n    def f(self):",
        "class A(B):\n    @property\n    def f(self):",
    ]


def test_long_outlines_are_cut_at_a_line() -> None:
    fields = "".join(f"    field_{number}: int\n" for number in range(100))
    [shown] = texts("python", f"class A:\n{fields}")
    assert OUTLINE_CHARS - 30 < len(shown) <= OUTLINE_CHARS
    assert shown.endswith(": int")


def test_a_constant_has_its_first_line_only() -> None:
    assert texts("python", "NAMES = {\n    1: 2,\n}\n") == ["NAMES = {"]


@given(st.sampled_from(sorted(EXPECTED)), st.data())
def test_definitions_of_broken_text_stay_within_it(name: str, draw: st.DataObject) -> None:
    data = SAMPLES[name]
    begin, end = sorted((draw.draw(st.integers(0, len(data))), draw.draw(st.integers(0, len(data)))))
    spoilt = data[:begin] + draw.draw(st.binary(max_size=5)) + data[end:]
    text = spoilt.decode("utf-8", "replace")
    for one in definitions(language_of(name), spoilt):
        assert one.name in text
        assert len(one.text) <= 2 * OUTLINE_CHARS


def test_a_parse_that_takes_too_long_is_abandoned() -> None:
    # At each comment after a block the grammar scans all of them, so that the time is quadratic.
    began = time.thread_time()
    assert texts("python", "def f():\n    pass\n" + "# comment\n" * 25_000) == []
    assert time.thread_time() - began < 2 * PATIENCE_S


def test_carriage_returns() -> None:
    assert texts("python", "def f():\r\n    pass\r\nclass A:\r\n    x = 1\r\n") == ["def f():", "class A:\n    x = 1"]
