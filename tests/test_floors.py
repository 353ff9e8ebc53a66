"""The floors: who may import what, and how long files and functions may grow."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

ROOT = Path(__file__).parents[1]
FLOORS = ("server", "engine", "kernels")
SOURCES = [path for floor in FLOORS for path in sorted((ROOT / floor).rglob("*.py"))]
NATIVE = sorted((ROOT / "kernels" / "cpu").iterdir())
CODE = [*SOURCES, *NATIVE, *sorted((ROOT / "editors").rglob("*.lua")), *sorted((ROOT / "tests").rglob("*.py"))]
THIRD_PARTY = {
    "server": {"cattrs", "lsprotocol", "msgspec", "pathspec", "pygls", "rich", "tree_sitter"},
    "engine": {"safetensors", "tokenizers", "torch"},
    "kernels": {"torch", "triton"},
}
THIRD_PARTY_BY_FILE = {
    # The hub's local cache, for a checkpoint that is named and not a folder.
    "engine/weights.py": {"huggingface_hub"},
    "engine/training/": {"matplotlib", "numpy"},
}
WEAK_NAMES = ("Manager", "Handler", "Helper", "Util", "Utils", "Wrapper", "Base")


def identify(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imported_packages(tree: ast.Module) -> set[str]:
    """Top-level names of every absolute import in the module, wherever it stands."""
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level]
    return {name.partition(".")[0] for name in names}


def functions(tree: ast.Module) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def test_import_contracts_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert lint_imports(config_filename="pyproject.toml", no_cache=True) == 0


@pytest.mark.parametrize("path", SOURCES, ids=identify)
def test_a_floor_uses_its_own_third_parties_only(path: Path) -> None:
    name = identify(path)
    allowed = THIRD_PARTY[name.partition("/")[0]] | {"midspan"} | sys.stdlib_module_names
    for prefix, extra in THIRD_PARTY_BY_FILE.items():
        if name.startswith(prefix):
            allowed |= extra
    assert imported_packages(ast.parse(path.read_text(encoding="utf-8"))) <= allowed


@pytest.mark.parametrize("path", CODE, ids=identify)
def test_files_stay_short(path: Path) -> None:
    limit = 500 if path.name == "model.py" else 400
    assert len(path.read_text(encoding="utf-8").splitlines()) <= limit


@pytest.mark.parametrize("path", [path for path in CODE if path.suffix == ".py"], ids=identify)
def test_functions_stay_short(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    lines = {f.name: (f.end_lineno or f.lineno) - f.lineno + 1 for f in functions(tree)}
    assert {name: count for name, count in lines.items() if count > 40} == {}


@pytest.mark.parametrize("path", SOURCES, ids=identify)
def test_classes_are_named_for_their_subject(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    classes = [node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    assert [name for name in classes if name.endswith(WEAK_NAMES)] == []


@pytest.mark.parametrize("floor", FLOORS)
def test_the_code_map_names_every_file(floor: str) -> None:
    architecture = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    section = architecture.split(f"\n### {floor}\n")[1].split("\n#")[0]
    folder = ROOT / floor
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*.py") if not path.name.startswith("__")}
    assert set(re.findall(r"^\| (\S+\.py) \|", section, re.MULTILINE)) == files


def test_the_code_map_names_every_native_file() -> None:
    section = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").split("\n`cpu/` ")[1].split("\n\n")[0]
    assert set(re.findall(r"`(\S+\.(?:h|cpp))`", section)) == {path.name for path in NATIVE}
