"""The files of the workspace that may be in a prompt, while workspace folders and git's rules change."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.server.gaps import write_files
from tests.server.raw_client import RawClient, call, complete, connected
from tests.server.scripted import TEXT


def in_context(client: RawClient, prompts: Path, uri: str, id: int) -> bool:
    """Whether the context holds the definition of file `added.py`; a line is edited before each request."""
    client.send(insertion(uri, 2, str(id), version=id))
    assert client.ask(complete(id, 3, 4, uri=uri)) == [TEXT]
    return "def added(count):" in "\n".join(json.loads(prompts.read_text().splitlines()[-1])[2:])


def insertion(uri: str, line: int, text: str, version: int) -> Any:
    here = {"line": line, "character": 0}
    changes = [{"range": {"start": here, "end": here}, "text": text}]
    document = {"uri": uri, "version": version}
    return call(None, "textDocument/didChange", {"textDocument": document, "contentChanges": changes})


def rules_changed(client: RawClient, file: Path, how: str) -> None:
    """Notify the server in one of two ways that a file of git's rules has changed."""
    if how == "saved":
        client.send(call(None, "textDocument/didSave", {"textDocument": {"uri": file.as_uri()}}))
    else:
        changes = [{"uri": (file.parent / "a.txt").as_uri(), "type": 2}, {"uri": file.as_uri(), "type": 2}]
        client.send(call(None, "workspace/didChangeWatchedFiles", {"changes": changes}))


@pytest.mark.parametrize("how", ["saved", "watched"])
def test_changed_rules_of_git_apply_at_once(tmp_path: Path, how: str) -> None:
    prompts, root = tmp_path / "prompts", tmp_path / "one"
    write_files(root, {"a.py": "", "added.py": "def added(count):\n    pass\n"})
    with connected(tmp_path / "state", "--prompts", str(prompts), "--context-tokens", "500") as client:
        client.start(root=root)
        uri, ignored = (root / "a.py").as_uri(), (root / "added.py").as_uri()
        client.open("from added import added\nadded()\n\nx = \n", uri=uri)
        client.open("x = \n", uri=ignored)
        assert client.ask(complete(1, 0, 4, uri=ignored)) == [TEXT]
        client.send(call(None, "textDocument/didClose", {"textDocument": {"uri": ignored}}))
        assert any(in_context(client, prompts, uri, id) for id in range(10, 2000))
        write_files(root, {".gitignore": "added.py\n"})
        rules_changed(client, root / ".gitignore", how)
        assert not any(in_context(client, prompts, uri, id) for id in range(2000, 2020))
        (root / ".gitignore").unlink()
        rules_changed(client, root / ".gitignore", how)
        assert any(in_context(client, prompts, uri, id) for id in range(3000, 5000))
        assert client.leave() == 0


def test_new_rules_of_git_apply_to_an_open_document_at_once(tmp_path: Path) -> None:
    with connected(tmp_path / "state") as client:
        client.start(root=tmp_path)
        uri = (tmp_path / "a.py").as_uri()
        client.open("x = \ny = \n", uri=uri)
        assert client.ask(complete(1, 0, 4, uri=uri)) == [TEXT]
        write_files(tmp_path, {".gitignore": "a.py\n"})
        rules_changed(client, tmp_path / ".gitignore", "saved")
        assert client.ask(complete(2, 1, 4, uri=uri)) is None
        assert client.leave() == 0


def test_watchers_are_registered_for_gits_rules(tmp_path: Path) -> None:
    with connected(tmp_path) as client:
        client.initialize({}, {"workspace": {"didChangeWatchedFiles": {"dynamicRegistration": True}}})
        client.send(call(None, "initialized", {}))
        asked = client.take(lambda message: message.get("method") == "client/registerCapability")
        client.send({"jsonrpc": "2.0", "id": asked["id"], "result": None})
        [registration] = asked["params"]["registrations"]
        assert registration["method"] == "workspace/didChangeWatchedFiles"
        patterns = [watcher["globPattern"] for watcher in registration["registerOptions"]["watchers"]]
        assert patterns == ["**/.gitignore", "**/.ignore", "**/.git/info/exclude"]
        assert client.leave() == 0


@pytest.mark.parametrize("first", ["folder", "root"])
def test_workspace_folders_are_added_and_removed_while_the_server_runs(tmp_path: Path, first: str) -> None:
    prompts, one, other = tmp_path / "prompts", tmp_path / "one", tmp_path / "other"
    write_files(tmp_path, {"one/a.py": "", "other/added.py": "def added(count):\n    pass\n"})
    with connected(tmp_path / "state", "--prompts", str(prompts), "--context-tokens", "500") as client:
        client.start(root=one if first == "folder" else other)
        uri = ((one if first == "folder" else other) / "a.py").as_uri()
        client.open("from added import added\nadded()\n\nx = \n", uri=uri)
        folder = {"uri": other.as_uri(), "name": "other"}
        event: dict[str, list[dict[str, str]]] = {"added": [folder], "removed": []}
        if first == "folder":
            assert not in_context(client, prompts, uri, 10)
            client.send(call(None, "workspace/didChangeWorkspaceFolders", {"event": event}))
        assert any(in_context(client, prompts, uri, id) for id in range(11, 2000))
        if first == "root":
            client.send(call(None, "workspace/didChangeWorkspaceFolders", {"event": event}))
            assert any(in_context(client, prompts, uri, id) for id in range(2000, 4000))
        event = {"added": [], "removed": [folder]}
        client.send(call(None, "workspace/didChangeWorkspaceFolders", {"event": event}))
        assert not any(in_context(client, prompts, uri, id) for id in range(4000, 4020))
        assert client.leave() == 0
