"""The indexer, in its own process and in the test's: its findings, their removal, its limits, and its end."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from midspan.engine.api import Hole
from midspan.server.text.documents import Documents
from midspan.server.workspace import indexer, walk
from midspan.server.workspace import indexer_client as background
from midspan.server.workspace.index import MAX_FILES_A_NAME, Index
from midspan.server.workspace.indexer import MAX_FILE_BYTES, MAX_OPEN_BYTES, Workspace
from midspan.server.workspace.indexer_client import Background
from midspan.server.workspace.messages import Found, Gone, Scan, Scanned, write
from tests.server.gaps import read_workspace, write_files

WAIT_S = 60.0


@pytest.fixture
async def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Background]:
    """An indexer's process that has read `tmp_path` with one file in it."""
    monkeypatch.setattr(background, "QUIET_S", 0.0)
    write_files(tmp_path, {"disk.py": "def on_disk(): pass\n"})
    found = Background(Documents())
    await found.start(Scan((str(tmp_path),), lines=("python",)))
    await until(found, lambda: found.index.scanned)
    yield found
    await found.stop()


async def until(running: Background, wanted: Callable[[], object]) -> None:
    """Wait for findings until `wanted` is true."""
    async with asyncio.timeout(WAIT_S):
        while not wanted():
            running.found.clear()
            await running.found.wait()


def process_of(running: Background) -> int:
    assert running.pid is not None
    return running.pid


async def test_an_open_document_replaces_its_file(running: Background, tmp_path: Path) -> None:
    index, documents, path = running.index, running._documents, tmp_path / "disk.py"
    assert index.here("on_disk", str(path))
    documents.open(path.as_uri(), "python", 1, "def in_editor(): pass\n")
    running.changed(path.as_uri())
    await until(running, lambda: index.here("in_editor", str(path)))
    assert not index.here("on_disk", str(path))
    documents.change(path.as_uri(), 2, [(None, "def edited(): pass\n")], "utf-8")
    running.changed(path.as_uri())
    await until(running, lambda: index.here("edited", str(path)))
    assert not index.here("in_editor", str(path))
    documents.close(path.as_uri())
    running.closed(path.as_uri())
    await until(running, lambda: index.here("on_disk", str(path)))
    assert not index.here("edited", str(path))


