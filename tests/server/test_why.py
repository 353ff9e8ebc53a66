"""Commands midspan.languagesOn and midspan.why: the languages that are on, and why no suggestion is shown here."""

from __future__ import annotations

from pathlib import Path

import pytest
from lsprotocol import types
from pygls.exceptions import JsonRpcException

from midspan.engine.api import Candidate, Fill, Latency
from midspan.server.lsp.decisions import KEPT, NOT_YET, Decisions, decided
from tests.server.lsp_client import URI, session

QUIET = "the setting `quiet` is on: a suggestion comes only when it is asked for"


def fill(*candidates: Candidate, stopped: str = "settled") -> Fill:
    return Fill(
        text=candidates[0].text if candidates else "",
        confidence=candidates[0].confidence if candidates else 0.0,
        candidates=candidates,
        steps=1,
        stopped=stopped,  # type: ignore[arg-type]
        latency=Latency(total=12.0, encode=0.0, denoise=0.0, rank=0.0),
    )


async def test_the_last_decision_is_explained(tmp_path: Path) -> None:
    async with session(tmp_path) as client:
        client.open("total = \nlow = \nempty = \nsingle = \n")
        assert await client.execute("midspan.why", URI) == [NOT_YET]
        for line, character, words in (
            (0, 8, "answered after 1 ms by a suggestion that is 90% sure"),
            (1, 6, "the best suggestion was 1% sure and 25% was needed"),
            (2, 8, "the model saw nothing likely enough here, and stopped after 1 ms"),
            (3, 9, "stands there already, or is a single character"),
        ):
            await client.complete(line, character)
            [said] = await client.execute("midspan.why", URI)
            assert words in said


async def test_reasons_that_concern_the_whole_file_come_first(tmp_path: Path) -> None:
    async with session(tmp_path, quiet=True, disable=["a.py"], exclude=["b.py"]) as client:
        for uri, language in ((URI, "python"), ("file:///project/b.py", "python"), ("file:///project/c.go", "go")):
            client.open("x = \n", uri, language)
        named = "the setting `disable` names this file: a suggestion comes only when it is asked for"
        assert await client.execute("midspan.why", URI) == [QUIET, named, NOT_YET]
        [excluded] = await client.execute("midspan.why", "file:///project/b.py")
        assert excluded.startswith("no prompt may hold this file's text: ")
        [off] = await client.execute("midspan.why", "file:///project/c.go")
        assert off.endswith('the setting "languages": {"go": true} turns it on')
        [unknown] = await client.execute("midspan.why", "file:///project/d.py")
        assert unknown.startswith("midspan does not follow this file")


async def test_a_module_named_like_secrets_is_explained_as_it_is_answered(tmp_path: Path) -> None:
    async with session(tmp_path) as client:
        client.open("x = \n", uri := "file:///project/secrets.py")
        assert await client.execute("midspan.why", uri) == [NOT_YET]
        client.open("password = 'swordfish'\nx = \n", uri)
        [said] = await client.execute("midspan.why", uri)
        assert said.startswith("no prompt may hold this file's text: its name")


async def test_the_languages_that_are_on_follow_the_settings(tmp_path: Path) -> None:
    async with session(tmp_path, languages={"go": True, "tsx": True}) as client:
        asked = ["python", "go", "rust", "typescriptreact"]
        assert await client.execute("midspan.languagesOn", asked) == ["python", "go", "typescriptreact"]


@pytest.mark.parametrize("command", ["midspan.why", "midspan.languagesOn"])
async def test_a_command_without_its_argument_is_refused(tmp_path: Path, command: str) -> None:
    async with session(tmp_path) as client:
        for arguments in ((), None):
            params = types.ExecuteCommandParams(command, arguments)
            with pytest.raises(JsonRpcException, match="Expected 1 arguments, got 0") as refused:
                await client.workspace_execute_command_async(params)
            assert refused.value.code == -32602


def test_a_fill_that_was_too_slow_names_the_setting() -> None:
    words = decided(fill(stopped="deadline"), 0.25, 700, offered=0)
    assert words.startswith("too slow: nothing was ready within 700 ms; raise `deadline_ms`")


def test_decisions_of_long_ago_are_forgotten() -> None:
    decisions = Decisions()
    for number in range(KEPT + 1):
        decisions.note(str(number), "shown")
    assert decisions.last("0") == NOT_YET
    assert decisions.last("1") == "shown"
