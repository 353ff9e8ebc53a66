"""The surroundings of a place (code, string, comment) by the syntax tree, in valid and invalid text."""

from __future__ import annotations

import pytest

from midspan.server.text.documents import Document
from midspan.server.text.line_index import byte_length
from midspan.server.text.syntax import Syntax, syntax_of


def surroundings(picture: str) -> str:
    """The surroundings of the place that `‸` marks."""
    before, after = picture.split("‸")
    syntax = Document("file:///a.py", "python", 1, before + after).syntax
    assert syntax is not None
    return syntax.surroundings(byte_length(before))


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        ("‸", "code"),
        ("‸'a'", "code"),
        ("‸# note", "code"),
        ("'‸a'", "string"),
        ("'a‸'", "string"),
        ("'a'‸", "code"),
        ("'‸'", "string"),
        ("r'‸'", "string"),
        ("x = '''\n‸\n'''\n", "string"),
        ("'漢😀‸'", "string"),
        ("漢 = '😀'‸", "code"),
        ("x = 1  ‸# note", "code"),
        ("x = 1  #‸ note", "comment"),
        ("# note‸", "comment"),
        ("# note‸\nx", "comment"),
        ("# note\n‸x", "code"),
        ("'# no note ‸'", "string"),
        ("f'a {‸b} c'", "code"),
        ("f'a {b‸} c'", "code"),
        ("f'a {b}‸ c'", "string"),
        ("f'a ‸{b} c'", "string"),
        ("f'a {x[\"‸k\"]} c'", "string"),
        ("def f(:\n    x = 'a‸b'\n", "string"),
        ("x = ((\n# note ‸\n", "comment"),
        ("x = '" + chr(0xD800) + "‸'", "string"),
    ],
)
def test_surroundings(picture: str, expected: str) -> None:
    assert surroundings(picture) == expected


def test_errors_appear_and_disappear_with_edits() -> None:
    document = Document("file:///a.py", "python", 1, "x = (1)\n")
    assert document.syntax is not None
    states = [document.syntax.has_error]
    for span, text in ((((0, 6), (0, 7)), ""), (((0, 6), (0, 6)), ")")):
        document.change(span, text, "utf-16")
        states.append(document.syntax.has_error)
    assert states == [False, True, False]


def test_surroundings_follow_the_edits() -> None:
    document = Document("file:///a.py", "python", 1, "a = 1\nb = c\n")
    assert document.syntax is not None
    document.change(((0, 0), (0, 0)), "# 漢\n", "utf-16")
    document.change(((2, 4), (2, 5)), "'😀'", "utf-16")
    offset = byte_length("# 漢\na = 1\nb = '😀")
    assert [document.syntax.surroundings(at) for at in (3, 8, offset, offset + 1)] == [
        "comment", "code", "string", "code",
    ]  # fmt: skip


def test_a_replaced_text_has_a_fresh_tree() -> None:
    document = Document("file:///a.py", "python", 1, "'''\n" * 3)
    document.change(None, "x = 1\n", "utf-16")
    assert document.syntax is not None
    assert document.syntax.outline == fresh("x = 1\n").outline


def test_a_language_without_a_grammar_has_no_tree() -> None:
    assert syntax_of("brainfuck") is None
    assert Document("file:///a.bf", "brainfuck", 1, "+[‸]").syntax is None


def fresh(text: str) -> Syntax:
    syntax = Document("file:///a.py", "python", 1, text).syntax
    assert syntax is not None
    return syntax
