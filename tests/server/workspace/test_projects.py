"""Lines and definitions across projects: the gap's own folder comes first, and unrelated files give none."""

from __future__ import annotations

from pathlib import Path

import pytest

from midspan.engine.api import Hole
from midspan.server.context.context import collect
from midspan.server.context.recent_edits import Edits
from midspan.server.context.sources import Gap
from midspan.server.text.documents import Documents
from midspan.server.workspace import indexer
from midspan.server.workspace.index import MAX_FILES_A_NAME, Index
from midspan.server.workspace.indexer import Workspace
from midspan.server.workspace.indexer_client import opened, scan_of
from tests.server.gaps import UNHURRIED_S, write_files


def read(roots: list[Path], documents: Documents | None = None) -> Index:
    scan = scan_of(roots, (), lines=("python",))
    workspace, index = Workspace(), Index(scan.roots)
    for finding in workspace.scan(scan):
        index.take(finding)
    for uri in documents.uris() if documents is not None else ():
        assert documents is not None
        document = documents.get(uri)
        assert document is not None
        for finding in workspace.opened(opened(document)):
            index.take(finding)
    return index


def lines(index: Index, file: Path | str, stem: str = "value") -> list[str]:
    return [line.text for line in index.lines_near(Hole(prefix=stem, suffix=""), str(file))]


def test_a_file_outside_the_workspace_shares_no_lines_with_it(tmp_path: Path) -> None:
    write_files(tmp_path, {"root/a.py": "value = inside\n", "out/b.py": "value = outside\n", "out/c.py": ""})
    documents = Documents()
    outside = (tmp_path / "out/b.py").as_uri()
    documents.open(outside, "python", 1, "value = outside\n\ndef helper(): pass\n")
    index = read([tmp_path / "root"], documents)
    assert lines(index, tmp_path / "root/new.py") == ["value = inside"]
    assert lines(index, tmp_path / "out/c.py") == ["value = outside"]
    assert index.elsewhere("helper", str(tmp_path / "root/a.py"), "python", {"b"}) == []
    assert index.elsewhere("helper", str(tmp_path / "out/c.py"), "python", {"b"}) != []


def test_two_files_outside_share_lines_within_a_repository_or_a_folder(tmp_path: Path) -> None:
    documents = Documents()
    for number, name in enumerate(("one/sub/a.py", "one/b.py", "two/c.py", "three/d.py", "three/sub/e.py")):
        documents.open((tmp_path / name).as_uri(), "python", 1, f"value = {number}\n")
    (tmp_path / "one/.git").mkdir(parents=True)
    index = read([], documents)
    found = {name: lines(index, tmp_path / name) for name in ("one/new.py", "one/sub/x.py", "two/x.py", "three/x.py")}
    assert found == {
        "one/new.py": ["value = 0", "value = 1"],
        "one/sub/x.py": ["value = 0", "value = 1"],
        "two/x.py": ["value = 2"],
        "three/x.py": ["value = 3"],
    }


@pytest.mark.parametrize("order", [1, -1])
def test_lines_of_the_own_folder_come_first(tmp_path: Path, order: int) -> None:
    write_files(tmp_path, {"a/one.py": "value_of_a = 1\n"})
    write_files(tmp_path, {f"b/{number}.py": f"value_{number} = 1\nother_{number} = 1\n" for number in range(500)})
    index = read([tmp_path / "a", tmp_path / "b"][::order])
    assert lines(index, tmp_path / "a/new.py") == ["value_of_a = 1"]
    # If the own folder has no such line, another open folder may give one.
    assert lines(index, tmp_path / "a/new.py", "other")[0].startswith("other_")
    assert "value_of_a = 1" not in lines(index, tmp_path / "b/new.py")


@pytest.mark.parametrize("order", [1, -1])
def test_a_large_folder_does_not_crowd_out_a_small_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: int
) -> None:
    monkeypatch.setattr(indexer, "MAX_FILES", 10)
    write_files(tmp_path, {"a/one.py": "value_of_a = 1\n"})
    write_files(tmp_path, {f"b/{number}.py": f"value_{number} = 1\n" for number in range(50)})
    index = read([tmp_path / "a", tmp_path / "b"][::order])
    assert lines(index, tmp_path / "a/new.py") == ["value_of_a = 1"]


def test_the_innermost_folder_is_the_own_one(tmp_path: Path) -> None:
    write_files(tmp_path, {"a.py": "value = outer\n", "inner/b.py": "value = inner\n"})
    index = read([tmp_path, tmp_path / "inner"])
    assert lines(index, tmp_path / "inner/new.py") == ["value = inner"]
    assert lines(index, tmp_path / "new.py") == ["value = outer"]


def test_definitions_of_the_own_folder_come_first(tmp_path: Path) -> None:
    write_files(tmp_path, {"a/tool.py": "def run(a): pass\n", "b/only.py": "def only(b): pass\n"})
    write_files(tmp_path, {f"b/tool{n}.py": "def run(b): pass\n" for n in range(MAX_FILES_A_NAME + 5)})
    index = read([tmp_path / "a", tmp_path / "b"])
    gap = str(tmp_path / "a/new.py")
    assert [one.text for _, one in index.elsewhere("run", gap, "python", {"run"})] == ["def run(a):"]
    assert [one.text for _, one in index.elsewhere("only", gap, "python", {"only"})] == ["def only(b):"]


def test_a_document_without_a_path_belongs_to_every_project(tmp_path: Path) -> None:
    write_files(tmp_path, {"a/one.py": "value = a\n", "b/two.py": "value = b\n"})
    documents = Documents()
    documents.open("untitled:Untitled-1", "python", 1, "value = scratch\n")
    index = read([tmp_path / "a", tmp_path / "b"], documents)
    assert sorted(lines(index, tmp_path / "a/new.py")) == ["value = a", "value = scratch"]
    assert sorted(lines(index, "untitled:Untitled-2")) == ["value = a", "value = b", "value = scratch"]


def test_recent_edits_of_another_project_are_not_shown(tmp_path: Path) -> None:
    documents, edits = Documents(), Edits()
    for name in ("root/a.py", "root/b.py", "out/c.py"):
        uri = (tmp_path / name).as_uri()
        documents.open(uri, "python", 1, f"edited_in = '{name}'\n")
        edits.note(uri, ((0, 0), (0, 0)), "x")
    index = read([tmp_path / "root"], documents)
    here = documents.get((tmp_path / "root/a.py").as_uri())
    assert here is not None
    gap = Gap(
        document=here, place=(0, 0), hole=Hole(prefix="", suffix=""), index=index, documents=documents, edits=edits,
        roots=(tmp_path / "root",),
    )  # fmt: skip
    shown = {used.source: used.snippets for used in collect(gap, 20_000, UNHURRIED_S)}["recent edits"]
    assert len(shown) == 1
    assert "b.py" in shown[0]
