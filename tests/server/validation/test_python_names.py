"""Names that a Python fill brings and nothing defines: pictures, where `├…┤` is the fill."""

from __future__ import annotations

import pytest

from midspan.server.validation.python_names import MAX_CHARS, objection
from midspan.server.validation.splice import Splice
from tests.server.pictures import cut

DEFINED = [
    "import os\nx = ├os.sep┤\n",
    "def f(path):\n    return ├path.name┤\n",
    "def f():\n    ├return later()┤\n\n\ndef later(): ...\n",
    "x = ├[one for one in range(3)]┤\n",
    "x = ├len(__file__) + __debug__┤\n",
    "class A:\n    size = 3\n    area = ├size * size┤\n",
    "class A:\n    name = ├__qualname__┤\n",
    "class A:\n    def f(self):\n        return ├__class__, super()┤\n",
    "if x := 1:\n    y = ├x┤\n",
    "y = [z := 1 for _ in '']\n├print(z)┤\n",
    "def f():\n    global made\n    made = 1\n\n\n├print(made)┤\n",
    "def f():\n    global made\n    import made\n\n\n├print(made)┤\n",
    "try:\n    import json\nexcept ImportError:\n    json = None\n├json┤\n",
    "match 1:\n    case {'a': a, **rest}:\n        ├print(a, rest)┤\n",
    "for i in range(3): pass\n├print(i)┤\n",
    "with open('x') as file:\n    ├file.read()┤\n",
    "try: ...\nexcept OSError as error:\n    ├raise error┤\n",
    "x = 1\n├del x┤\n",
    "x: int\n├print(x)┤\n",
    "def f():\n    x = 1\n\n    def g():\n        nonlocal x\n        ├x += 1┤\n",
    "f = lambda a, *b, **c: ├(a, b, c)┤\n",
    "x = ├'''nothing defines it'''  # nor this┤\n",
    "x = 1\n├x.anything.at(key=x)┤\n",
    "def f(x: ├'Later'┤): ...\n",
    "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from a import B\nx: ├B┤\n",
    "prin├t(1)┤\n",
    "value = 1\nprint(val├┤ue)\n",
    "pass\n├import re\nx = re.compile('')┤\n",
    "_ = ├_('text')┤\n",
    "# Databricks notebook source\nrows = ├spark.table('rows'), dbutils┤\n",
    "print(├__version__┤)\n",
]
UNDEFINED = [
    ("x = ├helper(1)┤\n", "helper"),
    ("value = 1\nprint(├valeu┤)\n", "valeu"),
    ("value = 1\nprint(val├ues┤)\n", "values"),
    ("def f():\n    path = 1\n\n\ndef g():\n    return ├path┤\n", "path"),
    ("class A:\n    size = 3\n\n    def f(self):\n        return ├size┤\n", "size"),
    ("import os.path as p\nx = ├os.sep┤\n", "os"),
    ("x = [one for one in '']\n├print(one)┤\n", "one"),
    ("@├decorated┤\ndef f(): ...\n", "decorated"),
    ("x = f'{├missing┤}'\n", "missing"),
    ("def f(x: ├Missing┤): ...\n", "Missing"),
    ("def f():\n    ├é = è┤\n", "è"),
    ("class A:\n    def __getattr__(self, name): ...\n\n\nx = ├lazy┤\n", "lazy"),
]
NOTHING_SAID = [
    "from os import *\nx = ├sep_of_os┤\n",
    "from os import (\n    *\n)\nx = ├sep┤\n",
    "globals()['a'] = 1\nx = ├a┤\n",
    "exec('a = 1')\nx = ├a┤\n",
    "Import('env')\nlib = ├env.Library('a')┤\n",
    "def __getattr__(name): ...\n\n\nx = ├lazy┤\n",
    "import sys\nsetattr(sys.modules[__name__], 'a', 1)\nx = ├a┤\n",
    "try:\n    ├unicode┤\nexcept NameError:\n    pass\n",
    "x = unknown\ny = ├unknown┤\n",
    "def (\nx = ├missing┤\n",
    "type A[T] = ├list[B]┤ =\n",
    "x = '\ud800'\ny = ├missing\x00┤\n",
    f"{'x = 1' * (MAX_CHARS // 5)}\n├missing┤\n",
    f"x = {'-' * 9000}├missing┤\n",
]


def said(picture: str, uri: str = "file:///a.py") -> str | None:
    before, fill, after = cut(picture)
    found = objection(Splice(uri=uri, before=before, fill=fill, after=after))
    assert found is None or found.kind == "name"
    return None if found is None else found.words


@pytest.mark.parametrize("picture", DEFINED)
def test_what_python_finds_is_defined(picture: str) -> None:
    assert said(picture) is None


@pytest.mark.parametrize(("picture", "name"), UNDEFINED)
def test_a_name_that_the_fill_brings_and_nothing_defines_is_named(picture: str, name: str) -> None:
    assert said(picture) == f"uses `{name}`, which nothing here defines"


@pytest.mark.parametrize("picture", NOTHING_SAID)
def test_where_names_cannot_be_known_or_were_undefined_before_nothing_is_said(picture: str) -> None:
    assert said(picture) is None


@pytest.mark.parametrize("scheme", ["vscode-notebook-cell", "vscode-interactive", "vscode-interactive-input"])
def test_a_cell_of_a_notebook_has_the_names_of_the_other_cells(scheme: str) -> None:
    assert said("x = ├frame┤\n", f"{scheme}:/a.ipynb#1") is None
    assert said("x = ├frame┤\n", "file:///a.py") is not None


def test_a_warning_about_the_file_is_nobodys_here() -> None:
    assert said("x = '\\d'\ny = ├missing┤\n") is not None
