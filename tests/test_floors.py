"""The floors: which may import which, and how long files and functions may be."""

from __future__ import annotations

import ast
import functools
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = ("server", "engine", "kernels")
SOURCES = [path for floor in FLOORS for path in sorted((ROOT / floor).rglob("*.py"))]
NATIVE = sorted((ROOT / "kernels" / "cpu").iterdir())
CODE = [*SOURCES, *NATIVE, *sorted((ROOT / "editors").rglob("*.lua")), *sorted((ROOT / "tests").rglob("*.py"))]
THIRD_PARTY = {
    "server": {"cattrs", "lsprotocol", "msgspec", "pygls", "rich", "tree_sitter"},
    "engine": {"safetensors", "tokenizers", "torch"},
    "kernels": {"torch", "triton"},
}
THIRD_PARTY_BY_FILE = {
    # The hub's local cache, for a checkpoint that is given by name instead of by folder.
    "engine/weights/load.py": {"huggingface_hub"},
    # `midspan models get`, the one command that fetches anything.
    "server/models/fetch.py": {"huggingface_hub"},
    # Engines elsewhere.
    "engine/remote/client.py": {"httpx2"},
    # Keys in the keyring, where the configuration names one there: the extra `keyring`.
    "engine/remote/keys.py": {"keyring"},
    # JSON schemas, where a file names one: the extra `schemas`, with what it stands on.
    "server/validation/schema_check.py": {"jsonschema", "jsonschema_specifications", "referencing"},
    # A fixture for whoever has pytest; nothing of the product imports it.
    "server/replay/plugin.py": {"pytest"},
    "engine/training/": {"gguf", "matplotlib", "numpy"},
}
# Functions that still have more than MOST_PARAMETERS; the list may only get shorter.
MOST_PARAMETERS = 5
WIDE = {
    "engine/training/objective.py canvas_loss",
    "engine/training/run.py __init__",
    "engine/weights/load.py load_weights",
}
# Modules of engine/backends that the rest of the engine may import: the protocol, the choice, and process settings.
BACKENDS = "midspan.engine.backends."
KNOWN_BACKENDS = {BACKENDS + name for name in ("backend", "choose", "process")}
WEAK_NAMES = ("Manager", "Handler", "Helper", "Util", "Utils", "Wrapper", "Base")


def identify(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imported_packages(tree: ast.Module) -> set[str]:
    """Top-level names of every absolute import in the module, at any level of nesting."""
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level]
    return {name.partition(".")[0] for name in names}


@functools.cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def functions(tree: ast.Module) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def test_import_contracts_hold() -> None:
    # In a process of its own, because import-linter reconfigures logging, which would end other tests' logs.
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports; raise SystemExit(lint_imports())"]
    subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT / "src")}, timeout=100, check=True)


@pytest.mark.parametrize("path", SOURCES, ids=identify)
def test_a_floor_uses_its_own_third_parties_only(path: Path) -> None:
    name = identify(path)
    allowed = THIRD_PARTY[name.partition("/")[0]] | {"midspan"} | sys.stdlib_module_names
    for prefix, extra in THIRD_PARTY_BY_FILE.items():
        if name.startswith(prefix):
            allowed |= extra
    assert imported_packages(tree_of(path)) <= allowed


@pytest.mark.parametrize("path", CODE, ids=identify)
def test_files_stay_short(path: Path) -> None:
    limit = 500 if path.name == "model.py" else 400
    assert len(path.read_text(encoding="utf-8").splitlines()) <= limit


