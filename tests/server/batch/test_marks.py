"""Marked gaps: the text of a file, with each gap shown as ├…┤ where it is found."""

from __future__ import annotations

import re

import pytest

from midspan.server.batch.marks import Mark, marks_of
from midspan.server.text.documents import Document


def shown(text: str, language: str = "python", pattern: str | None = None, uri: str = "file:///a.py") -> str:
    """The text with its gaps between ├ and ┤; what opens one stands before it."""
    document = Document(uri, language, 0, text)
    marks = marks_of(document, re.compile(pattern, re.MULTILINE) if pattern else None)
    assert document.text == text, "looking for gaps changes nothing"
    for mark in reversed(marks):
        document.edit((mark.end, mark.end), "┤")
        document.edit((mark.start, mark.start), mark.opening + "├")
    return document.text


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("def f():\n    ...\n", "def f():\n    ├...┤\n"),
        ("def f(): ...\n", "def f(): ├...┤\n"),
        ('async def f():\n    """Doc."""\n    ...\n', 'async def f():\n    """Doc."""\n    ├...┤\n'),
        ("class A:\n    def f(self):\n        ...\n", "class A:\n    def f(self):\n        ├...┤\n"),
        ("def é():\r\n    # why\r\n    ...\r\n", "def é():\r\n    # why\r\n    ├...┤\r\n"),
        ("@cache\ndef f():\n    ...", "@cache\ndef f():\n    ├...┤"),
    ],
)
def test_a_body_that_is_dots(text: str, found: str) -> None:
    assert shown(text) == found


@pytest.mark.parametrize(
    "text",
    [
        "x = ...\n",
        "def f():\n    x = 1\n    ...\n",
        "def f():\n    ''\n",
        "class A:\n    ...\n",
        "@overload\ndef f():\n    ...\n",
        "class A(ABC):\n    @abc.abstractmethod\n    def f(self):\n        ...\n",
        "class A(Protocol[T]):\n    def f(self): ...\n",
        "class A(Protocol):\n    @property\n    def f(self): ...\n",
        "def f():\n    pass\n",
        "# TODO: faster\nx = 1\n",
        "def f():\n    # TODO: faster\n    return 1\n",
        's = """\n# TODO\n"""\n',
        "def f():\n    # TODOS\n",
    ],
)
def test_what_is_no_gap(text: str) -> None:
    assert shown(text) == text


def test_the_dots_of_a_stub_file_are_no_gaps() -> None:
    assert shown("def f(): ...\n", uri="file:///a.pyi") == "def f(): ...\n"


@pytest.mark.parametrize(
    ("language", "text", "found"),
    [
        ("python", "def f():\n    # TODO: add\n", "def f():\n    # TODO: add\n    ├┤\n"),
        ("python", "def f():\n    # TODO: add", "def f():\n    # TODO: add\n    ├┤"),
        ("python", "def f():\n    # TODO: add\n\n\nf()\n", "def f():\n    # TODO: add\n    ├┤\n\n\nf()\n"),
        ("python", "def f():\n    # TODO: a\n    # b\n    pass\n", "def f():\n    # TODO: a\n    # b\n    ├pass┤\n"),
        ("python", "if x:\n    # TODO\n    ...\n", "if x:\n    # TODO\n    ├...┤\n"),
        (
            "python",
            "def f():\n    # TODO\n    raise NotImplementedError('f')\n",
            "def f():\n    # TODO\n    ├raise NotImplementedError('f')┤\n",
        ),
        ("javascript", "function f() {\r\n  // TODO\r\n}\r\n", "function f() {\r\n  // TODO\r\n  ├┤\r\n}\r\n"),
        ("go", "func f() {\n\t// TODO: add\n}\n", "func f() {\n\t// TODO: add\n\t├┤\n}\n"),
    ],
)
def test_a_todo_where_a_block_has_no_code(language: str, text: str, found: str) -> None:
    assert shown(text, language, uri="file:///a") == found


def test_a_pattern_sees_lines_without_their_ends() -> None:
    assert shown("a = 1  # fill\r\nb\r\n", pattern="# fill$") == "a = 1  ├# fill┤\r\nb\r\n"
    assert shown("a\r\nb\r\n", pattern=r"a\nb") == "├a\r\nb┤\r\n"
    assert shown("@@\n", pattern="@") == "├@┤├@┤\n"
    assert shown("x = \n", pattern="(?<== )$") == "x = ├┤\n"
    assert shown("@@", "plaintext", pattern="@@", uri="file:///a.txt") == "├@@┤"


def test_of_gaps_that_overlap_the_first_is_taken() -> None:
    document = Document("file:///a.py", "python", 0, "def f():\n    ...\n")
    [mark] = marks_of(document, re.compile(r"    \.\.\."))
    assert mark == Mark(kind="pattern", start=(1, 0), end=(1, 7))
