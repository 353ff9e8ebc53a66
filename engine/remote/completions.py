"""OpenAI's POST /v1/completions with a prompt of our own, as vLLM, SGLang, LM Studio, mlx-lm and llama-server have it.

Its `suffix` is not used: vLLM refuses it for nearly every model, SGLang without a flag, and the others have none.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from midspan.engine.api import RemoteError
from midspan.engine.prompts.shelf import Shelf
from midspan.engine.remote.address import Remote
from midspan.engine.remote.ask import Ask, write
from midspan.engine.remote.client import Client
from midspan.engine.remote.fim_text import fim_text
from midspan.engine.remote.health import Can
from midspan.engine.remote.reply import found_in, items_of, log_probability, text_of
from midspan.engine.remote.streams import events
from midspan.engine.remote.writing import Piece, Written


class Completions:
    """One model behind such a route."""

    def __init__(self, remote: Remote, client: Client) -> None:
        """Raises ValueError where neither the model's name nor a template tells the marks."""
        self._remote, self._client, self._shelf = remote, client, Shelf()
        self._text = fim_text(remote.model, remote.template)
        self.marks = self._text.marks
        # What the server refuses is asked for once.
        self._logprobs = True

    async def fill(self, ask: Ask, out: list[Written]) -> None:
        """Write one gap."""
        try:
            await self._write(ask, out)
        except RemoteError as error:
            if not (self._logprobs and error.status in (400, 422) and "logprob" in str(error)):
                raise
            self._logprobs = False
            await self._write(ask, out)

    async def _write(self, ask: Ask, out: list[Written]) -> None:
        out[:] = [written := Written()]
        async with self._client.lines("/v1/completions", self._asked(ask)) as lines:
            if await write(ask, pieces(events(lines, self._client), self._client), written):
                await self._client.rest(lines)

    def _asked(self, ask: Ask) -> dict[str, Any]:
        """The body of a request."""
        return {
            "model": self._remote.model,
            "prompt": self._text.prompt(ask, self._shelf.arranged(ask.context)),
            "max_tokens": ask.most_tokens,
            "temperature": 0.0,
            "stop": self._text.stops(ask),
            "stream": True,
            **({"logprobs": 1} if self._logprobs else {}),
        }

    async def can(self) -> Can:
        """What it can do. Raises RemoteError where it serves other models."""
        await served(self._remote, self._client)
        return Can(model=self._remote.model, infill=True, logprobs=self._logprobs)


async def served(remote: Remote, client: Client) -> None:
    """Ask for the models that it has. Raises RemoteError where the named one is not among them."""
    listed = await client.get("/v1/models")
    names = [text_of(one, "id") for one in items_of(listed, "data")]
    if names and remote.model not in names:
        some = ", ".join(names[:5])
        raise client.error(f"it has no model {remote.model}; name one that it has: {some}", status=404)


async def pieces(found: AsyncIterator[Any], client: Client) -> AsyncIterator[Piece]:
    """The pieces of the first choice. Raises RemoteError where the stream breaks off."""
    async for event in found:
        choice = found_in(event, "choices", 0)
        if choice is None:
            # The numbers of tokens, which some send behind the text.
            continue
        finish = text_of(choice, "finish_reason")
        # OpenAI's legacy form, and that of its chats, which llama-server sends here too.
        values = [log_probability(one) for one in items_of(choice, "logprobs", "token_logprobs")]
        values += [log_probability(one, "logprob") for one in items_of(choice, "logprobs", "content")]
        known = tuple(value for value in values if value is not None)
        # Mistral answers in the form of a chat.
        text = text_of(choice, "text") or text_of(choice, "delta", "content")
        yield Piece(text, known, bool(finish), finish == "stop")
        if finish:
            return
    raise client.error("broke off its answer; see its log")
