"""Answers that come piece by piece: server-sent events, and a JSON object a line."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Protocol

from midspan.engine.api import RemoteError
from midspan.engine.remote.reply import found_in, number_of


class Parser(Protocol):
    """What makes JSON of texts, and errors of problems; see client.Client."""

    def parsed(self, body: bytes | str) -> Any:
        """A text of JSON. Raises RemoteError."""

    def error(self, problem: str, *, status: int = 0, retry_after_s: float | None = None) -> RemoteError:
        """An error that names the server."""


async def events(lines: AsyncIterator[str], parser: Parser) -> AsyncIterator[Any]:
    """The JSON of server-sent events, up to `[DONE]` or the end. Comments, by which it is kept open, are left out."""
    data = list[str]()
    async for line in lines:
        if line:
            field, _, value = line.partition(":")
            # llama-server once sent failures as a field of that name.
            if field in ("data", "error"):
                data.append(value.removeprefix(" "))
            continue
        text, data = "\n".join(data), []
        if text == "[DONE]":
            return
        if text:
            yield _checked(parser.parsed(text), parser)


async def objects(lines: AsyncIterator[str], parser: Parser) -> AsyncIterator[Any]:
    """The JSON of each line that is not blank."""
    async for line in lines:
        if line.strip():
            yield _checked(parser.parsed(line), parser)


def _checked(found: Any, parser: Parser) -> Any:
    """An event that tells no failure. Raises RemoteError."""
    if found_in(found, "error") is not None:
        # What it says of it may repeat what it was asked.
        status = int(number_of(found, "error", "code") or 0)
        raise parser.error("gave up in the middle; see its log", status=status if status in range(400, 600) else 0)
    return found
