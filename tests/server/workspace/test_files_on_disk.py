"""Files that are created, changed and deleted on disk while the server runs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from midspan.server.workspace.plain_files import read_plain
from tests.server.gaps import write_files
from tests.server.raw_client import RawClient, call, complete, connected
from tests.server.scripted import TEXT

CREATED, CHANGED, DELETED = 1, 2, 3
MANY = 4000


class Gap:
    """A document whose last line begins like lines of other files; each request follows an edit."""

    def __init__(self, client: RawClient, prompts: Path, uri: str) -> None:
        self.client, self.prompts, self.uri, self.version = client, prompts, uri, 1
        client.open("", uri=uri)

    def lines(self) -> set[str]:
        """Request completion, and return the lines of other files that the engine was given."""
        self.version += 1
        here = {"start": {"line": 0, "character": 0}, "end": {"line": 9, "character": 0}}
        # Names are not judged behind such an import: the scripted engine's run into the letters before them.
        changes = [{"range": here, "text": f"from all import *  # {self.version}\nvalue"}]
        document = {"uri": self.uri, "version": self.version}
        self.client.send(call(None, "textDocument/didChange", {"textDocument": document, "contentChanges": changes}))
        assert self.client.ask(complete(self.version, 1, 5, uri=self.uri)) == [TEXT]
        last = self.prompts.read_text().splitlines()[-1]
        return {part for part in last.split('"') if part.startswith("value_")}

    def until(self, *wanted: str) -> None:
        """Request completion until exactly these lines are given."""
        for _ in range(MANY):
            if self.lines() == set(wanted):
                return
        raise AssertionError(f"still {self.lines()}")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    texts = {"a.py": "value_a = 1\n", "pkg/b.py": "value_b = 1\n", "pkg/sub/c.py": "value_c = 1\n"}
    write_files(tmp_path / "root", texts | {".gitignore": "*.gen.py\n"})
    return tmp_path / "root"


@pytest.fixture
def gap(tmp_path: Path, root: Path) -> Iterator[Gap]:
    prompts = tmp_path / "prompts"
    with connected(tmp_path / "state", "--prompts", str(prompts), "--elsewhere") as client:
        client.start({"debounce_ms": 0}, root=root)
        yield Gap(client, prompts, (root / "here.py").as_uri())
        assert client.leave() == 0


def events(*changes: tuple[Path, int]) -> Any:
    told = [{"uri": path.as_uri(), "type": kind} for path, kind in changes]
    return call(None, "workspace/didChangeWatchedFiles", {"changes": told})


ALL = ("value_a = 1", "value_b = 1", "value_c = 1")


def test_a_deleted_file_is_forgotten_at_once(gap: Gap, root: Path) -> None:
    gap.until(*ALL)
    (root / "a.py").unlink()
    gap.client.send(events((root / "a.py", DELETED)))
    assert gap.lines() == {"value_b = 1", "value_c = 1"}


def test_the_files_of_a_deleted_folder_are_forgotten(gap: Gap, root: Path) -> None:
    gap.until(*ALL)
    shutil.rmtree(root / "pkg")
    gap.client.send(events((root / "pkg", DELETED)))
    assert gap.lines() == {"value_a = 1"}


def test_created_and_changed_files_are_read_soon(gap: Gap, root: Path) -> None:
    gap.until(*ALL)
    write_files(root, {"a.py": "value_other = 1\n", "new.py": "value_new = 1\n"})
    gap.client.send(events((root / "a.py", CHANGED), (root / "new.py", CREATED)))
    gap.until("value_other = 1", "value_new = 1", "value_b = 1", "value_c = 1")


@pytest.mark.parametrize("how", ["watched", "renamed"])
def test_a_renamed_file_and_folder(gap: Gap, root: Path, how: str) -> None:
    gap.until(*ALL)
    for old, new, wanted in (("a.py", "z.py", ALL), ("pkg", "moved", ALL), ("moved", ".hidden", ALL[:1])):
        (root / old).rename(root / new)
        if how == "watched":
            gap.client.send(events((root / old, DELETED), (root / new, CREATED)))
        else:
            pair = {"oldUri": (root / old).as_uri(), "newUri": (root / new).as_uri()}
            gap.client.send(call(None, "workspace/didRenameFiles", {"files": [pair]}))
        gap.until(*wanted)


def test_files_that_the_editor_makes_and_deletes(gap: Gap, root: Path) -> None:
    gap.until(*ALL)
    write_files(root, {"new.py": "value_new = 1\n"})
    files = {"files": [{"uri": (root / "new.py").as_uri()}]}
    gap.client.send(call(None, "workspace/didCreateFiles", files))
    gap.until(*ALL, "value_new = 1")
    (root / "new.py").unlink()
    gap.client.send(call(None, "workspace/didDeleteFiles", files))
    assert gap.lines() == set(ALL)


def test_a_file_deleted_and_created_again_is_read(gap: Gap, root: Path) -> None:
    gap.until(*ALL)
    gap.client.send(events((root / "a.py", DELETED), (root / "a.py", CREATED)))
    gap.until(*ALL)


def test_events_do_not_make_excluded_files_readable(gap: Gap, root: Path) -> None:
    gap.until(*ALL)
    names = ("x.gen.py", ".hidden.py", "node_modules/x.py", "secrets.py", ".env.py", "x.txt", "last.py")
    write_files(root, {name: f"value_{number} = 1\n" for number, name in enumerate(names)})
    (root / "link.py").symlink_to(root / "secrets.py")
    outside = root.parent / "outside.py"
    outside.write_text("value_outside = 1\n")
    gap.client.send(events(*((root / name, CREATED) for name in ("link.py", *names)), (outside, CREATED)))
    gap.until(*ALL, f"value_{len(names) - 1} = 1")


def test_a_folder_moved_away_and_back_is_read_again(gap: Gap, root: Path) -> None:
    gap.until(*ALL)
    (root / "pkg").rename(root / ".aside")
    gap.client.send(events((root / "pkg", DELETED)))
    gap.until(ALL[0])
    write_files(root, {"new.py": "value_new = 1\n"})
    gap.client.send(events((root / "new.py", CREATED)))
    gap.until(ALL[0], "value_new = 1")
    (root / ".aside").rename(root / "pkg")
    gap.client.send(events((root / "pkg", CREATED)))
    gap.until(*ALL, "value_new = 1")


def test_a_missing_file_reported_as_changed_is_forgotten(gap: Gap, root: Path) -> None:
    gap.until(*ALL)
    (root / "a.py").unlink()
    (root / "pkg/b.py").unlink()
    (root / "pkg/b.py").mkdir()
    gap.client.send(events((root / "a.py", CHANGED), (root / "pkg/b.py", CHANGED)))
    gap.until(ALL[2])


def test_an_open_document_replaces_its_file(gap: Gap, root: Path) -> None:
    gap.until(*ALL)
    gap.client.open("value_shown = 1\n", uri=(root / "a.py").as_uri())
    gap.until("value_shown = 1", *ALL[1:])
    (root / "a.py").unlink()
    gap.client.send(events((root / "a.py", DELETED)))
    assert gap.lines() == {"value_shown = 1", *ALL[1:]}
    gap.client.send(call(None, "textDocument/didClose", {"textDocument": {"uri": (root / "a.py").as_uri()}}))
    gap.until(*ALL[1:])


def test_watchers_are_registered_for_the_languages_that_are_on(tmp_path: Path, root: Path) -> None:
    able = {"workspace": {"didChangeWatchedFiles": {"dynamicRegistration": True}}}
    with connected(tmp_path / "state", "--elsewhere") as client:
        client.initialize({}, able, root=root)
        client.send(call(None, "initialized", {}))
        assert registered_globs(client) == ["**/.gitignore", "**/.ignore", "**/.git/info/exclude"]
        assert registered_globs(client) == ["**/*.py", "**/*.pyi", "**/*.pyw"]
        for languages, wanted in (
            ({"go": True}, ["**/*.go", "**/*.py", "**/*.pyi", "**/*.pyw"]),
            ({"python": False}, None),
        ):
            settings = {"settings": {"midspan": {"languages": languages}}}
            client.send(call(None, "workspace/didChangeConfiguration", settings))
            gone = client.take(lambda message: message.get("method") == "client/unregisterCapability")
            client.send({"jsonrpc": "2.0", "id": gone["id"], "result": None})
            if wanted is not None:
                assert registered_globs(client) == wanted
        assert client.leave() == 0


def registered_globs(client: RawClient) -> list[str]:
    """Accept the next registration, and return its globs."""
    message = client.take(lambda message: message.get("method") == "client/registerCapability")
    client.send({"jsonrpc": "2.0", "id": message["id"], "result": None})
    [registration] = message["params"]["registrations"]
    assert registration["method"] == "workspace/didChangeWatchedFiles"
    return [watcher["globPattern"] for watcher in registration["registerOptions"]["watchers"]]


def test_only_plain_files_are_read(tmp_path: Path) -> None:
    write_files(tmp_path, {"plain": "text", "folder/x": ""})
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("plain")
    (tmp_path / "zero").symlink_to("/dev/zero")
    assert read_plain(str(tmp_path / "plain"), 3) == b"tex"
    assert read_plain(str(tmp_path / "link"), 9, follow=True) == b"text"
    names = ("folder", "fifo", "link", "gone", "n" * 300, "a\0b")
    assert [read_plain(str(tmp_path / name), 9) for name in names] == [None] * len(names)
    assert read_plain(str(tmp_path / "zero"), 9, follow=True) is None
    assert read_plain(str(tmp_path / "fifo"), 9, follow=True) is None
