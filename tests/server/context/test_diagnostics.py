"""Diagnostics of other servers near the gap are part of its context, as long as their lines are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from midspan.server.client_events import MESSAGE_CHARS, diagnosed
from midspan.server.context.context import SOURCES
from midspan.server.context.diagnostics import MOST, Diagnosed, Diagnosis
from midspan.server.text.hole import build_hole
from tests.server.gaps import read_workspace
from tests.server.inside import Inside
from tests.server.raw_client import URI, call

MESSAGE = "undefined\n  name 'naem'"
TEXT = "import os\nprint(naem)\n" + "value = 1\n" * 40


def told(line: int, message: Any = MESSAGE, severity: int | None = 1, uri: str = URI) -> Any:
    start, end = {"line": line, "character": 6}, {"line": line, "character": 10}
    one = {"range": {"start": start, "end": end}, "message": message, "source": "another"}
    return {"uri": uri, "diagnostics": [one if severity is None else one | {"severity": severity}]}


@pytest.fixture
def inside(tmp_path: Path) -> Inside:
    """A server whose engine reads context, with TEXT open."""
    made = Inside(tmp_path)
    made.initialize()
    made.server.context._tokens = 500
    document = {"uri": URI, "languageId": "python", "version": 1, "text": TEXT}
    made.send(call(None, "textDocument/didOpen", {"textDocument": document}))
    made.server.context.background.index = read_workspace(tmp_path, made.server.documents)
    return made


def seen(inside: Inside, line: int = 3) -> tuple[str, ...]:
    document = inside.document()
    hole = build_hole(document, (line, 0))
    return inside.server.context.at(document, (line, 0), hole)


@pytest.mark.parametrize("severity", [1, 2, None])
@pytest.mark.parametrize(
    "message", ["undefined\n  name 'naem'", {"kind": "plaintext", "value": "undefined name 'naem'"}]
)
def test_errors_and_warnings_near_the_gap_are_shown_with_their_line(
    inside: Inside, severity: int | None, message: Any
) -> None:
    assert seen(inside) == ()
    inside.send(call(None, "midspan/diagnostics", told(1, message, severity)))
    assert seen(inside) == ("# undefined name 'naem'\nprint(naem)",)
    # The latest diagnostics replace the earlier ones.
    inside.send(call(None, "midspan/diagnostics", {"uri": URI, "diagnostics": []}))
    assert seen(inside) == ()


def test_diagnostics_beyond_the_end_of_the_text_are_not_shown(inside: Inside) -> None:
    last = TEXT.count("\n")
    inside.send(call(None, "midspan/diagnostics", told(last + 2)))
    assert seen(inside, last) == ()


def test_a_document_that_is_not_open_has_no_diagnostics(inside: Inside) -> None:
    inside.send(call(None, "midspan/diagnostics", told(1, uri="file:///other.py")))
    assert inside.server.context._diagnosed.around("file:///other.py", 0, 9) == []


@pytest.mark.parametrize("params", [told(1, severity=3), told(30), told(9000)])
def test_hints_and_diagnostics_of_far_lines_are_not_shown(inside: Inside, params: Any) -> None:
    inside.send(call(None, "midspan/diagnostics", params))
    assert seen(inside) == ()


def test_shares_of_all_sources_add_up_to_one() -> None:
    assert sum(share for _, _, share in SOURCES) == pytest.approx(1)


@pytest.mark.parametrize(("text", "kept"), [("x", True), ("x\n", False)])
def test_an_edit_that_moves_lines_drops_diagnostics_until_new_ones_come(inside: Inside, text: str, kept: bool) -> None:
    inside.send(call(None, "midspan/diagnostics", told(1)))
    here = {"line": 0, "character": 0}
    change = {"range": {"start": here, "end": here}, "text": text}
    document = {"uri": URI, "version": 2}
    inside.send(call(None, "textDocument/didChange", {"textDocument": document, "contentChanges": [change]}))
    assert bool(seen(inside)) is kept
    inside.send(call(None, "midspan/diagnostics", told(1 if kept else 2)))
    assert seen(inside) == ("# undefined name 'naem'\nprint(naem)",)


def test_closing_a_document_drops_its_diagnostics(inside: Inside) -> None:
    inside.send(call(None, "midspan/diagnostics", told(1)))
    inside.send(call(None, "textDocument/didClose", {"textDocument": {"uri": URI}}))
    document = {"uri": URI, "languageId": "python", "version": 1, "text": TEXT}
    inside.send(call(None, "textDocument/didOpen", {"textDocument": document}))
    assert seen(inside) == ()


def test_no_diagnostics_are_kept_for_an_engine_that_reads_no_context(inside: Inside) -> None:
    inside.server.context._tokens = 0
    inside.send(call(None, "midspan/diagnostics", told(1)))
    inside.server.context._tokens = 500
    assert seen(inside) == ()


def test_diagnostics_are_limited_in_number_and_dropped_for_a_new_text() -> None:
    many = Diagnosed()
    many.put(URI, [Diagnosis(line, "wrong") for line in range(2 * MOST)])
    assert len(many.around(URI, 0, 10 * MOST)) == MOST
    many.note(URI, None, "all of it is new")
    assert many.around(URI, 0, 10 * MOST) == []


def test_a_long_message_is_cut(inside: Inside) -> None:
    inside.send(call(None, "midspan/diagnostics", told(1, "wrong " * 1000)))
    [snippet] = seen(inside)
    assert len(snippet) <= MESSAGE_CHARS + len("# \nprint(naem)")


def test_params_that_are_no_list_of_diagnostics_are_refused(inside: Inside) -> None:
    with pytest.raises(msgspec.ValidationError):
        diagnosed(inside.server, {"uri": URI, "diagnostics": [{"message": 5}]})
