"""What became of what was offered, as the client tells it: shown, taken in part, taken."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import msgspec
from pygls.exceptions import JsonRpcInvalidParams

from midspan.server.completion import DID_ACCEPT

if TYPE_CHECKING:
    from midspan.server.app import Server

OFFERS_REMEMBERED = 1000
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


class OfferedIds:
    """The ids of the newest offers, and how many UTF-16 units of each stood there when its latest item was made."""

    def __init__(self) -> None:
        self._there: dict[str, int] = {}

    def __contains__(self, id: object) -> bool:
        return id in self._there

    def add(self, id: str, there: int = 0) -> None:
        """An item was made of this offer."""
        self._there.pop(id, None)
        self._there[id] = there
        if len(self._there) > OFFERS_REMEMBERED:
            del self._there[next(iter(self._there))]

    def there(self, id: str) -> int:
        """See the class. Raises KeyError for an unknown id."""
        return self._there[id]


def shown(server: Server, params: object) -> None:
    """The params name an item that the client has shown."""
    id = _id_of(msgspec.convert(params, _Shown).item)
    if server.telemetry is not None and id in server.offered:
        server.telemetry.shown(id)


def partially_accepted(server: Server, params: object) -> None:
    """The params name an item and how much of it the user has taken."""
    event = msgspec.convert(params, _PartiallyAccepted)
    id = _id_of(event.item)
    if server.telemetry is not None and id in server.offered:
        # The client counts from the item's beginning, the row from the offer's.
        server.telemetry.partially_accepted(id, server.offered.there(id) + event.accepted_length)


def accepted(server: Server, id: str) -> None:
    """The user has taken the offer of this id. Raises JsonRpcInvalidParams for an id that is none of completion.py's.

    An id that is not known is an offer of long ago, or of the server before this one: its ghost text may still stand.
    """
    if id not in server.offered:
        if OFFERED_ID.fullmatch(id):
            return
        raise JsonRpcInvalidParams(f"{DID_ACCEPT}: no completion was offered under {id!r}; pass the item's argument")
    if server.telemetry is not None:
        server.telemetry.accepted(id)


def _id_of(item: _Item) -> str:
    """The item's id; empty for another server's item."""
    if item.command is None or item.command.command != DID_ACCEPT or not item.command.arguments:
        return ""
    return str(item.command.arguments[0])
