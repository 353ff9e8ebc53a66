"""The setting `confirm_rewrites`: an editor that can ask is told to, before a rewrite changes several lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.server.raw_client import URI, Message, connected
from tests.server.scripted import TEXT
from tests.server.test_code_actions import CODE_ACTION, PICTURE, SELECTION, action_named, offered, span

TITLE = "midspan: refill the selection"
ASKS: Message = {"documentChanges": True, "changeAnnotationSupport": {"groupsOnLabel": True}}
LINES, BLOCK = "def total(items):\n    result = (\n        one)\n", (1, 4, 2, 12)


def edit_of(
    folder: Path, text: str, numbers: tuple[int, int, int, int], workspace_edit: Message, *, name: str = "refill",
    confirm: bool = True,
) -> tuple[Message, str]:  # fmt: skip
    """The edit of an action on a range, and what the server logged."""
    with connected(folder) as client:
        capabilities = {"workspace": {"workspaceEdit": workspace_edit}, "textDocument": {"codeAction": CODE_ACTION}}
        client.initialize({"status": True, "confirm_rewrites": confirm}, capabilities)
        client.send({"jsonrpc": "2.0", "method": "initialized", "params": {}})
        client.state("ready")
        client.open(text)
        action = action_named(offered(client, numbers), name)
        edit: Message = client.request(51, "codeAction/resolve", action)["result"]["edit"]
        assert client.leave() == 0
        return edit, client.stderr


def test_a_rewrite_of_several_lines_needs_confirmation(tmp_path: Path) -> None:
    edit, _ = edit_of(tmp_path, LINES, BLOCK, ASKS)
    assert edit["changeAnnotations"] == {TITLE: {"label": TITLE, "needsConfirmation": True}}
    assert edit["documentChanges"] == [
        {
            "textDocument": {"uri": URI, "version": 1},
            "edits": [{"range": span(BLOCK), "newText": TEXT, "annotationId": TITLE}],
        }
    ]


def test_a_line_that_becomes_several_needs_confirmation(tmp_path: Path) -> None:
    edit, _ = edit_of(tmp_path, "def lines():\n    return one\n", (1, 4, 1, 14), ASKS, name="fully")
    [document] = edit["documentChanges"]
    assert document["edits"][0]["annotationId"] in edit["changeAnnotations"]
    assert "\n" in document["edits"][0]["newText"]


@pytest.mark.parametrize(
    ("text", "numbers", "confirm"), [(PICTURE, SELECTION, True), (LINES, BLOCK, False)], ids=["one line", "not set"]
)
def test_nothing_else_does(tmp_path: Path, text: str, numbers: tuple[int, int, int, int], confirm: bool) -> None:
    edit, log = edit_of(tmp_path, text, numbers, ASKS, confirm=confirm)
    assert edit == {
        "documentChanges": [
            {"textDocument": {"uri": URI, "version": 1}, "edits": [{"range": span(numbers), "newText": TEXT}]}
        ]
    }
    assert "confirm_rewrites" not in log


@pytest.mark.parametrize("missing", ["documentChanges", "changeAnnotationSupport"])
def test_an_editor_that_cannot_ask_applies_it_and_the_log_says_so(tmp_path: Path, missing: str) -> None:
    edit, log = edit_of(tmp_path, LINES, BLOCK, {name: value for name, value in ASKS.items() if name != missing})
    assert "changeAnnotations" not in edit
    assert TEXT in str(edit)
    assert "confirm_rewrites: this editor cannot ask before an edit" in log
