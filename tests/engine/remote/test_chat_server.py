"""DiffusionGemma behind servers that pin nothing, by their contract: SGLang 0.5.23's, the strictest of them."""

from __future__ import annotations

import pytest

from midspan.engine.api import Budget, Hole
from midspan.engine.remote import Remote, probe
from tests.engine.remote.holes import ADD, ANSWER_S, connected, filled, hole_of, refused, remote_at
from tests.engine.remote.http_server import Asked, HttpServer, Reply, event, json_reply

MODEL = "google/diffusiongemma-26B-A4B-it"
# SGLang, srt/managers/tokenizer_manager.py: refused for a diffusion model, each with its own line.
REFUSED = (
    *("frequency_penalty", "presence_penalty", "repetition_penalty", "min_new_tokens", "min_p", "sampling_seed"),
    *("seed", "logit_bias", "response_format", "regex", "ebnf", "logprobs", "top_logprobs"),
)


def chunk(text: str = "", finish: str | None = None) -> bytes:
    """One event of a chat's answer."""
    return event({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]})


class Contract:
    """Answers a chat that such a server takes with a text."""

    def __init__(self, answer: str, finish: str = "stop") -> None:
        self.chunks = [chunk(answer), chunk(finish=finish), b"data: [DONE]\n\n"]

    def __call__(self, asked: Asked) -> Reply:
        if asked.path == "/v1/models":
            return json_reply({"data": [{"id": MODEL}]})
        # mlx-vlm 0.7.10 has no other route for text.
        if asked.path != "/v1/chat/completions":
            return json_reply({"detail": "Not Found"}, 404)
        named = [key for key in REFUSED if key in asked.body]
        # vLLM 0.33 refuses any other temperature.
        if named or asked.body.get("temperature", 1.0) != 1.0:
            return json_reply({"error": {"message": f"{named} is not supported for diffusion"}}, 400)
        return Reply(chunks=self.chunks)


def at(url: str) -> Remote:
    return remote_at(url, "chat-diffusion", MODEL)


SPAN = hole_of("def main():\n    first()\n‸\n\nmain()\n", "span")


@pytest.mark.parametrize(
    ("hole", "answer", "text"),
    [
        (ADD, "```python\n    return a + b\n```", "a + b"),
        (ADD, "Here it is:\n```python\n    return a + b\n```", "a + b"),
        (ADD, "```\nreturn a + b\n```\nIt adds.", "a + b"),
        (ADD, "    return a + b", "a + b"),
        (ADD, "```python\ndef add(a, b):\n    return a + b\n```", "a + b"),
        (hole_of("print(add(‸))\n"), "```python\nprint(add(1, 2))\n```", "1, 2"),
        (hole_of("    ‸\n"), "```python\n    pass\n```", "pass"),
        (SPAN, "```python\n    second()\n    third()\n```", "    second()\n    third()"),
    ],
)
def test_an_answer_is_cut_to_the_gap(hole: Hole, answer: str, text: str) -> None:
    with HttpServer(Contract(answer)) as server:
        assert filled(at(server.url), hole).text == text


def test_the_question_shows_the_file_with_its_gap_marked() -> None:
    hole = hole_of("first = '<turn|>'\ntotal = ‸\nprint(total)\n")
    with HttpServer(Contract("```python\ntotal = first\n```")) as server:
        assert filled(at(server.url), hole).text == "first"
        body = server.asked[0].body
    assert body == {
        "model": MODEL,
        "messages": [
            {
                "role": "user",
                "content": "<gap> marks a gap in this file.\n\n"
                "```python\nfirst = ''\ntotal = <gap>\nprint(total)\n\n```\n\n"
                "Write the gap's line again, the gap filled. Answer with one code block and nothing else.",
            }
        ],
        "max_tokens": 256,
        "chat_template_kwargs": {"enable_thinking": False},
        "stream": True,
    }


def test_an_answer_that_is_not_whole_is_none() -> None:
    with HttpServer(Contract("```python\n    return a", "length")) as server:
        assert filled(at(server.url)).stopped == "empty"


def test_an_answer_that_breaks_off_is_an_error() -> None:
    with HttpServer(lambda _: Reply(chunks=[chunk("```python\n    return a")])) as server:
        assert "broke off" in str(refused(at(server.url)))


def test_nobody_knows_how_sure_it_is() -> None:
    with HttpServer(Contract("```\n    return a + b\n```")) as server, connected(at(server.url)) as engine:
        fill = engine.fill(ADD, Budget()).result(ANSWER_S)
        # It is shown: no server gives a probability here.
        assert fill.confidence == engine.about.show_threshold
        health = probe(at(server.url))
    assert (health.state, health.infill, health.pins, health.logprobs) == ("ready", True, False, False)
