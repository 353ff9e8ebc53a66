"""Declared dependencies are exactly those that product code imports, and each has a comment on its use."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from midspan.server.text.languages import TABLE
from tests.test_floors import ROOT, SOURCES, imported_packages

# Packages whose import name differs from their name in a package index.
IMPORTED_AS = {"huggingface-hub": "huggingface_hub", "tree-sitter": "tree_sitter"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def installed(requirements: list[str]) -> set[str]:
    """The packages' names, without versions and markers."""
    return {re.split(r"[^\w-]", requirement, maxsplit=1)[0] for requirement in requirements}


def test_declared_dependencies_are_those_that_product_code_imports() -> None:
    imported = set[str]()
    for path in SOURCES:
        # Training's dependencies are the extra `train`; triton, jsonschema and keyring have extras of their own. The
        # plugin is imported by the pytest that it needs.
        if "training" not in path.parts and path.name not in ("schema_check.py", "keys.py", "plugin.py"):
            imported |= imported_packages(ast.parse(path.read_text(encoding="utf-8")))
    imported -= {*sys.stdlib_module_names, "midspan", "triton"}
    grammars = {language.package.replace("_", "-") for language in TABLE}
    declared = installed(PROJECT["dependencies"])
    assert {IMPORTED_AS.get(name, name) for name in declared - grammars} == imported
    assert grammars <= declared


def test_every_dependency_has_a_comment_on_its_use() -> None:
    lines = (
        (ROOT / "pyproject.toml")
        .read_text(encoding="utf-8")
        .split("\ndependencies = [\n")[1]
        .split("\n]")[0]
        .splitlines()
    )
    # Dependencies of one subject share a comment above them.
    assert lines[0].startswith("    # ")
    assert sum(line.startswith("    # ") for line in lines) >= 8


# Packages of extras, and former dependencies.
BLOCKED = ("jsonschema", "keyring", "matplotlib", "numpy", "onnx", "onnxruntime", "transformers", "triton")


@pytest.mark.timeout(240)
def test_a_gap_is_filled_without_undeclared_packages(tmp_path: Path) -> None:
    """In a process that cannot import them, and in which a warning is an error."""
    (tmp_path / "add.py").write_text("def add(a, b):\n    return \n\n\nprint(add(1, 2))\n", encoding="utf-8")
    script = f"""
import sys
from importlib.machinery import PathFinder

class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in {BLOCKED} else super().find_spec(name, path, target)

sys.meta_path = [Without if finder is PathFinder else finder for finder in sys.meta_path]
from midspan.server.cli import main
sys.exit(main(["fill", "add.py", "--at", "2:12", "--json"]))
"""
    command = [sys.executable, "-W", "error", "-c", script]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["text"]
