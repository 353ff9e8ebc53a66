"""What the editor's other servers find wrong in open documents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from midspan.server.text.line_index import Range

MOST = 200  # kept of a document


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
