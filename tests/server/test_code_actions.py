"""Code actions over stdio: offers, the edit on resolve, refusals, cancelling, and progress."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from midspan.engine.settings import ACTIONS
from midspan.server.actions import REWRITE
from tests.server.raw_client import URI, Message, RawClient, call, change, complete, connected, items
from tests.server.scripted import TEXT

CODE_ACTION = {
    "codeActionLiteralSupport": {"codeActionKind": {"valueSet": ["refactor.rewrite", "quickfix"]}},
    "dataSupport": True,
    "disabledSupport": True,
    "resolveSupport": {"properties": ["edit"]},
    "tagSupport": {"valueSet": [1]},
}
PICTURE, SELECTION = "x = one + two\n", (0, 4, 0, 13)
SECRET = "hunter2_correct_horse"
REWRITES = ["refill", "refill", "refill", "lightly", "half", "fully"]


def begin(
    client: RawClient, text: str, *, code_action: Message | None = CODE_ACTION, language: str = "python",
    uri: str = URI, versioned: bool = True, progress: bool = False, **options: Any,
) -> None:  # fmt: skip
    """Initialize with an editor's capabilities, wait for the engine, open a document."""
    capabilities: Message = {"workspace": {"workspaceEdit": {"documentChanges": versioned}}}
    if code_action is not None:
        capabilities["textDocument"] = {"codeAction": code_action}
    client.initialize({"status": True} | options, capabilities | {"window": {"workDoneProgress": progress}})
    client.send(call(None, "initialized", {}))
    if progress:
        loading = client.take(lambda message: message.get("method") == "window/workDoneProgress/create")
        client.send({"jsonrpc": "2.0", "id": loading["id"], "error": {"code": -32603, "message": "not now"}})
    client.state("ready")
    client.open(text, uri=uri, language=language)


def span(numbers: tuple[int, int, int, int]) -> Message:
    line, character, last, end = numbers
    return {"start": {"line": line, "character": character}, "end": {"line": last, "character": end}}


def offered(
    client: RawClient, numbers: tuple[int, int, int, int] = SELECTION, *, uri: str = URI, id: int = 50, **context: Any
) -> list[Message]:
    """The code actions for a range."""
    params = {"textDocument": {"uri": uri}, "range": span(numbers), "context": {"diagnostics": []} | context}
    found: list[Message] = client.request(id, "textDocument/codeAction", params)["result"]
    return found


def names(actions: list[Message]) -> list[str]:
    return [action["kind"].removeprefix(f"{REWRITE}.") for action in actions]


def action_named(actions: list[Message], name: str) -> Message:
    return next(action for action in actions if action["kind"].endswith(name))


def edits(answer: Message) -> list[tuple[str, Message]]:
    """Texts and ranges of a resolved action, which must edit the first version of the open document only."""
    [document] = answer["result"]["edit"]["documentChanges"]
    assert document["textDocument"] == {"uri": URI, "version": 1}
    return [(edit["newText"], edit["range"]) for edit in document["edits"]]


def test_nothing_is_computed_before_an_action_is_resolved(tmp_path: Path) -> None:
    with connected(tmp_path) as client:
        begin(client, PICTURE)
        actions = offered(client)
        assert names(actions) == REWRITES
        assert all("edit" not in action and action["tags"] == [1] for action in actions)
        assert client.history()["asked"] == []
        resolved = client.request(51, "codeAction/resolve", action_named(actions, "half"))
        assert edits(resolved) == [(TEXT, span(SELECTION))]
        [asked] = client.history()["asked"]
        assert (asked["draft"], asked["strength"]) == ("one + two", 0.5)
        assert client.leave() == 0


def test_three_alternatives_come_from_one_fill(tmp_path: Path) -> None:
    with connected(tmp_path) as client:
        begin(client, "def several(): return (\n  one)\n")
        actions = [action for action in offered(client, (1, 2, 1, 5)) if action["kind"].endswith("refill")]
        resolved = [client.request(60 + n, "codeAction/resolve", action) for n, action in enumerate(actions)]
        assert [edits(one)[0][0] for one in resolved] == [TEXT, "slice", "tuple"]
        assert len(client.history()["asked"]) == 1
        assert client.leave() == 0


def test_alternatives_that_are_resolved_at_the_same_time_share_the_fill(tmp_path: Path) -> None:
    with connected(tmp_path) as client:
        begin(client, "def several_frames_newest(): return (\n  one)\n")
        actions = [action for action in offered(client, (1, 2, 1, 5)) if action["kind"].endswith("refill")]
        client.send(*(call(60 + n, "codeAction/resolve", action) for n, action in enumerate(actions)))
        client.send(call(None, "$/cancelRequest", {"id": 60}))
        assert client.answer(60)["error"]["code"] == -32800
        assert [edits(client.answer(id))[0][0] for id in (61, 62)] == ["slice", "tuple"]
        assert len(client.history()["asked"]) == 1
        assert client.leave() == 0


