"""Ollama's POST /api/generate: with a `suffix` where the model can insert, else raw with a prompt of our own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from midspan.engine.prompts.shelf import Shelf
from midspan.engine.remote.address import Remote
from midspan.engine.remote.ask import Ask, write
from midspan.engine.remote.client import Client
from midspan.engine.remote.fim_text import FimText, fim_text
from midspan.engine.remote.health import Can
from midspan.engine.remote.reply import found_in, items_of, log_probability, number_of, text_of
from midspan.engine.remote.streams import objects
from midspan.engine.remote.writing import Piece, Written, known_marks

NANOSECONDS = 1e6


class Ollama:
    """One model of an Ollama."""

    def __init__(self, remote: Remote, client: Client) -> None:
        self._remote, self._client, self._shelf = remote, client, Shelf()
        self._inserts: bool | None = None
        self._text: FimText | None = None
        try:
            self._text = fim_text(remote.model, remote.template)
        except ValueError as error:
            self._unknown = str(error)
        self.marks = known_marks() if self._text is None else self._text.marks

    async def fill(self, ask: Ask, out: list[Written]) -> None:
        """Write one gap; the first time, ask before whether the model can insert."""
        out.append(written := Written())
        asked = self._asked(ask, inserts=await self._can_insert())
        async with self._client.lines("/api/generate", asked) as lines:
            if await write(ask, self._pieces(objects(lines, self._client), written), written):
                await self._client.rest(lines)

    def _asked(self, ask: Ask, *, inserts: bool) -> dict[str, Any]:
        """The body of a request."""
        options: dict[str, Any] = {"temperature": 0.0, "num_predict": ask.most_tokens}
        asked = {"model": self._remote.model, "stream": True, "logprobs": True, "options": options}
        if inserts:
            options["stop"] = ["\n"] if ask.one_line else []
            return {**asked, "prompt": ask.prefix, "suffix": ask.suffix}
        assert self._text is not None
        options["stop"] = self._text.stops(ask)
        return {**asked, "raw": True, "prompt": self._text.prompt(ask, self._shelf.arranged(ask.context))}

    async def _can_insert(self) -> bool:
        """Whether the model has a place for a suffix. Raises RemoteError if not, and no template is known."""
        if self._inserts is None:
            shown = await self._client.post("/api/show", {"model": self._remote.model})
            # A template that is named is wanted.
            self._inserts = "insert" in items_of(shown, "capabilities") and not self._remote.template
        if not self._inserts and self._text is None:
            raise self._client.error(self._unknown)
        return self._inserts

    async def _pieces(self, found: AsyncIterator[Any], written: Written) -> AsyncIterator[Piece]:
        """The pieces of a gap. Raises RemoteError where the stream breaks off."""
        async for one in found:
            last = found_in(one, "done") is True
            if last:
                written.prompt_ms = (number_of(one, "prompt_eval_duration") or 0.0) / NANOSECONDS
                written.written_ms = (number_of(one, "eval_duration") or 0.0) / NANOSECONDS
            values = [log_probability(token, "logprob") for token in items_of(one, "logprobs")]
            known = tuple(value for value in values if value is not None)
            yield Piece(text_of(one, "response"), known, last, last and text_of(one, "done_reason") == "stop")
            if last:
                return
        raise self._client.error("broke off its answer; see its log")

    async def can(self) -> Can:
        """What it can do. Raises RemoteError where it has no such model, or none can say how it is asked."""
        await self._can_insert()
        return Can(model=self._remote.model, infill=True, logprobs=True, structured=True)
