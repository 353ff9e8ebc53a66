"""Holes as pictures, and engines that end with their test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from midspan.engine.api import Budget, Engine, Fill, GapKind, Hole, RemoteError
from midspan.engine.remote import Kind, Remote, connect

ANSWER_S = 20.0


def hole_of(picture: str, kind: GapKind = "rest_of_line") -> Hole:
    """The hole at the cursor, `‸`."""
    prefix, suffix = picture.split("‸")
    return Hole(prefix=prefix, suffix=suffix, kind=kind)


ADD = hole_of("def add(a, b):\n    return ‸\n\n\nprint(add(1, 2))\n")
BODY = hole_of("def main():\n‸\n\nmain()\n", "span")


@contextmanager
def connected(remote: Remote) -> Iterator[Engine]:
    """An engine, closed at the end."""
    engine = connect(remote)
    try:
        yield engine
    finally:
        engine.close()


def filled(remote: Remote, hole: Hole = ADD, budget: Budget | None = None) -> Fill:
    """The fill of a hole by an engine of its own."""
    with connected(remote) as engine:
        return engine.fill(hole, budget or Budget()).result(ANSWER_S)


def refused(remote: Remote, hole: Hole = ADD) -> RemoteError:
    """The error that a fill fails with."""
    with connected(remote) as engine:
        error = engine.fill(hole, Budget()).exception(ANSWER_S)
    assert isinstance(error, RemoteError)
    assert "\n" not in str(error)
    return error


def remote_at(url: str, kind: Kind = "llama-server", model: str = "", key_variable: str = "") -> Remote:
    """A server at this address."""
    return Remote(name="there", kind=kind, address=url, model=model, key_variable=key_variable)
