"""What the server and the indexer tell each other: a length of four bytes, and msgpack behind it."""

from __future__ import annotations

import msgspec

from midspan.server.workspace.tags import Definition

LENGTH_BYTES = 4
MAX_SCAN_S = 120.0  # of the indexer's processor time


class Scan(msgspec.Struct, frozen=True, tag=True):
    """Look through these folders; files that have not changed since the last time are left alone.

    `roots` and `skip` are keys, see uris.py; a file of `skip` has ended an indexer before. `afresh` has all files told
    again: who asks has forgotten what it knew, as other rules may hold. Definitions are looked for only where they are
    wanted, and lines in languages that are named.
    """

    roots: tuple[str, ...]
    exclude: tuple[str, ...] = ()
    definitions: bool = True
    lines: tuple[str, ...] = ()
    seconds: float = MAX_SCAN_S
    afresh: bool = False
    skip: tuple[str, ...] = ()


class Opened(msgspec.Struct, frozen=True, tag=True):
    """A document's text, which stands in place of the file's until it is closed; its key is a path or a URI."""

    key: str
    uri: str
    language: str
    text: str


class Closed(msgspec.Struct, frozen=True, tag=True):
    """The file counts again."""

    key: str


class Changed(msgspec.Struct, frozen=True, tag=True):
    """Files or folders that have come, changed or gone on disk."""

    keys: tuple[str, ...]


class Ping(msgspec.Struct, frozen=True, tag=True):
    """Say that you are there."""


class Found(msgspec.Struct, frozen=True, tag=True):
    """All definitions of one file; `hidden` says that nothing of it may be shown to a model, which has none.

    `large` says that nothing of it may be shown for gaps in other files. `lines` are without indents and blank ones.
    """

    key: str
    language: str
    definitions: tuple[Definition, ...] = ()
    lines: tuple[str, ...] = ()
    hidden: bool = False
    large: bool = False


class Gone(msgspec.Struct, frozen=True, tag=True):
    """A file that is no more, or no longer to be shown."""

    key: str


class Scanned(msgspec.Struct, frozen=True, tag=True):
    """A scan has come to its end."""


class Reading(msgspec.Struct, frozen=True, tag=True):
    """This file is read next: should the indexer end now, it is the one that ended it."""

    key: str


class Pong(msgspec.Struct, frozen=True, tag=True):
    """I am there."""


Request = Scan | Opened | Closed | Changed | Ping
Finding = Found | Gone | Scanned | Reading | Pong


def write(message: Request | Finding) -> bytes:
    """A message as it goes through a pipe."""
    body = msgspec.msgpack.encode(message)
    return len(body).to_bytes(LENGTH_BYTES, "big") + body
