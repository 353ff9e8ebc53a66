"""DiffusionGemma behind a server that pins nothing (SGLang, mlx-vlm, NIM, an older vLLM): asked as a chat.

The layout is `prompted` (prompts/chat.py), but that nobody but the server can begin the answer. Neither a temperature,
a seed, a stop nor probabilities are asked for, which one or the other refuses for a diffusion model.
"""

from __future__ import annotations

from typing import Any

from midspan.engine.prompts.shelf import Shelf
from midspan.engine.remote.address import Remote
from midspan.engine.remote.ask import Ask
from midspan.engine.remote.chat_text import TURNS, answered, prompted
from midspan.engine.remote.client import Client
from midspan.engine.remote.completions import served
from midspan.engine.remote.health import Can
from midspan.engine.remote.reply import found_in, text_of
from midspan.engine.remote.streams import events
from midspan.engine.remote.writing import Written, finished, known_marks

# A canvas, which is written whole in any case.
CANVAS_TOKENS = 256


class ChatServer:
    """One such model."""

    marks = known_marks() | frozenset(TURNS)

    def __init__(self, remote: Remote, client: Client) -> None:
        self._remote, self._client, self._shelf = remote, client, Shelf()

    async def fill(self, ask: Ask, out: list[Written]) -> None:
        """Ask for the gap's lines; only a whole answer counts, as its code ends with a fence."""
        answer, finish, pieces = "", "", 0
        async with self._client.lines("/v1/chat/completions", self._asked(ask)) as lines:
            async for event in events(lines, self._client):
                answer += text_of(event, "choices", 0, "delta", "content")
                finish = finish or text_of(event, "choices", 0, "finish_reason")
                pieces += found_in(event, "choices", 0) is not None
            await self._client.rest(lines)
        if not finish:
            raise self._client.error("broke off its answer; see its log")
        if finish == "stop":
            text = finished(ask.hole, answered(ask, answer), same_line=True)
            out.append(Written(pieces=[text], ended=True, steps=pieces))
            ask.show(out[-1])

    def _asked(self, ask: Ask) -> dict[str, Any]:
        """The body of a request."""
        question = prompted(ask, self._shelf.arranged(ask.context))
        return {
            "model": self._remote.model,
            "messages": [{"role": "user", "content": question}],
            "max_tokens": CANVAS_TOKENS,
            # A thought would come before the code, and take longer than it.
            "chat_template_kwargs": {"enable_thinking": False},
            "stream": True,
        }

    async def can(self) -> Can:
        """What it can do. Raises RemoteError where it serves another model."""
        await served(self._remote, self._client)
        return Can(model=self._remote.model, infill=True)