async def test_a_document_that_grows_too_large_is_forgotten(running: Background, tmp_path: Path) -> None:
    index, documents, path = running.index, running._documents, tmp_path / "disk.py"
    documents.open(path.as_uri(), "python", 1, "def in_editor(): pass\n")
    running.changed(path.as_uri())
    await until(running, lambda: index.here("in_editor", str(path)))
    documents.change(path.as_uri(), 2, [(None, "x = 1\n" * (MAX_OPEN_BYTES // 6 + 1))], "utf-8")
    running._tell(path.as_uri())
    assert not index.may_show(str(path), str(path))
    assert not index.here("in_editor", str(path))


async def test_a_new_scan_applies_new_exclusions(running: Background, tmp_path: Path) -> None:
    write_files(tmp_path, {"other.py": "def other(): pass\n"})
    running.look(Scan((str(tmp_path),), ("disk.py",), lines=("python",)))
    await until(running, lambda: running.index.scanned)
    assert not running.index.may_show(str(tmp_path / "disk.py"), str(tmp_path / "a.py"))
    assert running.index.here("other", str(tmp_path / "other.py"))
    running.look(Scan((str(tmp_path),)))
    await until(running, lambda: running.index.scanned)
    assert running.index.here("on_disk", str(tmp_path / "disk.py"))
    assert running.index.here("other", str(tmp_path / "other.py"))


async def test_lines_follow_the_editor_and_the_exclusions(running: Background, tmp_path: Path) -> None:
    index, documents, path = running.index, running._documents, tmp_path / "disk.py"

    def said(stem: str) -> list[str]:
        return [line.text for line in index.lines_near(Hole(prefix=stem, suffix=""), "another.py")]

    assert said("def ") == ["def on_disk(): pass"]
    assert index.lines_near(Hole(prefix="def ", suffix=""), str(path)) == ()
    documents.open(path.as_uri(), "python", 1, "def in_editor():\n    return on_disk\n")
    running.changed(path.as_uri())
    await until(running, lambda: said("def ") == ["def in_editor():"])
    assert said("ret") == ["return on_disk"]
    running.look(Scan((str(tmp_path),), ("disk.py",), lines=("python",)))
    assert said("def ") == []
    await until(running, lambda: index.scanned)
    assert said("def ") == []


@pytest.mark.parametrize(("definitions", "files"), [(False, 2), (True, 4)])
async def test_files_of_languages_without_wanted_findings_are_not_read(
    tmp_path: Path, definitions: bool, files: int
) -> None:
    write_files(tmp_path, {"a.py": "value = 1\n", "a.js": "value = 1\n"})
    documents = Documents()
    documents.open("untitled:b", "javascript", 1, "value = 2\n")
    documents.open("untitled:c", "python", 1, "value = 3\n")
    found = Background(documents)
    await found.start(Scan((str(tmp_path),), definitions=definitions, lines=("python",)))
    await until(found, lambda: found.index.scanned)
    assert found.index.files == files
    lines = found.index.lines_near(Hole(prefix="value", suffix=""), "another.py")
    assert sorted(line.text for line in lines) == ["value = 1", "value = 3"]
    await found.stop()


async def test_a_document_too_large_for_other_files_is_not_sent_for_lines_alone(
    running: Background, tmp_path: Path
) -> None:
    index, documents, path = running.index, running._documents, tmp_path / "disk.py"
    documents.open(path.as_uri(), "python", 1, "def in_editor(): pass\n" + "x = 1\n" * (MAX_FILE_BYTES // 6 + 1))
    running.look(Scan((), lines=("python",)))
    await until(running, lambda: index.here("in_editor", str(path)))
    assert index.lines_near(Hole(prefix="def ", suffix=""), "another.py") == ()
    running.look(Scan((), definitions=False, lines=("python",)))
    assert not index.may_show(str(path), str(path))
    assert not index.here("in_editor", str(path))


async def test_the_progress_is_reported_in_a_few_words(tmp_path: Path) -> None:
    told = list[str]()
    write_files(tmp_path, {"a.py": "", "b.py": "", "key.py": "-----BEGIN " + "PRIVATE KEY-----\n"})
    found = Background(Documents(), told.append)
    await found.start(Scan((str(tmp_path),)))
    await until(found, lambda: len(told) > 1)
    assert told == ["reading the workspace", "workspace read, 2 of its files may be shown"]
    found.look(Scan(()))
    await until(found, lambda: found.index.scanned)
    assert told[2:] == [""]
    await found.stop()


async def test_the_process_has_the_lowest_priority(running: Background) -> None:
    assert os.getpriority(os.PRIO_PROCESS, process_of(running)) == 19


def test_the_process_imports_neither_torch_nor_the_server() -> None:
    wanted = "{'torch', 'pygls', 'lsprotocol'}"
    code = f"import sys, midspan.server.workspace.indexer; print(sorted({wanted} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code], timeout=WAIT_S).strip() == b"[]"


def test_the_process_ends_with_its_input(tmp_path: Path) -> None:
    write_files(tmp_path, {f"{number}.py": "def f(): pass\n" * 500 for number in range(50)})
    command = [sys.executable, "-P", "-m", "midspan.server.workspace.indexer"]
    message = write(Scan((str(tmp_path),)))
    for cut in (len(message), len(message) - 3, 2, 0):
        done = subprocess.run(command, input=message[:cut], capture_output=True, timeout=WAIT_S, check=False)
        assert (done.returncode, done.stderr) == (0, b"")


def scan(
    workspace: Workspace, *roots: Path, exclude: tuple[str, ...] = (), afresh: bool = False
) -> dict[str, list[str]]:
    """The names of files that a scan reports as found and as gone."""
    kinds: dict[str, list[str]] = {"found": [], "gone": []}
    for finding in workspace.scan(Scan(tuple(map(str, roots)), exclude, afresh=afresh)):
        if isinstance(finding, Found | Gone):
            kinds["gone" if isinstance(finding, Gone) else "found"].append(Path(finding.key).name)
    return kinds


def test_a_second_scan_reads_what_has_changed(tmp_path: Path) -> None:
    workspace = Workspace()
    write_files(tmp_path, {"a.py": "x = 1\n", "b.py": "y = 1\n", "c.py": "z = 1\n", "d.txt": ""})
    assert scan(workspace, tmp_path) == {"found": ["a.py", "b.py", "c.py"], "gone": []}
    assert scan(workspace, tmp_path) == {"found": [], "gone": []}
    (tmp_path / "b.py").unlink()
    write_files(tmp_path, {"a.py": "longer = 1\n", ".gitignore": "c.py\n"})
    assert scan(workspace, tmp_path) == {"found": ["a.py"], "gone": ["b.py", "c.py"]}


def test_a_scan_afresh_reports_forgotten_files_again(tmp_path: Path) -> None:
    workspace = Workspace()
    one, other = tmp_path / "one", tmp_path / "other"
    write_files(tmp_path, {"one/a.py": "x = 1\n", "one/b.py": "y = 1\n", "other/c.py": "z = 1\n"})
    assert scan(workspace, one) == {"found": ["a.py", "b.py"], "gone": []}
    assert scan(workspace, one, exclude=("a.py",), afresh=True) == {"found": ["b.py"], "gone": ["a.py"]}
    assert scan(workspace, one, exclude=("a.py",)) == {"found": [], "gone": []}
    assert scan(workspace, one, other, afresh=True) == {"found": ["a.py", "c.py", "b.py"], "gone": []}
    assert scan(workspace, other, afresh=True) == {"found": ["c.py"], "gone": ["a.py", "b.py"]}


def test_the_limits_of_a_scan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_files(tmp_path, {f"{number}.py": "" for number in range(9)})
    monkeypatch.setattr(indexer, "MAX_FILES", 4)
    assert len(scan(Workspace(), tmp_path)["found"]) == 4
    [end] = Workspace().scan(Scan((str(tmp_path),), seconds=-1.0))
    assert isinstance(end, Scanned)
    monkeypatch.setattr(walk, "MAX_ENTRIES", 2)
    assert len(scan(Workspace(), tmp_path)["found"]) == 2


def test_folders_that_are_missing_or_no_folders_have_no_files(tmp_path: Path) -> None:
    assert scan(Workspace(), tmp_path / "gone") == {"found": [], "gone": []}
    write_files(tmp_path, {"a.py": ""})
    assert scan(Workspace(), tmp_path / "a.py") == {"found": [], "gone": []}


def test_names_defined_in_too_many_files_have_no_definition(tmp_path: Path) -> None:
    for count, explained in ((MAX_FILES_A_NAME, True), (MAX_FILES_A_NAME + 1, False)):
        write_files(tmp_path, {f"m{number}.py": "def run(): pass\n" for number in range(count)})
        index = read_workspace(tmp_path, Documents())
        assert bool(index.elsewhere("run", str(tmp_path / "a.py"), "python", ())) == explained


def test_the_index_forgets_all_of_a_gone_file(tmp_path: Path) -> None:
    index = Index()
    write_files(tmp_path, {"a.py": "def f(): pass\ndef f(): pass\nclass A: pass\n"})
    [found] = [one for one in Workspace().scan(Scan((str(tmp_path),))) if isinstance(one, Found)]
    for _ in range(2):
        index.take(found)
        assert [one.row for one in index.here("f", found.key)] == [0, 1]
    index.take(Gone(found.key))
    assert index.here("f", found.key) == []
    assert (index._names, index._files, index._count) == ({}, {}, 0)


def test_a_full_index_takes_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("midspan.server.workspace.index.MAX_DEFINITIONS", 1)
    write_files(tmp_path, {"a.py": "def f(): pass\n", "b.py": "def g(): pass\n"})
    index = read_workspace(tmp_path, Documents())
    assert index.here("f", str(tmp_path / "a.py"))
    assert not index.may_show(str(tmp_path / "b.py"), str(tmp_path / "a.py"))
