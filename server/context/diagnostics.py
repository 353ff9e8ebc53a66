"""What the editor's other servers find wrong in open documents, as the client passes it on: `midspan/diagnostics`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from midspan.server.text.documents import Range

if TYPE_CHECKING:
    from midspan.server.app import Server

DIAGNOSTICS = "midspan/diagnostics"
# Errors and warnings, and what no severity is known of.
TOLD = (None, 1, 2)
MOST, MESSAGE_CHARS = 200, 200


class _Markup(msgspec.Struct, frozen=True):
    value: str


class _Place(msgspec.Struct, frozen=True):
    line: int


class _Span(msgspec.Struct, frozen=True):
    start: _Place


class _Diagnostic(msgspec.Struct, frozen=True):
    range: _Span
    message: str | _Markup
    severity: int | None = None


class _Diagnostics(msgspec.Struct, frozen=True):
    uri: str
    diagnostics: list[_Diagnostic]


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What is wrong in a line, in one line."""

    line: int
    message: str


class Diagnosed:
    """The newest diagnostics of each document; they go when lines above them may have moved, until the next ones."""

    def __init__(self) -> None:
        self._of: dict[str, tuple[Diagnosis, ...]] = {}

    def put(self, uri: str, found: Sequence[Diagnosis]) -> None:
        """What is wrong in a document now, instead of all before."""
        self._of[uri] = tuple(found[:MOST])

    def note(self, uri: str, span: Range | None, text: str) -> None:
        """An edit as the client sent it."""
        if span is None or span[0][0] != span[1][0] or "\n" in text or "\r" in text:
            self._of.pop(uri, None)

    def forget(self, uri: str) -> None:
        """A document was closed."""
        self._of.pop(uri, None)

    def around(self, uri: str, first: int, last: int) -> list[Diagnosis]:
        """Those of lines [first, last]."""
        return [one for one in self._of.get(uri, ()) if first <= one.line <= last]


def diagnosed(server: Server, params: object) -> None:
    """The params name a document and its diagnostics, as `textDocument/publishDiagnostics` would."""
    pushed = msgspec.convert(params, _Diagnostics)
    found = [Diagnosis(one.range.start.line, _line(one.message)) for one in pushed.diagnostics if one.severity in TOLD]
    if server.documents.get(pushed.uri) is not None:
        server.context.diagnosed_in(pushed.uri, found)


def _line(message: str | _Markup) -> str:
    """A message on one line, no longer than it needs to be."""
    return " ".join((message if isinstance(message, str) else message.value).split())[:MESSAGE_CHARS]
