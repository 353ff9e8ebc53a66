"""Trials whether a text breaks code that parses: pictures with the fill between ├ and ┤, and against fresh parses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midspan.server.text.documents import Document
from midspan.server.text.python_rules import refused
from midspan.server.text.trial import Trial
from tests.server.pictures import cut, place

WHOLE = [
    "x = f(├a, b┤)\n",
    "def f():\n    ├return 1┤\n",
    "if x:\n    y\n├else:\n    z┤\n",
    "def f():\n    if x:\n        y\n    ├z = 1┤\n\n\ng()\n",
    "def f():\n    if x:\n        y\n├z = 1┤\n",
    'def f():\n    """Add.\n\n    ├More words.┤\n    """\n',
    "try:\n    a\n├except E:\n    b┤\n",
    "def f(a, *, b=1, ├c┤): ...\n",
    "def f(a=1, *b, ├c┤): ...\n",
    "f(a=1, ├*b┤)\n",
    "if x: a├; b┤\n",
    "@d\n├async ┤def f(): ...\n",
]
BROKEN = [
    "x = f(key, key)├)┤\n",
    "while (line := a)├[┤:\n    pass\n",
    "def f():\n    x = 1\n            ├y = 2┤\n    return x\n",
    "def f():\n    if x:\n        y\n      ├z = 1┤\n    return x\n",
    "def f():\n    ├if x:┤\n    return 1\n",
    "def f():\n├x = 1┤\n    return 1\n",
    "def f():\n    a\n    ├try:\n        b┤\n    c\n",
    'def f():\n    """Add.\n\n    ├"""┤\n    More words.\n    """\n',
    "f(a=1, ├b┤)\n",
    "def f(a=1, ├b┤): ...\n",
    "├print 'x'┤\n",
    "if x:\n    y\n  ├else:\n    z┤\n",
    "x = 1 + \\├\\┤\n    2\n",
]

# What the grammar lets pass, and Python refuses.
REFUSED = [
    "def f():\n    x\n\n\n├return 1┤\n\n\ny = 1\n",
    "class A:\n    ├return 1┤\n    x = 1\n",
    "class A:\n    class B:\n        @d\n        def f(self):\n            x\n\n        ├yield x┤\n        y = 1\n",
    "def f():\n    x\n    ├continue┤\n    y\n",
    "class A:\n    def f():\n        if x:\n            y\n    ├if y:┤\n            z\n        return 1\n",
    "def f(\n    a,\n    ├a,┤\n    b=1,\n): ...\n",
    "def f(a, *, b, ├*, ┤c): ...\n",
    "f(a=1, ├a=2┤)\n",
    "x = 1\n├x += y = 1┤\n",
    "x = 1\n├x := 1┤\n",
    "x = 1\n├del f()┤\n",
    "x = 1\n├y = 0777┤\n",
    "x = 1\n├f(a for a in b, 1)┤\n",
    "s = b'├é┤'\n",
    "s = ├bf┤'x'\n",
    "s = f'{x├!z┤}'\n",
    "x = (\n    'a'\n    ├b'c'┤\n    'd'\n)\n",
    "x = 1\n├from . import a.b┤\n",
    "x = {1, ├**y┤}\n",
]


def trial(picture: str, language: str = "python") -> tuple[Trial, str]:
    before, fill, after = cut(picture)
    return Trial(Document("file:///a", language, 1, before + after), place(before), place(before)), fill


@pytest.mark.parametrize("picture", WHOLE)
def test_a_text_that_fits_breaks_nothing(picture: str) -> None:
    tried, fill = trial(picture)
    assert not tried.breaks(fill)


@pytest.mark.parametrize("picture", BROKEN)
def test_texts_that_break_code_that_parses(picture: str) -> None:
    tried, fill = trial(picture)
    assert tried.parsed
    assert tried.breaks(fill)


@pytest.mark.parametrize("picture", WHOLE)
def test_what_python_takes_is_not_refused(picture: str) -> None:
    tried, fill = trial(picture)
    assert not tried.is_refused(fill)
    assert tried.kept([fill]) == [fill]


@pytest.mark.parametrize("picture", REFUSED)
def test_what_python_refuses_is_not_shown_where_the_code_compiles(picture: str) -> None:
    tried, fill = trial(picture)
    assert tried.compiled
    assert tried.kept([fill]) == []


@pytest.mark.parametrize(
    "picture",
    [
        "def f():\n    x\n\n\n├return 1┤\nreturn 2\n",
        "async def f():\n    x\n\n\n├await g()┤\n",
        "def f():\n    x = '\\d'\n    ├y = 1┤\n",
        f"x = {'-' * 9000}1\n├return 2┤\n",
        f"def f():\n    x\n\n\n├return {'x + ' * 4200}1┤\n",
        f"x = {'lambda: ' * 1900}1\n├return 2┤\n",
        "x = '\ud800'\n├return 1┤\n",
    ],
    ids=["refused as it is", "a cell of a notebook", "a warning", "too deep", "too long", "lambdas", "half a pair"],
)
def test_where_the_compiler_has_nothing_to_say_a_text_stays(picture: str) -> None:
    tried, fill = trial(picture)
    assert tried.kept([fill]) == [fill]