@pytest.mark.parametrize("path", [path for path in CODE if path.suffix == ".py"], ids=identify)
def test_functions_stay_short(path: Path) -> None:
    tree = tree_of(path)
    lines = {f.name: (f.end_lineno or f.lineno) - f.lineno + 1 for f in functions(tree)}
    assert {name: count for name, count in lines.items() if count > 40} == {}


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    """Names of a function's parameters without self or cls."""
    given = function.args
    names = [one.arg for one in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return names[1:] if names[:1] in (["self"], ["cls"]) else names


def holds_kernels(tree: ast.Module) -> bool:
    """Whether a module defines a Triton kernel: its launcher and reference have the kernel's parameters."""
    return any("jit" in ast.unparse(decorator) for one in functions(tree) for decorator in one.decorator_list)


def test_functions_take_few_parameters() -> None:
    trees = {path: tree_of(path) for path in SOURCES}
    wide = {
        f"{identify(path)} {function.name}"
        for path, tree in trees.items()
        if not (identify(path).startswith("kernels/") and holds_kernels(tree))
        for function in functions(tree)
        if len(parameters(function)) > MOST_PARAMETERS
    }
    assert wide - WIDE == set()
    assert WIDE - wide == set(), "no longer wide: take it out of the list"


def absolute_names(tree: ast.Module) -> set[str]:
    """The dotted names of all that a module imports."""
    found = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def module_of(path: Path) -> str:
    """A file's dotted module name below `midspan`."""
    return identify(path).removesuffix(".py").replace("/", ".").removesuffix(".__init__")


def imported_modules(tree: ast.Module, modules: set[str]) -> set[str]:
    """Those of `modules` that a module imports, at any level of nesting, under TYPE_CHECKING too."""
    named = {name.removeprefix("midspan.") for name in absolute_names(tree) if name.startswith("midspan.")}
    # Importing a module of a package does not count as importing the package.
    return {name for name in named & modules if not any(other.startswith(f"{name}.") for other in named & modules)}


def circles(imports: dict[str, set[str]]) -> list[set[str]]:
    """Import circles: sets of modules that reach each other."""

    def reach(start: str) -> set[str]:
        seen, left = set[str](), [start]
        while left:
            for name in imports[left.pop()] - seen:
                seen.add(name)
                left.append(name)
        return seen

    reached = {name: reach(name) for name in imports}
    found = [{other for other in reached[name] if name in reached[other]} for name in imports]
    return [circle for number, circle in enumerate(found) if len(circle) > 1 and circle not in found[:number]]


def test_no_modules_import_each_other() -> None:
    modules = {module_of(path) for path in SOURCES}
    imports = {module_of(path): imported_modules(tree_of(path), modules) - {module_of(path)} for path in SOURCES}
    assert circles(imports) == []


def test_import_circles_of_any_length_are_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set()}) == [{"a", "b", "c"}]
    assert circles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


@pytest.mark.parametrize("path", [path for path in SOURCES if identify(path).startswith("engine/")], ids=identify)
def test_the_rest_of_the_engine_imports_no_single_backend(path: Path) -> None:
    if identify(path).startswith("engine/backends/"):
        return
    tree = tree_of(path)
    named = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name for name in named if name.startswith(BACKENDS)} <= KNOWN_BACKENDS


@pytest.mark.parametrize("path", [path for path in SOURCES if identify(path).startswith("engine/")], ids=identify)
def test_the_rest_of_the_engine_knows_no_remote_engines(path: Path) -> None:
    if not identify(path).startswith("engine/remote/"):
        assert "remote" not in {name.split(".")[2] for name in absolute_names(tree_of(path)) if name.count(".") >= 2}


@pytest.mark.parametrize("path", SOURCES, ids=identify)
def test_classes_are_named_for_their_subject(path: Path) -> None:
    tree = tree_of(path)
    classes = [node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    assert [name for name in classes if name.endswith(WEAK_NAMES)] == []


def test_the_architecture_has_a_line_for_every_wing() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    for floor in FLOORS:
        section = text.split(f"\n### {floor}/\n")[1].split("\n#")[0]
        wings = {path.parent.name for path in (ROOT / floor).glob("*/*.py")}
        assert set(re.findall(r"^- `(\w+)/`", section, re.MULTILINE)) == wings


@pytest.mark.parametrize("folder", sorted({path.parent for path in SOURCES}), ids=identify)
def test_a_folder_holds_few_files_beside_its_wings(folder: Path) -> None:
    assert len(list(folder.glob("*.py"))) <= 20


def test_the_documents_name_files_that_are_there() -> None:
    # docs/experiments.md names code that was tried and removed.
    docs = set((ROOT / "docs").glob("*.md")) - {ROOT / "docs/experiments.md"}
    pages = [ROOT / "ARCHITECTURE.md", ROOT / "CONTRIBUTING.md", ROOT / "README.md", *docs]
    named = re.compile(r"`((?:server|engine|kernels|benchmarks|tests|docs)/[\w/.]+)`")
    gone = {(page.name, name) for page in pages for name in named.findall(page.read_text(encoding="utf-8"))}
    assert {(page, name) for page, name in gone if not (ROOT / name).exists()} == set()


def test_the_readme_is_read_in_two_minutes() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) <= 600
