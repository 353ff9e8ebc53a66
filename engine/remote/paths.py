"""Which path a kind of server is asked by."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Protocol

from midspan.engine.remote.address import Kind, Remote
from midspan.engine.remote.ask import Ask
from midspan.engine.remote.canvas_server import CanvasServer
from midspan.engine.remote.chat_server import ChatServer
from midspan.engine.remote.client import Client
from midspan.engine.remote.completions import Completions
from midspan.engine.remote.health import Can
from midspan.engine.remote.hosted import Hosted
from midspan.engine.remote.llama_server import LlamaServer
from midspan.engine.remote.ollama import Ollama
from midspan.engine.remote.writing import Written


class Path(Protocol):
    """How a kind of server is asked; on the thread of its client."""

    @property
    def marks(self) -> Collection[str]:
        """The tokens at which an answer is cut, should they leak into it."""

    async def fill(self, ask: Ask, out: list[Written]) -> None:
        """Write a gap once or more; what is in `out` when a deadline cuts it short counts. Raises RemoteError."""

    async def can(self) -> Can:
        """What the server can do. Raises RemoteError, with status 503 while it loads."""


PATHS: Mapping[Kind, Callable[[Remote, Client], Path]] = {
    "llama-server": LlamaServer,
    "completions": Completions,
    "ollama": Ollama,
    "vllm-diffusion": CanvasServer,
    "chat-diffusion": ChatServer,
    "mistral": Hosted,
    "deepseek": Hosted,
    "inception": Hosted,
}


def path_of(remote: Remote, client: Client) -> Path:
    """The path of a server. Raises RemoteError where what is known of it does not suffice."""
    try:
        return PATHS[remote.kind](remote, client)
    except ValueError as error:
        raise client.error(str(error)) from None