def test_of_texts_for_code_that_does_not_compile_those_that_do_come_alone() -> None:
    tried, _ = trial("def f(a, a├┤): ...\n")
    assert not tried.compiled
    assert tried.kept(["", "b"]) == ["b"]
    assert tried.kept(["", ", a"]) == ["", ", a"]


def test_the_rest_of_a_class_does_not_matter() -> None:
    tried, _ = trial("class A:\n    def f(self, a, a): ...\n\n    def g(self):\n        x\n        ├┤\n        y\n")
    assert tried.compiled
    assert tried.kept(["z", "continue"]) == ["z"]


@pytest.mark.parametrize(
    ("language", "picture"),
    [
        ("javascript", "let x = f(├a => (a┤);\n"),
        ("typescript", "f(├[┤);\n"),
        ("go", "package a\n\nfunc f() {\n\t├if x {┤\n}\n"),
        ("rust", "fn f() {\n    ├let x = (1;┤\n}\n"),
        ("java", "class A {\n    ├void f() {┤\n}\n"),
        ("json", '{"a": 1├, ┤}\n'),
    ],
)
def test_other_languages_by_their_grammars(language: str, picture: str) -> None:
    tried, fill = trial(picture, language)
    assert tried.parsed
    assert tried.breaks(fill)
    assert not tried.breaks(" ")


def test_code_with_an_error_near_the_gap_does_not_count_as_parsed() -> None:
    tried, _ = trial("x = f(├┤\n\n\ny = 1\n")
    assert not tried.parsed
    assert not tried.breaks("a)")
    assert tried.breaks("a")


def test_if_the_code_does_not_parse_all_texts_stay_unless_one_repairs_it() -> None:
    parsing, (open_, _) = trial("x = f(├┤)\n")[0], trial("x = f(├┤\n")
    assert parsing.kept(["a", "(", "b"]) == ["a", "b"]
    assert parsing.kept(["(", "["]) == []
    assert open_.kept(["a", "b)"]) == ["b)"]
    assert open_.kept(["a", "b"]) == ["a", "b"]


def test_an_error_far_from_the_gap_does_not_matter() -> None:
    tried, _ = trial("def f(:\n    pass\n\n\ndef g():\n    return 1\n\n\nx = ├┤1\n")
    assert tried.parsed
    assert not tried.breaks("2 + ")
    assert tried.breaks(")")


def test_a_text_can_replace_a_span() -> None:
    document = Document("file:///a", "python", 1, "if a:\r\n    é(b)\r\n    c\r\nd\r\n")
    tried = Trial(document, (1, 4), (2, 5))
    assert tried.parsed
    assert not tried.breaks("x = 'ü'\n    y")
    assert tried.breaks("x = 'ü'\n  y")
    assert tried.breaks("")


def test_nothing_breaks_without_a_grammar_or_once_the_document_has_changed() -> None:
    plain = Trial(Document("file:///a", "plaintext", 1, "x"), (0, 1), (0, 1))
    assert not plain.parsed
    assert not plain.breaks(")")
    document = Document("file:///a", "python", 1, "x = 1\n")
    tried = Trial(document, (0, 5), (0, 5))
    assert tried.breaks(")")
    document.edit(((0, 0), (0, 0)), "(")
    assert not tried.breaks(")")


PARTS = ("if x:\n", "    y = 1\n", "        z\n", "\n", "def f(a):\n", "else:\n", "f(a,\n", ")\n", '"""\n', "    # é\n")
FILLS = st.lists(
    st.sampled_from(("x", " ", "\n", "(", ")", ":", '"""', "    ", "if x:", "é", "=1", "a=1, ")), max_size=5
)


@given(st.lists(st.sampled_from(PARTS), max_size=8), st.integers(0, 99), st.integers(0, 99), FILLS)
def test_a_trial_agrees_with_a_fresh_parse_of_the_new_text(
    parts: list[str], row: int, column: int, fill: list[str]
) -> None:
    text, new = "".join(parts), "".join(fill)
    document = Document("file:///a", "python", 1, text)
    row %= len(document.lines)
    at = row, column % (len(document.content(row)) + 1)
    if broken(text):
        return
    after = Document("file:///a", "python", 1, text)
    after.edit((at, at), new)
    assert Trial(document, at, at).breaks(new) == broken(after.text)


def broken(text: str) -> bool:
    tree = Document("file:///a", "python", 1, text).tree()
    assert tree is not None
    return tree.root_node.has_error or refused(tree.root_node, 0, len(text.encode()))
