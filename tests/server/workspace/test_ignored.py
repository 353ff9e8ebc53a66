"""What git ignores, asked of git itself."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from midspan.server.workspace.ignored import Ignored, is_rules
from tests.server.gaps import write_files

FILES = (
    "a.py", "a.log", "keep.log", "build/x.py", "src/build/x.py", "src/a.log", "src/gen/a.py", "src/gen/keep.py",
    "docs/a/b/c.py", "secret.txt", "deep/secret.txt", "src/only_here.py", "only_here.py", "#hash", "sp ace.py",
    "!bang", "out/a.py", "nested/inner/x.tmp", "nested/x.tmp", "with_excluded/a.py",
)  # fmt: skip
RULES = {
    ".gitignore": "*.log\n!keep.log\n/build/\n# a comment\ndocs/**/c.py\nsecret.txt\n\\#hash\n\\!bang\nout\n!\n"
    "sp ace.py \n",
    "src/.gitignore": "gen/*\n!gen/keep.py\n/only_here.py\n!a.log\n",
    "nested/.gitignore": "inner\n",
    ".git/info/exclude": "with_excluded/\n",
}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("repository")
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    write_files(root, {**dict.fromkeys(FILES, ""), **RULES})
    return root


@pytest.mark.parametrize("name", FILES)
def test_the_same_as_git(repository: Path, name: str) -> None:
    said = subprocess.run(["git", "-C", str(repository), "check-ignore", "-q", "--no-index", f"./{name}"], check=False)
    assert Ignored(repository)(repository / name) == (said.returncode == 0)


def test_which_files_hold_rules() -> None:
    names = ("a/.gitignore", ".ignore", "a/.git/info/exclude", "exclude", ".git/info/attributes", "x.gitignore")
    assert [name for name in names if is_rules(Path("/project", name))] == list(names[:3])


def test_rules_above_a_workspace_that_is_part_of_a_repository(repository: Path) -> None:
    ignored = Ignored(repository / "src")
    assert ignored(repository / "src" / "b.log")
    assert not ignored(repository / "src" / "a.py")


def test_a_folder_without_a_repository_has_its_own_rules(tmp_path: Path) -> None:
    write_files(tmp_path, {"work/.gitignore": "*.tmp\n", "work/.ignore": "notes\n", ".gitignore": "*.py\n"})
    ignored = Ignored(tmp_path / "work")
    assert ignored(tmp_path / "work" / "a.tmp")
    assert ignored(tmp_path / "work" / "notes" / "a.py")
    assert not ignored(tmp_path / "work" / "a.py")
    assert not ignored(tmp_path / "elsewhere.tmp")
