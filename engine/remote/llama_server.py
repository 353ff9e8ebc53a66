"""llama.cpp's llama-server, by its own POST /infill: it lays out the prompt and knows the model's marks itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from midspan.engine.api import RemoteError
from midspan.engine.prompts.shelf import Shelf
from midspan.engine.prompts.surroundings import ELSEWHERE
from midspan.engine.remote.address import Remote
from midspan.engine.remote.ask import Ask, write
from midspan.engine.remote.client import Client
from midspan.engine.remote.health import Can
from midspan.engine.remote.reply import found_in, items_of, log_probability, number_of, text_of
from midspan.engine.remote.streams import events
from midspan.engine.remote.writing import Piece, Written, known_marks

MOST_PREDICT_MS = 10_000


class LlamaServer:
    """One llama-server."""

    marks = known_marks()

    def __init__(self, remote: Remote, client: Client) -> None:
        self._model = {"model": remote.model} if remote.model else {}
        self._client, self._shelf = client, Shelf()

    async def fill(self, ask: Ask, out: list[Written]) -> None:
        """Write one gap."""
        written = Written()
        out.append(written)
        async with self._client.lines("/infill", self._asked(ask)) as lines:
            if await write(ask, self._pieces(events(lines, self._client), written), written):
                await self._client.rest(lines)

    def _asked(self, ask: Ask) -> dict[str, Any]:
        """The body of a request."""
        left = ask.left_s
        return {
            **self._model,
            "input_extra": [{"filename": ELSEWHERE, "text": one} for one in self._shelf.arranged(ask.context)],
            "input_prefix": ask.above,
            "prompt": ask.line,
            "input_suffix": ask.suffix,
            "n_predict": ask.most_tokens,
            # The likeliest text, each token with its probability.
            "temperature": 0.0,
            "top_k": 1,
            "n_probs": 1,
            "cache_prompt": True,
            "stream": True,
            "stop": ["\n"] if ask.one_line else [],
            # Should it not notice that nobody waits any more.
            "t_max_predict_ms": MOST_PREDICT_MS if left is None else max(1, int(1000 * left)),
        }

    async def _pieces(self, found: AsyncIterator[Any], written: Written) -> AsyncIterator[Piece]:
        """The pieces of a gap. Raises RemoteError where the stream breaks off."""
        async for event in found:
            values = [log_probability(one, "logprob") for one in items_of(event, "completion_probabilities")]
            last = found_in(event, "stop") is True
            if last:
                written.prompt_ms = number_of(event, "timings", "prompt_ms") or 0.0
                written.written_ms = number_of(event, "timings", "predicted_ms") or 0.0
            known = tuple(value for value in values if value is not None)
            yield Piece(text_of(event, "content"), known, last, last and text_of(event, "stop_type") in ("eos", "word"))
            if last:
                return
        raise self._client.error("broke off its answer; see its log")

    async def can(self) -> Can:
        """What it can do. Raises RemoteError while it loads."""
        listed = await self._client.get("/v1/models")
        # It looks at the model's tokens before it looks at what is asked, so that nothing is computed.
        try:
            await self._client.post("/infill", self._model)
        except RemoteError as error:
            if error.status not in (400, 501):
                raise
            infill = error.status == 400
        else:
            infill = True
        name = text_of(listed, "data", 0, "id").replace("\\", "/").rpartition("/")[2]
        return Can(model=name, infill=infill, logprobs=True, structured=True)
