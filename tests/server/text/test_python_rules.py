"""Syntax errors of Python that the tree-sitter grammar accepts, checked against Python's own parser."""

from __future__ import annotations

import ast
import sysconfig
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tree_sitter import Parser

from midspan.server.text.languages import language_of
from midspan.server.text.python_rules import refused

SIMPLE = ("x = 1", "f(a)", "return", "# nothing", "pass; y")
HEADERS = ("if x:", "else:", "for a in b:", "def f():", "class A:", "try:", "except E:", "finally:", "while x: y")
LINES = st.lists(st.tuples(st.sampled_from((0, 1, 2, 4, 6, 8)), st.sampled_from(SIMPLE + HEADERS)), max_size=7)


def is_refused(text: str) -> bool:
    data = text.encode()
    root = Parser(language_of("python").grammar()).parse(data).root_node
    return root.has_error or refused(root, 0, len(data))


def parses(text: str) -> bool:
    try:
        ast.parse(text)
    except SyntaxError:
        return False
    return True


@given(LINES)
def test_indentation_is_refused_where_python_refuses_it(lines: list[tuple[int, str]]) -> None:
    text = "".join(f"{' ' * depth}{line}\n" for depth, line in lines)
    # If a block holds only comments, the grammar may put them into the next block.
    if not any(line.startswith("#") for _, line in lines):
        assert is_refused(text) == (not parses(text))


@given(st.lists(st.sampled_from(("a", "b=1", "*c", "**d", "(e)", "f or g", "'h'")), max_size=5))
def test_orders_of_arguments_are_refused_where_python_refuses_them(arguments: list[str]) -> None:
    text = f"f({', '.join(arguments)})\n"
    if not parses(text.replace("b=1", "b=2")) and "**d" in arguments and "*c" in arguments:
        return  # the rules of arguments after a double star are left to the grammar
    names = [argument for argument in arguments if argument == "b=1"]
    if len(names) < 2:
        assert is_refused(text) == (not parses(text))


@pytest.mark.parametrize(
    "parameters",
    ["a=1, b", "a: int = 1, b", "a=1, b: int", "a, b=1", "a=1, *, b", "a=1, *c, b", "*, a=1, b", "a=1, /, b=2"],
)
def test_a_parameter_without_a_default_may_not_follow_one_with_a_default(parameters: str) -> None:
    text = f"def f({parameters}): ...\n"
    assert is_refused(text) == (not parses(text))


def test_no_module_of_the_standard_library_is_refused() -> None:
    files = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))[:80]
    assert [path.name for path in files if is_refused(path.read_text(encoding="utf-8"))] == []