def test_typing_in_another_document_does_not_end_a_rewrite(tmp_path: Path) -> None:
    other = "file:///project/other.py"
    with connected(tmp_path) as client:
        begin(client, "frames newest\n  one\n")
        client.open("x = ", uri=other)
        client.send(call(51, "codeAction/resolve", offered(client, (1, 2, 1, 5))[0]), complete(52, 0, 4, uri=other))
        assert edits(client.answer(51)) == [(TEXT, span((1, 2, 1, 5)))]
        assert items(client.answer(52)) == [TEXT]
        assert not client.history()["asked"][0]["stopped"]
        assert client.leave() == 0


def test_an_alternative_that_the_model_does_not_have_is_refused(tmp_path: Path) -> None:
    with connected(tmp_path) as client:
        begin(client, PICTURE)
        third = offered(client)[2]
        error = client.request(51, "codeAction/resolve", third)["error"]
        assert error["code"] == -32803
        assert "no further choice" in error["message"]
        assert client.leave() == 0


def test_a_rewrite_that_changes_nothing_is_refused(tmp_path: Path) -> None:
    with connected(tmp_path) as client:
        begin(client, f"x = {TEXT}\n")
        error = client.request(51, "codeAction/resolve", offered(client, (0, 4, 0, 4 + len(TEXT)))[0])["error"]
        assert "nothing better" in error["message"]
        assert client.leave() == 0


def test_only_the_requested_kinds_are_offered(tmp_path: Path) -> None:
    wanted = {
        "refactor": REWRITES,
        "refactor.rewrite": REWRITES,
        "": REWRITES,
        REWRITE: REWRITES,
        f"{REWRITE}.half": ["half"],
        f"{REWRITE}.hal": [],
        f"quickfix {REWRITE}.fully": ["fully"],
        "refactor.extract source": [],
    }
    with connected(tmp_path) as client:
        begin(client, PICTURE)
        assert {only: names(offered(client, only=only.split(" "))) for only in wanted} == wanted
        assert client.leave() == 0


def test_automatic_requests_at_a_cursor_are_offered_nothing_unless_they_name_kinds(tmp_path: Path) -> None:
    text = "def f(a):\n    b = 1\n"
    with connected(tmp_path) as client:
        begin(client, text)
        assert names(offered(client, (1, 9, 1, 9))) == ["finish", "docstring"]
        assert names(offered(client, (1, 9, 1, 9), triggerKind=2)) == []
        assert names(offered(client, (1, 9, 1, 9), triggerKind=2, only=["refactor.rewrite"])) == ["finish", "docstring"]
        assert client.leave() == 0


def test_a_large_document_blocks_no_request_and_is_parsed_while_nobody_types(tmp_path: Path) -> None:
    text = "def f(a):\n    b = 1\n" * 30_000
    with connected(tmp_path) as client:
        begin(client, "x = 1\n", uri="file:///small.py")
        client.open(text)
        assert names(offered(client, (1, 9, 1, 9))) == []
        assert any("docstring" in names(offered(client, (1, 9, 1, 9))) for _ in range(100_000))
        assert client.leave() == 0


def test_the_block_is_continued_below_its_last_line_with_the_documents_line_ends(tmp_path: Path) -> None:
    with connected(tmp_path) as client:
        begin(client, "def f(a):\r\n    b = 1\r\n\r\nc = 2\r\n")
        resolved = client.request(51, "codeAction/resolve", action_named(offered(client, (1, 9, 1, 9)), "finish"))
        assert edits(resolved) == [(f"\r\n    {TEXT}", span((1, 9, 1, 9)))]
        resolved = client.request(52, "codeAction/resolve", action_named(offered(client, (1, 9, 1, 9)), "docstring"))
        assert edits(resolved) == [(f'\r\n    """{TEXT}"""', span((0, 9, 0, 9)))]
        assert client.leave() == 0


def test_a_fix_of_an_error_has_its_message_in_the_context(tmp_path: Path) -> None:
    prompts = tmp_path / "prompts"
    diagnostic = {"range": span((1, 11, 1, 12)), "severity": 1, "message": "undefined name 'b'\nmore"}
    hint = {"range": span((1, 4, 1, 10)), "severity": 4, "message": "unused"}
    with connected(tmp_path, "--prompts", str(prompts)) as client:
        begin(client, "def f(a):\n    return b\n")
        actions = offered(client, (1, 11, 1, 11), diagnostics=[hint, diagnostic], only=["quickfix"])
        assert [action["kind"] for action in actions] == ["quickfix.midspan"]
        assert actions[0]["title"] == "midspan: fix this error: undefined name 'b'"
        assert actions[0]["diagnostics"] == [diagnostic]
        assert edits(client.request(51, "codeAction/resolve", actions[0])) == [(TEXT, span((1, 4, 1, 12)))]
        assert client.leave() == 0
    assert json.loads(prompts.read_text()) == ["def f(a):\n    ", "\n", "# undefined name 'b' more"]


