"""Fill-in-the-middle as hosted by Mistral, DeepSeek and Inception: `prompt` and `suffix`, each by its own route.

None of the three is ever asked unless somebody has named it in their own configuration.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from midspan.engine.api import RemoteError
from midspan.engine.remote.address import Kind, Remote
from midspan.engine.remote.ask import Ask, write
from midspan.engine.remote.client import Client
from midspan.engine.remote.completions import pieces
from midspan.engine.remote.health import Can
from midspan.engine.remote.streams import events
from midspan.engine.remote.writing import Written, known_marks

# The route of a gap, and that of the list of models, which costs nothing and shows whether the key is taken.
ROUTES: Mapping[Kind, tuple[str, str]] = {
    "mistral": ("/v1/fim/completions", "/v1/models"),
    "deepseek": ("/beta/completions", "/models"),
    "inception": ("/v1/fim/completions", "/v1/models"),
}


class Hosted:
    """One model of such a service."""

    marks = known_marks()

    def __init__(self, remote: Remote, client: Client) -> None:
        self._remote, self._client = remote, client
        self._fill, self._models = ROUTES[remote.kind]

    async def fill(self, ask: Ask, out: list[Written]) -> None:
        """Write one gap."""
        out.append(written := Written())
        asked: dict[str, Any] = {
            "model": self._remote.model,
            "prompt": ask.prefix,
            "suffix": ask.suffix,
            "max_tokens": ask.most_tokens,
            "temperature": 0.0,
            "stream": True,
            **({"stop": ["\n"]} if ask.one_line else {}),
        }
        async with self._client.lines(self._fill, asked) as lines:
            if await write(ask, pieces(events(lines, self._client), self._client), written):
                await self._client.rest(lines)

    async def can(self) -> Can:
        """What it can do. Raises RemoteError where the key is refused."""
        try:
            await self._client.get(self._models)
        except RemoteError as error:
            # One that has no such list answers nevertheless.
            if error.status not in (404, 405):
                raise
        return Can(model=self._remote.model, infill=True)
