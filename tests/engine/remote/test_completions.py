"""/v1/completions, by the contract of those who have it: each rule of what they refuse names its source."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from midspan.engine.api import Budget
from midspan.engine.remote import Remote, probe
from midspan.engine.remote.writing import PRIOR
from tests.engine.remote.holes import ADD, ANSWER_S, connected, filled, refused, remote_at
from tests.engine.remote.http_server import Asked, HttpServer, Reply, event, json_reply

MODEL = "Qwen/Qwen2.5-Coder-1.5B"
DONE = b"data: [DONE]\n\n"


def choice(text: str, finish: str | None = None, *values: float, chat: bool = False) -> bytes:
    """One event, with its log-probabilities in either form."""
    logprobs: Any = {"tokens": [text], "token_logprobs": list(values)} if values else None
    if chat and values:
        logprobs = {"content": [{"token": text, "logprob": value} for value in values]}
    return event({"choices": [{"index": 0, "text": text, "logprobs": logprobs, "finish_reason": finish}]})


USAGE = event({"choices": [], "usage": {"completion_tokens": 3}})


class Contract:
    """Answers with `chunks` what such a server takes."""

    def __init__(self, *chunks: bytes, logprobs: bool = True) -> None:
        self.chunks, self.logprobs = chunks, logprobs

    def __call__(self, asked: Asked) -> Reply:
        if asked.path == "/v1/models":
            return json_reply({"object": "list", "data": [{"id": MODEL, "object": "model"}]})
        if asked.path != "/v1/completions":
            return json_reply({"detail": "Not Found"}, 404)
        problem = self.problem(asked.body)
        if problem is not None:
            return json_reply({"error": {"message": problem[1], "code": problem[0]}}, problem[0])
        return Reply(headers={"content-type": "text/event-stream"}, chunks=self.chunks)

    def problem(self, body: Mapping[str, Any]) -> tuple[int, str] | None:
        """Why a body is refused."""
        # vLLM 0.33 entrypoints/openai/serving: the model's name is compared with the served ones.
        if body["model"] != MODEL:
            return 404, f"The model `{body['model']}` does not exist."
        # vLLM 0.33 completion/serving.py: `suffix` but for a renderer that has it (vllm#9522, #44229).
        if "suffix" in body:
            return 400, "suffix is not currently supported"
        # OpenAI's API reference, and vLLM's VLLM_MAX_STOP_STRINGS.
        if len(body.get("stop", [])) > 4:
            return 400, "at most 4 stop strings"
        # vLLM's --max-logprobs is 20.
        if body.get("logprobs", 0) > 20:
            return 400, "Requested sample logprobs of more than 20"
        # mlx-lm and others without them.
        if "logprobs" in body and not self.logprobs:
            return 400, "logprobs are not supported by this server"
        return None


def at(url: str) -> Remote:
    return remote_at(url, "completions", MODEL)


@pytest.mark.parametrize("chat", [False, True])
def test_a_line_is_written_with_the_confidence_of_its_probabilities(chat: bool) -> None:
    chunks = (choice("a", None, -0.01, chat=chat), choice(" + b", None, -0.02, chat=chat), choice("", "stop"), DONE)
    with HttpServer(Contract(*chunks)) as server:
        fill = filled(at(server.url))
    assert (fill.text, fill.stopped) == ("a + b", "settled")
    assert fill.confidence == pytest.approx(PRIOR.share(-0.03, 2))


def test_it_is_asked_with_a_prompt_of_our_own() -> None:
    with HttpServer(Contract(choice("a", "stop"), DONE)) as server:
        filled(at(server.url))
        [asked] = server.asked
    assert asked.body == {
        "model": MODEL,
        "prompt": "<|fim_prefix|>def add(a, b):\n<|fim_suffix|>\n\n\nprint(add(1, 2))\n<|fim_middle|>    return ",
        "max_tokens": 48,
        "temperature": 0.0,
        "stop": ["\n", "<|endoftext|>", "<|fim_pad|>", "<|repo_name|>"],
        "stream": True,
        "logprobs": 1,
    }


def test_a_server_without_probabilities_is_asked_for_them_once() -> None:
    with HttpServer(Contract(choice("a + b", "stop"), USAGE, DONE, logprobs=False)) as server:
        with connected(at(server.url)) as engine:
            fills = [engine.fill(ADD, Budget()).result(ANSWER_S) for _ in range(2)]
        assert ["logprobs" in asked.body for asked in server.asked] == [True, False, False]
    # Shown, as nobody can say how sure it is.
    assert [(fill.text, fill.confidence) for fill in fills] == [("a + b", 0.5)] * 2


def test_a_line_is_cut_where_it_ends_though_the_server_knows_no_stop() -> None:
    with HttpServer(lambda _: Reply(chunks=[choice("a + b\nprint")], hangs=True)) as server:
        assert filled(at(server.url)).text == "a + b"
        assert server.gone.wait(ANSWER_S)


def test_a_line_of_too_many_tokens_ends_here_though_the_server_goes_on() -> None:
    with HttpServer(lambda _: Reply(chunks=[choice("a ")] * 100, hangs=True)) as server:
        fill = filled(at(server.url))
        assert (fill.steps, fill.stopped) == (48, "empty")
        assert server.gone.wait(ANSWER_S)


@pytest.mark.parametrize("chunks", [(choice("a"),), (choice("a"), DONE), ()])
def test_an_answer_that_breaks_off_is_an_error(chunks: tuple[bytes, ...]) -> None:
    with HttpServer(Contract(*chunks)) as server:
        assert "broke off" in str(refused(at(server.url)))


def test_a_model_that_it_has_not_is_told_with_those_that_it_has() -> None:
    with HttpServer(Contract()) as server:
        other = remote_at(server.url, "completions", "qwen2.5-coder:7b")
        error, health = refused(other), probe(other)
    assert error.status == 404
    assert "does not exist" in str(error)
    assert health.state == "refused"
    assert f"name one that it has: {MODEL}" in health.problem


def test_a_probe_says_what_it_can() -> None:
    with HttpServer(Contract()) as server:
        health = probe(at(server.url))
    assert (health.state, health.model, health.infill, health.pins) == ("ready", MODEL, True, False)


def test_a_model_whose_name_does_not_tell_is_refused_before_anything_is_sent() -> None:
    with HttpServer(Contract()) as server:
        other = remote_at(server.url, "completions", "some-7b")
        error, health = refused(other), probe(other)
        assert server.asked == []
    assert "the name some-7b does not tell how it is asked for a gap; give template: " in str(error)
    assert health.problem == str(error)
