"""What the client tells of items and documents: shown, taken in part, taken; what other servers find wrong."""

from __future__ import annotations

import asyncio
import re
from functools import partial
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
# An acceptance waits this long for a store that another program locks, or for a disk; what waits is stored later.
STORED_S = 30.0
STORE_BUSY = f"telemetry waits: its store has been locked for {STORED_S:.0f} s; close the program that uses it"
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
    if session.engine is not None and event.accepted_length:
        session.engine.kept(id)
    if session.telemetry is not None and id in session.offered:
        # The client counts from the item's beginning, the row from the offer's.
        chars = session.offered.there(id) + event.accepted_length
        session.telemetry.partially_accepted(id, chars)
        session.aftermath.told_part(id, chars)


async def accepted(session: Session, id: str) -> None:
    """The user has taken the offer of this id; returns when that is stored, or when the user knows that it is not yet.

    An id that is not known is an offer of long ago, or of the server before this one: its ghost text may still stand.
    Raises JsonRpcInvalidParams for an id that is none of completion.py's.
    """
    if id not in session.offered and not OFFERED_ID.fullmatch(id):
        raise JsonRpcInvalidParams(f"{DID_ACCEPT}: no completion was offered under {id!r}; pass the item's argument")
    if session.engine is not None:
        session.engine.kept(id)
    if session.telemetry is None:
        return
    session.aftermath.told(id)
    with session.protocol.kept():
        stored = asyncio.wrap_future(session.telemetry.accepted(id))
        await asyncio.wait({stored}, timeout=STORED_S)
        if not stored.done():
            session.degrade("telemetry", STORE_BUSY)
            stored.add_done_callback(partial(_stored_late, session))


def _stored_late(session: Session, stored: asyncio.Future[bool]) -> None:
    # What could not be stored after all stays in the status: the store has told why.
    if not stored.cancelled() and stored.result():
        session.status.well("telemetry")


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
