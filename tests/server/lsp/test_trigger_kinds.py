"""Trigger kinds of clients that count from 1 and of clients that count from 0: explicit requests get several items."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midspan.server.lsp.trigger_kinds import TriggerKinds
from tests.server.raw_client import RawClient, call, change, complete, connected
from tests.server.scripted import TEXT

SEVERAL = [TEXT, "slice", "tuple"]
MARKED = {"general": {"markdown": {"parser": "marked", "version": "1.1.0"}}}
NEW = {"workspace": {"workspaceEdit": {"metadataSupport": True}}}


def numbers_of_items(client: RawClient, kinds: list[int]) -> list[int]:
    """The number of items for each of these trigger kinds, each in a document of its own."""
    found = []
    for id, kind in enumerate(kinds, 1):
        client.open("several = ", uri=f"file:///{id}.py")
        request = complete(id, 0, 10, uri=f"file:///{id}.py")
        request["params"]["context"]["triggerKind"] = kind
        found.append(len(client.ask(request) or []))
    return found


def introduce(client: RawClient, name: str | None, capabilities: dict[str, Any]) -> None:
    """Initialize as this client, and wait until the engine is loaded."""
    info = {} if name is None else {"clientInfo": {"name": name}}
    params = {"processId": None, "rootUri": None, "capabilities": capabilities, **info}
    client.request(0, "initialize", params | {"initializationOptions": {"status": True}})
    client.send(call(None, "initialized", {}))
    client.state("ready")


@pytest.mark.parametrize(
    ("name", "capabilities", "kinds", "items"),
    [
        # The kinds of the specification.
        (None, {}, [1, 2, 1, 2], [3, 1, 3, 1]),
        ("Neovim", {}, [1, 2], [3, 1]),
        # vscode-languageclient 9: 0 is invoked and 1 is automatic, from the first request on.
        ("Visual Studio Code", MARKED, [1, 0, 1], [1, 3, 1]),
        ("Visual Studio Code - Insiders", {}, [1, 0, 1], [1, 3, 1]),
        ("A fork", MARKED, [1, 0, 1], [1, 3, 1]),
        # vscode-languageclient 10 and coc.nvim count as the specification does.
        ("Visual Studio Code", MARKED | NEW, [1, 2, 1], [3, 1, 3]),
        ("coc.nvim", MARKED | NEW, [1, 2, 1], [3, 1, 3]),
        # A client that sends 0 counts from 0, one that sends 2 counts from 1.
        ("an editor", {}, [0, 1, 1], [3, 1, 1]),
        ("Visual Studio Code", {}, [2, 1], [1, 3]),
    ],
)
def test_explicit_requests_get_several_items_however_a_client_counts(
    tmp_path: Path, name: str | None, capabilities: dict[str, Any], kinds: list[int], items: list[int]
) -> None:
    with connected(tmp_path) as client:
        introduce(client, name, capabilities)
        assert numbers_of_items(client, kinds) == items
        assert client.leave() == 0


@pytest.mark.parametrize("kind", [3, -1, True, "1", 0.5, None])
def test_a_trigger_kind_that_no_draft_of_lsp_has_is_refused(tmp_path: Path, kind: object) -> None:
    with connected(tmp_path) as client:
        client.start()
        client.open("x = ")
        request = complete(1, 0, 4)
        request["params"]["context"]["triggerKind"] = kind
        assert client.exchange(request)["error"]["code"] == -32602
        assert client.leave() == 0


@given(st.lists(st.booleans()), st.booleans())
def test_after_a_0_or_a_2_the_clients_counting_is_known(invoked: list[bool], from_zero: bool) -> None:
    kinds = TriggerKinds()
    first = 0 if from_zero else 2
    kinds.is_invoked(first)
    assert [kinds.is_invoked((0 if one else 1) if from_zero else (1 if one else 2)) for one in invoked] == invoked


def test_a_change_whose_version_is_null_is_applied(tmp_path: Path) -> None:
    with connected(tmp_path) as client:
        client.start()
        client.open("# several\nx = ")
        message = change("x = 1\n# nothing\nxyz = ", 0)
        message["params"]["textDocument"]["version"] = None
        client.send(message)
        assert client.ask(complete(1, 2, 6)) == [TEXT]
        # The next change with a version counts as newer.
        client.send(change("a = ", 3))
        assert client.ask(complete(2, 0, 4)) == [TEXT]
        assert client.leave() == 0
        assert "version" not in client.stderr
