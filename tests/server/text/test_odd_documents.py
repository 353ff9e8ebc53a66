"""Unusual documents and changes (separators, lone surrogates, huge texts, bad edits): the answers stay right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.engine.tiny import tiny_checkpoint
from tests.server.raw_client import URI, Message, RawClient, call, change, complete, connected, items
from tests.server.scripted import TEXT

SEPARATORS = "\x0b\x0c\x1c\x85\u2028\u2029"


def edit(version: int, line: int, start: int, end: int, text: str, uri: str = URI) -> Message:
    """A change within one line."""
    span = {"start": {"line": line, "character": start}, "end": {"line": line, "character": end}}
    where = {"textDocument": {"uri": uri, "version": version}}
    return call(None, "textDocument/didChange", where | {"contentChanges": [{"range": span, "text": text}]})


def shown_message(client: RawClient) -> str:
    message: str = client.notification("window/showMessage")["message"]
    return message


def last_hole(prompts: Path) -> Any:
    """Prefix and suffix of the last hole that the engine was given."""
    prefix, suffix, *_ = json.loads(prompts.read_text().splitlines()[-1])
    return prefix, suffix


def test_separators_that_are_no_line_ends(tmp_path: Path) -> None:
    prompts = tmp_path / "prompts"
    with connected(tmp_path, "--prompts", str(prompts)) as client:
        client.start()
        client.open(f"a{SEPARATORS}b\nx = {SEPARATORS}\nend")
        client.send(edit(2, 1, 4, 4, "1"))
        assert client.ask(complete(1, 1, 5)) == [TEXT]
        assert last_hole(prompts) == (f"a{SEPARATORS}b\nx = 1", f"{SEPARATORS}\nend")
        assert client.leave() == 0


def test_lone_surrogates_are_replaced_and_count_as_one_unit(tmp_path: Path) -> None:
    prompts = tmp_path / "prompts"
    with connected(tmp_path, "--prompts", str(prompts)) as client:
        client.start()
        client.open("s = '\ud800\ud83d\ude00\udc00'; x = 1")
        assert client.ask(complete(1, 0, 16)) is not None
        assert last_hole(prompts) == ("s = '\ufffd😀\ufffd'; x = ", "1")
        # Two halves that become adjacent by edits are one character for the client.
        client.send(edit(2, 0, 0, 18, "\ud83d"), edit(3, 0, 1, 1, "\ude00 = "))
        assert client.ask(complete(2, 0, 5)) is not None
        assert last_hole(prompts) == ("😀 = ", "")
        assert client.leave() == 0


def test_the_real_engine_takes_lone_surrogates(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    tiny_checkpoint(folder)
    with connected(tmp_path / "state", "--real", str(folder)) as client:
        client.start({"show_threshold": 0})
        client.open("s = '\ud800'\nx = \n# \udc00")
        assert items(client.exchange(complete(1, 1, 4, invoked=True))) is not None
        assert client.leave() == 0


def test_a_document_of_20_megabytes(tmp_path: Path) -> None:
    prompts = tmp_path / "prompts"
    line = "total = add(left, right)  # and so on, up to a line of common length\n"
    count = 20_000_000 // len(line)
    with connected(tmp_path, "--prompts", str(prompts)) as client:
        client.start()
        client.open(line * count)
        client.send(edit(2, count // 2, 0, 5, "sum"), edit(3, count // 2, 6, 200, ""))
        assert client.ask(complete(1, count // 2, 6)) == [TEXT]
        prefix, suffix = last_hole(prompts)
        assert prefix.endswith(line + "sum = ")
        assert suffix.startswith("\n" + line)
        client.send(change("x = ", 4))
        assert client.ask(complete(2, 0, 4)) == [TEXT]
        assert last_hole(prompts) == ("x = ", "")
        assert client.leave() == 0


@pytest.mark.parametrize("letter", ["a", "é"])
def test_a_line_of_5_megabytes(tmp_path: Path, letter: str) -> None:
    prompts = tmp_path / "prompts"
    count = 5_000_000 // len(letter.encode())
    with connected(tmp_path, "--prompts", str(prompts)) as client:
        client.start()
        client.open(f"s = '{letter * count}' + x")
        client.send(edit(2, 0, count + 9, count + 10, ".other"))
        assert client.ask(complete(1, 0, count + 9)) == [TEXT]
        prefix, suffix = last_hole(prompts)
        assert prefix.endswith(letter * 100 + "' + ")
        assert suffix == ".other"
        assert client.leave() == 0


def test_changes_with_decreasing_versions_are_applied_in_the_order_of_arrival(tmp_path: Path) -> None:
    prompts = tmp_path / "prompts"
    with connected(tmp_path, "--prompts", str(prompts)) as client:
        client.start()
        client.open("x = ", version=5)
        client.send(edit(4, 0, 4, 4, "a + "), edit(3, 0, 8, 8, "b + "))
        assert client.ask(complete(1, 0, 12)) == [TEXT]
        assert last_hole(prompts) == ("x = a + b + ", "")
        assert client.leave() == 0
        assert "went from version 5 to 4" in client.stderr


def test_a_change_of_a_file_that_was_never_opened_is_reported_once(tmp_path: Path) -> None:
    with connected(tmp_path) as client:
        client.start()
        for version in (1, 2):
            client.send(edit(version, 0, 0, 0, "x", uri="file:///never.py"))
        assert "open it again" in shown_message(client)
        client.send(call(None, "textDocument/didClose", {"textDocument": {"uri": "file:///never.py"}}))
        assert client.ask(complete(1, 0, 0, uri="file:///never.py")) is None
        assert client.leave() == 0


def test_after_a_malformed_edit_a_document_is_not_filled_until_its_whole_text_comes(
    tmp_path: Path,
) -> None:
    prompts = tmp_path / "prompts"
    with connected(tmp_path, "--prompts", str(prompts)) as client:
        client.start()
        client.open("x = ")
        broken = edit(2, 0, 4, 4, "1 + ")
        broken["params"]["contentChanges"][0]["range"]["start"] = "here"
        client.send(broken, edit(3, 0, 0, 0, "y = "))
        assert "could not be handled" in shown_message(client)
        assert client.ask(complete(1, 0, 4)) is None
        client.send(change("z = ", 4), edit(5, 0, 4, 4, "2 + "))
        assert client.ask(complete(2, 0, 8)) == [TEXT]
        assert last_hole(prompts) == ("z = 2 + ", "")
        client.send(broken)
        client.open("a = ")
        assert client.ask(complete(3, 0, 4)) == [TEXT]
        assert client.leave() == 0
