"""vLLM serving DiffusionGemma: canvases with the text behind the gap pinned, by `vllm_xargs` of /v1/completions.

The layout is `clamped` (prompts/chat.py): the prompt ends where the gap begins, the canvas holds a gap of one of some
lengths and what follows it. Each length is a request of its own; all are asked at once, and the surest answer is the
best. What a diffusion model of vLLM refuses (a seed, a temperature other than 1, a schema) is not sent.
"""

from __future__ import annotations

import asyncio
import random
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from midspan.engine.api import RemoteError
from midspan.engine.prompts.shelf import Shelf
from midspan.engine.remote.address import Remote
from midspan.engine.remote.ask import Ask
from midspan.engine.remote.chat_text import TURNS, clamped
from midspan.engine.remote.client import Client
from midspan.engine.remote.completions import served
from midspan.engine.remote.health import Can
from midspan.engine.remote.reply import found_in, items_of, log_probability, text_of
from midspan.engine.remote.streams import events
from midspan.engine.remote.writing import Written, known_marks

# Gap lengths in tokens, as many as the recipe's --max-num-seqs, and how much of what follows is pinned behind each.
LINE_SLOTS, LINES_SLOTS = (3, 6, 12, 24), (12, 32, 64, 128)
TAIL_TOKENS = 24
# Of text that is made into these tokens.
TAIL_CHARS = 8 * TAIL_TOKENS
STEPS = 16
MOST_KEPT = 8
# Letters of many scripts stand last in a vocabulary: no id that noise is drawn from may lie beyond it.
SCRIPTS = "aZ09 éßжΩאعहกあ漢字한글ⵣꙮ𝔄🙂"


@dataclass(frozen=True, slots=True)
class _Tail:
    """What follows a gap: its text, and its tokens."""

    text: str
    ids: tuple[int, ...]


class CanvasServer:
    """One DiffusionGemma behind a vLLM that pins."""

    marks = known_marks() | frozenset(TURNS)

    def __init__(self, remote: Remote, client: Client) -> None:
        self._remote, self._client, self._shelf = remote, client, Shelf()
        self._tails = OrderedDict[str, _Tail]()
        self._most_id = -1

    async def fill(self, ask: Ask, out: list[Written]) -> None:
        """Denoise a canvas for each gap length. Raises RemoteError where none is answered."""
        prompt, heal, behind = clamped(ask, self._shelf.arranged(ask.context))
        tail, _ = await asyncio.gather(self._tail(behind), self._read_vocabulary())
        lengths = LINE_SLOTS if ask.one_line else LINES_SLOTS
        asked = [self._asked(ask, prompt, length, tail) for length in lengths]
        tries = (self._denoise(ask, body, tail, heal, out) for body in asked)
        found = await asyncio.gather(*tries, return_exceptions=True)
        problems = [one for one in found if one is not None]
        # A server whose canvas is narrower refuses the longest.
        refused = [one for one in problems if isinstance(one, RemoteError)]
        if len(problems) == len(lengths) or len(refused) < len(problems):
            raise next((one for one in problems if not isinstance(one, RemoteError)), problems[0])

    def _asked(self, ask: Ask, prompt: str, length: int, tail: _Tail) -> dict[str, Any]:
        """The body of one canvas."""
        width, rng = length + len(tail.ids), random.Random(f"{ask.budget.seed} {length}")
        noise = [rng.randint(0, self._most_id) for _ in range(length)]
        steps = STEPS if ask.budget.steps is None else min(ask.budget.steps, STEPS)
        return {
            "model": self._remote.model,
            "prompt": prompt,
            # The prompt says itself where it begins.
            "add_special_tokens": False,
            "max_tokens": width,
            "temperature": 1.0,
            "logprobs": 1,
            "return_token_ids": True,
            # What a gap does not need it leaves to marks, at which it is cut.
            "skip_special_tokens": False,
            # Text comes no sooner, but a connection that closes is noticed.
            "stream": True,
            "vllm_xargs": {
                "diffusion_canvas_length": width,
                "diffusion_seed_canvas": [*noise, *tail.ids],
                "diffusion_pinned": list(range(length, width)),
                "diffusion_max_steps": steps,
                "diffusion_read_only": 1,
            },
        }

    async def _denoise(self, ask: Ask, body: dict[str, Any], tail: _Tail, heal: str, out: list[Written]) -> None:
        """One canvas; it counts where it begins with what it must, and the tail came back. Raises RemoteError."""
        text, ids, values, finish = "", list[Any](), list[float | None](), ""
        async with self._client.lines("/v1/completions", body) as lines:
            async for event in events(lines, self._client):
                choice = found_in(event, "choices", 0)
                text += text_of(choice, "text")
                ids += items_of(choice, "token_ids")
                values += [log_probability(one) for one in items_of(choice, "logprobs", "token_logprobs")]
                finish = finish or text_of(choice, "finish_reason")
            await self._client.rest(lines)
        if not finish:
            raise self._client.error("broke off its answer; see its log")
        length = body["max_tokens"] - len(tail.ids)
        if not text.endswith(tail.text) or (ids and tuple(ids[length:]) != tail.ids) or not text.startswith(heal):
            return
        known = [value for value in values[:length] if value is not None]
        gap = text[len(heal) : len(text) - len(tail.text)]
        written = Written(pieces=[gap], values=known, ended=True, steps=body["vllm_xargs"]["diffusion_max_steps"])
        out.append(written)
        ask.show(written)

    async def _tail(self, behind: str) -> _Tail:
        """What follows the gap in tokens; usually the same from key to key. Raises RemoteError."""
        near = behind[:TAIL_CHARS]
        if near not in self._tails:
            ids = (await self._ids(near))[:TAIL_TOKENS]
            shown = await self._client.post("/detokenize", {"model": self._remote.model, "tokens": ids})
            self._tails[near] = _Tail(text_of(shown, "prompt"), tuple(ids))
            if len(self._tails) > MOST_KEPT:
                self._tails.popitem(last=False)
        return self._tails[near]

    async def _read_vocabulary(self) -> None:
        """Find the greatest id that noise may have, once."""
        if self._most_id < 0:
            self._most_id = max(await self._ids(SCRIPTS))

    async def _ids(self, text: str) -> list[int]:
        """A text's tokens. Raises RemoteError."""
        asked = {"model": self._remote.model, "prompt": text, "add_special_tokens": False}
        found = items_of(await self._client.post("/tokenize", asked), "tokens")
        if not found or not all(isinstance(one, int) and 0 <= one < 1 << 20 for one in found):
            raise self._client.error("answers /tokenize with something that is no tokens; check its kind")
        return found

    async def can(self) -> Can:
        """What it can do. Raises RemoteError where it pins nothing, or serves another model."""
        await served(self._remote, self._client)
        # No canvas has no width: a server that knows the key refuses it, and has nothing to compute.
        nothing = {"prompt": "a", "max_tokens": 1, "vllm_xargs": {"diffusion_canvas_length": 0}}
        try:
            await self._client.post("/v1/completions", {"model": self._remote.model, **nothing})
        except RemoteError as error:
            if error.status != 400:
                raise
            return Can(model=self._remote.model, infill=True, pins=True, logprobs=True)
        raise self._client.error("it pins nothing; take vLLM 0.33 or newer, or kind chat-diffusion", status=400)