def test_an_editor_without_versions_gets_plain_changes(tmp_path: Path) -> None:
    with connected(tmp_path) as client:
        begin(client, PICTURE, versioned=False, code_action=CODE_ACTION | {"tagSupport": {"valueSet": []}})
        action = offered(client)[0]
        assert "tags" not in action
        edit = client.request(51, "codeAction/resolve", action)["result"]["edit"]
        assert edit == {"changes": {URI: [{"newText": TEXT, "range": span(SELECTION)}]}}
        assert client.leave() == 0


@pytest.mark.parametrize("lacking", ["codeActionLiteralSupport", "dataSupport", "resolveSupport", "everything"])
def test_an_editor_that_cannot_resolve_edits_is_offered_nothing(tmp_path: Path, lacking: str) -> None:
    able = {key: value for key, value in CODE_ACTION.items() if key != lacking}
    with connected(tmp_path) as client:
        begin(client, PICTURE, code_action=None if lacking == "everything" else able)
        assert offered(client) == []
        assert offered(client) == []
        assert client.leave() == 0
    assert client.stderr.count("resolveSupport") == 1


@pytest.mark.parametrize("told", [True, False])
def test_a_selection_that_is_too_long_gets_disabled_actions_with_a_reason(tmp_path: Path, told: bool) -> None:
    with connected(tmp_path) as client:
        begin(client, "x = 1\n" * 1000, code_action=CODE_ACTION | {"disabledSupport": told})
        actions = offered(client, (0, 0, 999, 0))
        assert [action["disabled"]["reason"] for action in actions] == ["select at most 4000 characters"] * 4 * told
        assert client.leave() == 0


@pytest.mark.parametrize(
    ("uri", "language", "options"),
    [
        ("file:///project/.env", "python", {}),
        (URI, "go", {}),
        (URI, "python", {"languages": {"python": False}}),
        (URI, "python", {"exclude": ["a.py"]}),
    ],
)
def test_nothing_is_offered_or_resolved_in_an_excluded_document(
    tmp_path: Path, uri: str, language: str, options: Message
) -> None:
    data = {"uri": uri, "version": 1, "action": "refill", "range": [0, 4, 0, 13]}
    with connected(tmp_path) as client:
        begin(client, PICTURE, uri=uri, language=language, **options)
        assert offered(client, uri=uri) == []
        error = client.request(51, "codeAction/resolve", {"title": "x", "data": data})["error"]
        assert error["code"] == -32803
        assert client.history()["asked"] == [] if "languages" not in options else True
        assert client.leave() == 0


def test_an_action_is_refused_after_its_document_changed(tmp_path: Path) -> None:
    with connected(tmp_path) as client:
        begin(client, PICTURE)
        action = offered(client)[0]
        client.send(change("y = " + PICTURE, 2))
        error = client.request(51, "codeAction/resolve", action)["error"]
        assert error["code"] == -32803
        assert "changed since" in error["message"]
        client.send(call(None, "textDocument/didClose", {"textDocument": {"uri": URI}}))
        assert client.request(52, "codeAction/resolve", action)["error"]["code"] == -32803
        assert client.history()["asked"] == []
        assert client.leave() == 0


def test_an_edit_during_resolve_stops_the_engine_and_refuses_the_action(tmp_path: Path) -> None:
    with connected(tmp_path) as client:
        begin(client, "forever\n  one\n")
        client.send(call(51, "codeAction/resolve", offered(client, (1, 2, 1, 5))[0]), change("x = one\n", 2))
        error = client.answer(51)["error"]
        assert error["code"] == -32803
        assert "meanwhile" in error["message"]
        assert client.history()["asked"][0]["stopped"]
        assert client.leave() == 0


def test_a_cancelled_resolve_gets_an_error_and_stops_the_engine(tmp_path: Path) -> None:
    with connected(tmp_path) as client:
        begin(client, "forever\n  one\n")
        action = offered(client, (1, 2, 1, 5))[0]
        client.send(call(51, "codeAction/resolve", action), call(None, "$/cancelRequest", {"id": 51}))
        assert client.answer(51)["error"]["code"] == -32800
        assert client.history()["asked"][0]["stopped"]
        client.send(complete(52, 1, 5, uri="file:///other.py"))
        assert items(client.answer(52)) is None
        assert client.leave() == 0


