"""Messages on standard input and output: HTTP-like headers around a body of bytes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import BinaryIO

# No document comes near to it; a wrong length would have us wait for ever, or run out of memory.
LONGEST = 1 << 30


class WireError(Exception):
    """A header that cannot be read; what follows on the stream cannot be told apart any more."""


def read_message(stream: BinaryIO) -> bytes | None:
    """The next message's body, or None at the end of the stream.

    Header names count in any case. Raises WireError for a header block without a usable Content-Length; the error
    never quotes the stream, which may hold a document.
    """
    length: int | None = None
    while line := stream.readline():
        if not line.strip():
            if length is None:
                raise WireError("a message came without Content-Length")
            body = stream.read(length)
            return body if len(body) == length else None
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            value = value.strip()
            if not value.isdigit():
                raise WireError("a message's Content-Length is not a number")
            if len(value) > 10 or int(value) > LONGEST:
                raise WireError(f"a message's Content-Length is more than {LONGEST} bytes")
            length = int(value)
    return None


def read_messages(stream: BinaryIO, post: Callable[[bytes | WireError | None], None]) -> None:
    """Post every body, then None at the end of the stream, or the WireError that ended it."""
    try:
        while (body := read_message(stream)) is not None:
            post(body)
    except WireError as error:
        post(error)
    else:
        post(None)


class Output:
    """Where the protocol writes. That the client no longer reads is told once; what comes after that is dropped."""

    def __init__(self, stream: BinaryIO, on_gone: Callable[[], object]) -> None:
        self._stream, self._on_gone = stream, on_gone
        self._gone = False

    def write(self, data: bytes) -> None:
        """Write a message at once; see pygls.io_.Writer."""
        if self._gone:
            return
        try:
            self._stream.write(data)
            self._stream.flush()
        except ConnectionError:
            self._gone = True
            # What is left in the stream is flushed when it is closed.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
            self._on_gone()

    def close(self) -> None:
        """See pygls.io_.Writer."""
        self._stream.close()


def take_stdio() -> tuple[BinaryIO, BinaryIO]:
    """Standard input and output for the protocol alone: whatever else prints, C code included, goes to stderr."""
    sys.stdout.flush()
    stdin, stdout = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return stdin, stdout
