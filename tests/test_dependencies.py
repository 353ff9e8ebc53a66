"""What an installation brings along: what product code imports, all of it and nothing else."""

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

# Where a package is imported by another name than it is installed by.
IMPORTED_AS = {"huggingface-hub": "huggingface_hub", "tree-sitter": "tree_sitter"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def installed(requirements: list[str]) -> set[str]:
    """The names before versions and markers."""
    return {re.split(r"[^\w-]", requirement, maxsplit=1)[0] for requirement in requirements}


def test_what_is_declared_is_what_is_imported() -> None:
    imported = set[str]()
    for path in SOURCES:
        # Training is for those who train: the extra `train`. So is triton, `kernels`.
        if "training" not in path.parts:
            imported |= imported_packages(ast.parse(path.read_text(encoding="utf-8")))
    imported -= {*sys.stdlib_module_names, "midspan", "triton"}
    grammars = {language.package.replace("_", "-") for language in TABLE}
    declared = installed(PROJECT["dependencies"])
    assert {IMPORTED_AS.get(name, name) for name in declared - grammars} == imported
    assert grammars <= declared


def test_every_dependency_has_a_word_on_what_it_is_for() -> None:
    lines = (
        (ROOT / "pyproject.toml")
        .read_text(encoding="utf-8")
        .split("\ndependencies = [\n")[1]
        .split("\n]")[0]
        .splitlines()
    )
    # Those of one subject stand together below theirs.
    assert lines[0].startswith("    # ")
    assert sum(line.startswith("    # ") for line in lines) >= 8


# What only extras bring, and what is not brought any more.
BLOCKED = ("matplotlib", "numpy", "onnx", "onnxruntime", "transformers", "triton")


@pytest.mark.timeout(240)
def test_a_gap_is_filled_without_what_is_not_declared(tmp_path: Path) -> None:
    """In a process that has none of it, and in which a warning is an error."""
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