@pytest.mark.parametrize("how", ["cancelled", "done"])
def test_progress_begins_reports_ends_and_can_be_cancelled(tmp_path: Path, how: str) -> None:
    word = "forever" if how == "cancelled" else "frames"
    with connected(tmp_path) as client:
        begin(client, f"{word}\n  one\n", progress=True)
        client.send(call(51, "codeAction/resolve", offered(client, (1, 2, 1, 5))[0]))
        create = client.take(lambda message: message.get("method") == "window/workDoneProgress/create")
        token = create["params"]["token"]
        client.send({"jsonrpc": "2.0", "id": create["id"], "result": None})
        values = [client.notification("$/progress")["value"] for _ in range(2)]
        assert values[0] == {"kind": "begin", "title": "midspan: rewriting", "cancellable": True}
        assert values[1]["kind"] == "report"
        assert values[1]["message"].startswith("step ")
        if how == "cancelled":
            client.send(call(None, "window/workDoneProgress/cancel", {"token": token}))
            assert client.answer(51)["error"]["code"] == -32800
        else:
            assert edits(client.answer(51)) == [(TEXT, span((1, 2, 1, 5)))]
        while (value := client.notification("$/progress")["value"])["kind"] == "report":
            pass
        assert value["kind"] == "end"
        assert client.leave() == 0


def test_a_crash_is_reported_and_the_next_action_works(tmp_path: Path) -> None:
    with connected(tmp_path) as client:
        begin(client, "crash\n  one\nx = two\n")
        error = client.request(51, "codeAction/resolve", offered(client, (1, 2, 1, 5))[0])["error"]
        assert error["code"] == -32803
        assert "the log says why" in error["message"]
        assert "log" in client.notification("window/showMessage")["message"]
        assert edits(client.request(52, "codeAction/resolve", offered(client, (2, 4, 2, 7))[0]))[0][0] == TEXT
        assert client.leave() == 0


def test_a_foreign_action_is_refused_and_not_quoted_in_the_log(tmp_path: Path) -> None:
    right = {"uri": URI, "version": 1, "action": "refill", "range": [0, 4, 0, 13]}
    wrong = [
        None,
        SECRET,
        right | {"range": [0, 4, 0]},
        right | {"range": [0, 4, 0, -1]},
        right | {"range": [0, 4, 0, 4]},
        right | {"action": SECRET},
        right | {"alternative": 3},
        right | {SECRET: 1},
    ]
    with connected(tmp_path) as client:
        begin(client, f"crash {SECRET}\n  one\n")
        for data in wrong:
            error = client.request(51, "codeAction/resolve", {"title": SECRET, "data": data})["error"]
            assert error["code"] == -32602
            assert "as it was offered" in error["message"]
        assert "error" in client.request(51, "codeAction/resolve", offered(client, (1, 2, 1, 5))[0])
        client.notification("window/showMessage")
        assert client.leave() == 0
    assert "the scripted engine crashed" in client.stderr
    assert SECRET not in client.stderr


def test_nothing_is_offered_before_the_engine_is_loaded(tmp_path: Path) -> None:
    with connected(tmp_path, "--refuse", "no checkpoint") as client:
        client.initialize(capabilities={"textDocument": {"codeAction": CODE_ACTION}})
        client.open(PICTURE)
        assert offered(client) == []
        data = {"uri": URI, "version": 1, "action": "refill", "range": [0, 4, 0, 13]}
        assert (
            "not loaded" in client.request(51, "codeAction/resolve", {"title": "x", "data": data})["error"]["message"]
        )
        assert client.leave() == 0


def test_the_embedded_checkpoint_resolves_the_actions_it_offers(tmp_path: Path) -> None:
    text = "def add(a, b):\n    result = first + second\n    return result\n"
    with connected(tmp_path, "--real", "embedded") as client:
        begin(client, text)
        actions = offered(client, (1, 4, 1, 27), only=["refactor.rewrite"])
        assert set(names(actions)) < set(ACTIONS)
        assert "docstring" not in names(actions)
        [(rewritten, where)] = edits(client.request(51, "codeAction/resolve", action_named(actions, "half")))
        assert where == span((1, 4, 1, 27))
        assert rewritten not in ("", "result = first + second")
        assert client.leave() == 0


def test_no_action_near_a_private_key_reaches_the_engine(tmp_path: Path) -> None:
    with connected(tmp_path) as client:
        begin(client, PICTURE)
        actions, other = offered(client), "file:///project/settings.py"
        client.open(f"{PICTURE}KEY = '''-----BEGIN " + f"PRIVATE KEY-----\n{SECRET}\n'''\n", uri=other)
        assert offered(client, uri=other, id=51) == []
        for number, action in enumerate(actions):
            action["data"]["uri"] = other
            error = client.request(60 + number, "codeAction/resolve", action)["error"]
            assert error["code"] == -32803
            assert "a private key stands near" in error["message"]
            assert SECRET not in error["message"]
        assert client.history()["asked"] == []
        assert client.leave() == 0
