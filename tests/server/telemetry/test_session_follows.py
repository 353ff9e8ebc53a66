"""A session tells the aftermath what happens to its documents: opened, changed, closed, lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from midspan.server.suggestions import Offered
from midspan.server.telemetry.aftermath import Aftermath
from midspan.server.telemetry.schema import HORIZONS
from tests.server.inside import Inside
from tests.server.raw_client import URI, Message, call, change
from tests.server.telemetry.desk import Clock, Told, kept

TEXT = "list + range"
OTHER = "file:///project/renamed.py"


def opening(text: str, uri: str) -> Message:
    document = {"uri": uri, "languageId": "python", "version": 1, "text": text}
    return call(None, "textDocument/didOpen", {"textDocument": document})


def closing(uri: str) -> Message:
    return call(None, "textDocument/didClose", {"textDocument": {"uri": uri}})


@pytest.fixture
def watched(tmp_path: Path) -> tuple[Inside, Told, Clock]:
    """A server with an open document, a suggestion in it, and time that is told to pass."""
    inside, told, clock = Inside(tmp_path), Told(), Clock()
    inside.initialize()
    inside.server.aftermath = Aftermath(lambda: told, clock.later, clock)
    inside.send(opening("x = \n", URI))
    place = (0, 4)
    inside.server.aftermath.offered(inside.document(), place, place, [Offered(id="1", text=TEXT)])
    clock.pass_by(0.5)
    return inside, told, clock


def test_what_was_taken_is_followed_into_a_file_of_another_name(watched: tuple[Inside, Told, Clock]) -> None:
    inside, told, clock = watched
    inside.send(change(f"x = {TEXT}\n", 2))
    assert told.of("taken") == [("taken", "1")]
    inside.send(closing(URI))
    inside.send(opening(f"x = {TEXT}\n", OTHER))
    inside.send(change("x = list\n", 2, uri=OTHER))
    clock.pass_by(HORIZONS[0])
    assert list(kept(told)) == pytest.approx([1 / 3], abs=1e-3)


def test_a_file_that_is_closed_dismisses_its_suggestions(watched: tuple[Inside, Told, Clock]) -> None:
    inside, told, _ = watched
    inside.send(closing(URI))
    assert told.of("dismissed") == [("dismissed", "1")]


def test_of_a_file_whose_change_is_not_understood_nothing_is_said(watched: tuple[Inside, Told, Clock]) -> None:
    inside, told, clock = watched
    inside.send(change(f"x = {TEXT}\n", 2))
    inside.send(call(None, "textDocument/didChange", {"textDocument": {"uri": URI, "version": 3}}))
    clock.pass_by(HORIZONS[-1])
    assert not kept(told)


def test_quick_keys_are_counted_by_the_version_that_the_client_sends(watched: tuple[Inside, Told, Clock]) -> None:
    inside, told, _ = watched
    inside.send(change(f"x = {TEXT}\n", 1 + len(TEXT)))
    assert told.of("taken", "typed") == [("typed", "1")]
