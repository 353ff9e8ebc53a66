"""What the client tells of items and documents: shown, taken in part, taken; what other servers find wrong."""

from __future__ import annotations

import re
from typing import Annotated

import msgspec
from pygls.exceptions import JsonRpcInvalidParams

from midspan.server.completion import DID_ACCEPT
from midspan.server.context.diagnostics import Diagnosis
from midspan.server.session import Session

DIAGNOSTICS = "midspan/diagnostics"
# Errors and warnings, and what has no severity.
TOLD = (None, 1, 2)
MESSAGE_CHARS = 200
OFFERED_ID = re.compile(r"[0-9a-f]{32}(?:-[0-9]+)?")


class _Command(msgspec.Struct, frozen=True):
    command: str
    arguments: list[object] = []


class _Item(msgspec.Struct, frozen=True):
    command: _Command | None = None


class _Shown(msgspec.Struct, frozen=True):
    item: _Item


class _PartiallyAccepted(msgspec.Struct, frozen=True, rename="camel"):
    item: _Item
    accepted_length: Annotated[int, msgspec.Meta(ge=0, le=2**31)]


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


def shown(session: Session, params: object) -> None:
    """The params name an item that the client has shown."""
    id = _id_of(msgspec.convert(params, _Shown).item)
    if session.telemetry is not None and id in session.offered:
        session.telemetry.shown(id)


def partially_accepted(session: Session, params: object) -> None:
    """The params name an item and how much of it the user has taken."""
    event = msgspec.convert(params, _PartiallyAccepted)
    id = _id_of(event.item)
    if session.telemetry is not None and id in session.offered:
        # The client counts from the item's beginning, the row from the offer's.
        session.telemetry.partially_accepted(id, session.offered.there(id) + event.accepted_length)


def accepted(session: Session, id: str) -> None:
    """The user has taken the offer of this id. Raises JsonRpcInvalidParams for an id that is none of completion.py's.

    An id that is not known is an offer of long ago, or of the server before this one: its ghost text may still stand.
    """
    if id not in session.offered:
        if OFFERED_ID.fullmatch(id):
            return
        raise JsonRpcInvalidParams(f"{DID_ACCEPT}: no completion was offered under {id!r}; pass the item's argument")
    if session.telemetry is not None:
        session.telemetry.accepted(id)


def diagnosed(session: Session, params: object) -> None:
    """The params name a document and its diagnostics, as `textDocument/publishDiagnostics` would."""
    pushed = msgspec.convert(params, _Diagnostics)
    found = [Diagnosis(one.range.start.line, _line(one.message)) for one in pushed.diagnostics if one.severity in TOLD]
    if session.documents.get(pushed.uri) is not None:
        session.context.diagnosed_in(pushed.uri, found)


def _id_of(item: _Item) -> str:
    """The item's id; empty for another server's item."""
    if item.command is None or item.command.command != DID_ACCEPT or not item.command.arguments:
        return ""
    return str(item.command.arguments[0])


def _line(message: str | _Markup) -> str:
    """A message on one line, no longer than it needs to be."""
    return " ".join((message if isinstance(message, str) else message.value).split())[:MESSAGE_CHARS]
