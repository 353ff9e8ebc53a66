"""Ollama by its contract: docs/api.md and server/routes.go of ollama/ollama@fb307609."""

from __future__ import annotations

import json
from typing import Any

import pytest

from midspan.engine.api import Budget
from midspan.engine.remote import Remote, probe
from midspan.engine.remote.writing import PRIOR
from tests.engine.remote.holes import ADD, ANSWER_S, connected, filled, refused, remote_at
from tests.engine.remote.http_server import Asked, HttpServer, Reply, json_reply

MODEL = "qwen2.5-coder:1.5b"


def line(text: str, *values: float, **more: Any) -> bytes:
    """One line of an answer."""
    logprobs = [{"token": text, "logprob": value, "bytes": []} for value in values]
    return json.dumps({"model": MODEL, "response": text, "done": False, "logprobs": logprobs, **more}).encode() + b"\n"


END = line("", done=True, done_reason="stop", prompt_eval_duration=7_500_000, eval_duration=2_500_000)


class Contract:
    """Answers with `chunks` what an Ollama takes; its model can do what `capabilities` say."""

    def __init__(self, *chunks: bytes, capabilities: tuple[str, ...] = ("completion", "insert")) -> None:
        self.chunks, self.capabilities = chunks, capabilities

    def __call__(self, asked: Asked) -> Reply:
        # routes.go: a model that is not there is 404, by every route.
        if asked.body["model"] != MODEL:
            return json_reply({"error": f"model '{asked.body['model']}' not found"}, 404)
        if asked.path == "/api/show":
            return json_reply({"capabilities": list(self.capabilities), "template": "", "modelfile": ""})
        # routes.go, GenerateHandler: a suffix needs the capability; raw goes with neither it nor a template.
        if asked.body.get("suffix") and "insert" not in self.capabilities:
            return json_reply({"error": f"library/{MODEL} does not support insert"}, 400)
        if asked.body.get("raw") and (asked.body.get("suffix") or asked.body.get("template")):
            return json_reply({"error": "raw mode does not support template, system, or context"}, 400)
        return Reply(headers={"content-type": "application/x-ndjson"}, chunks=self.chunks)


def at(url: str, model: str = MODEL) -> Remote:
    return remote_at(url, "ollama", model)


def test_a_model_that_inserts_is_given_both_sides() -> None:
    with HttpServer(Contract(line("a", -0.01), line(" + b", -0.02), END)) as server:
        fill = filled(at(server.url))
        show, asked = server.asked
    assert (fill.text, fill.stopped) == ("a + b", "settled")
    assert fill.confidence == pytest.approx(PRIOR.share(-0.03, 2))
    assert (fill.latency.encode, fill.latency.denoise) == (7.5, 2.5)
    assert (show.path, asked.path) == ("/api/show", "/api/generate")
    assert asked.body == {
        "model": MODEL,
        "prompt": ADD.prefix,
        "suffix": ADD.suffix,
        "stream": True,
        "logprobs": True,
        "options": {"temperature": 0.0, "num_predict": 48, "stop": ["\n"]},
    }


def test_one_that_does_not_is_given_a_raw_prompt_of_our_own() -> None:
    with HttpServer(Contract(line("a + b"), END, capabilities=("completion",))) as server:
        with connected(at(server.url)) as engine:
            fills = [engine.fill(ADD, Budget()).result(ANSWER_S).text for _ in range(2)]
        # What the model can is asked once.
        assert [asked.path for asked in server.asked] == ["/api/show", "/api/generate", "/api/generate"]
        body = server.asked[-1].body
    assert fills == ["a + b"] * 2
    assert body["raw"] is True
    assert "suffix" not in body
    assert body["prompt"].startswith("<|fim_prefix|>def add(a, b):\n<|fim_suffix|>")
    assert body["options"]["stop"][0] == "\n"


def test_a_template_that_is_named_is_taken_though_the_model_inserts() -> None:
    with HttpServer(Contract(line("a"), END)) as server:
        filled(Remote(name="there", kind="ollama", address=server.url, model=MODEL, template="starcoder2"))
        assert server.asked[-1].body["prompt"].startswith("<fim_prefix>")


def test_one_that_neither_inserts_nor_tells_its_marks_is_refused_with_the_fix() -> None:
    def answer(asked: Asked) -> Reply:
        return json_reply({"capabilities": ["completion"]})

    with HttpServer(answer) as server:
        error, health = refused(at(server.url, "mistral:7b")), probe(at(server.url, "mistral:7b"))
    assert "give template: " in str(error)
    assert (health.state, health.problem) == ("refused", str(error))


def test_a_model_that_is_not_there_is_told() -> None:
    with HttpServer(Contract()) as server:
        error = refused(at(server.url, "qwen3-coder:30b"))
    assert error.status == 404
    assert "says \"model 'qwen3-coder:30b' not found\"" in str(error)


@pytest.mark.parametrize("chunks", [(line("a"),), (line("a"), b'{"error": "an unexpected error"}\n'), (b"{\n",)])
def test_an_answer_that_breaks_off_is_an_error(chunks: tuple[bytes, ...]) -> None:
    with HttpServer(Contract(*chunks)) as server:
        assert "see its log" in str(refused(at(server.url))) or "no JSON" in str(refused(at(server.url)))


def test_a_line_that_the_limit_cut_is_none() -> None:
    with HttpServer(Contract(line("a + "), line("", done=True, done_reason="length"))) as server:
        assert filled(at(server.url)).stopped == "empty"


def test_a_probe_says_what_it_can() -> None:
    with HttpServer(Contract()) as server:
        health = probe(at(server.url))
    assert (health.state, health.model, health.infill, health.logprobs) == ("ready", MODEL, True, True)
