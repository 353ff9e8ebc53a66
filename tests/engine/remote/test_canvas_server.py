"""DiffusionGemma behind vLLM: canvases with pins, seeds and a tail that comes back, denoised by a network of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from midspan.engine.api import Budget, Frame
from midspan.engine.remote import Remote, probe
from midspan.engine.remote.canvas_server import LINE_SLOTS, TAIL_TOKENS, CanvasServer
from midspan.engine.remote.writing import PRIOR, clean, finished
from tests.engine.remote.holes import ANSWER_S, BODY, connected, filled, hole_of, refused, remote_at
from tests.engine.remote.http_server import Asked, HttpServer, Reply
from tests.engine.remote.vllm import MODEL, REFUSED, STRUCTURED, Vllm

LONG = hole_of("def add(a, b):\n    return(‸\n\n\nprint(add(1, 2))\nprint(add(3, 4))\nprint(add(5, 6))\n")


def at(url: str, model: str = MODEL) -> Remote:
    return remote_at(url, "vllm-diffusion", model)


def bodies(server: HttpServer) -> list[dict[str, Any]]:
    """What was asked of /v1/completions."""
    return [asked.body for asked in server.asked if asked.path == "/v1/completions"]


def test_the_surest_of_the_canvases_is_the_fill(tmp_path: Path) -> None:
    vllm, frames = Vllm(tmp_path), list[Frame]()
    with HttpServer(vllm) as server, connected(at(server.url)) as engine:
        fill = engine.fill(LONG, Budget(candidates=8), on_frame=frames.append).result(ANSWER_S)
        asked = bodies(server)
    assert sorted(body["max_tokens"] for body in asked) == [length + TAIL_TOKENS for length in LINE_SLOTS]
    expected = dict[str, float]()
    for ids, values in vllm.canvases:
        length = len(ids) - TAIL_TOKENS
        gap = vllm.tokenizer.decode(ids[:length], skip_special_tokens=False)
        text = finished(LONG, clean(LONG, gap, CanvasServer.marks))
        if text.strip():
            expected[text] = PRIOR.share(sum(values[:length]), length)
    assert expected
    assert {one.text: one.confidence for one in fill.candidates} == pytest.approx(expected)
    assert fill.text == max(expected, key=expected.__getitem__)
    assert len(frames) == len(LINE_SLOTS)


def test_what_follows_the_gap_is_pinned_and_comes_back(tmp_path: Path) -> None:
    vllm = Vllm(tmp_path)
    with HttpServer(vllm) as server:
        filled(at(server.url), hole_of("total = (‸\nprint(total)\n"))
        asked = bodies(server)
    tail = vllm.tokenizer.encode("\nprint(total)\n```<turn|>", add_special_tokens=False).ids[:TAIL_TOKENS]
    assert len(asked) == len(LINE_SLOTS)
    for body in asked:
        args = body["vllm_xargs"]
        width = args["diffusion_canvas_length"]
        assert args["diffusion_seed_canvas"][-len(tail) :] == tail
        assert args["diffusion_pinned"] == list(range(width - len(tail), width))
    assert all(ids[-len(tail) :] == tail for ids, _ in vllm.canvases)


def test_the_answer_begins_with_the_file_up_to_the_gap(tmp_path: Path) -> None:
    with HttpServer(Vllm(tmp_path)) as server:
        filled(at(server.url), hole_of("first = 1\n<turn|>total = ‸\nprint(total)\n"))
        prompt = bodies(server)[0]["prompt"]
    assert prompt == (
        "<bos><|turn>user\nThis is how a file in python ends:\n\n```python\n\nprint(total)\n\n```\n\n"
        "Write the whole file, up to this end and with it. Answer with one code block and nothing else.<turn|>\n"
        "<|turn>model\n<|channel>thought\n<channel|>```python\nfirst = 1\ntotal ="
    )


def test_a_blank_before_the_gap_is_left_to_the_canvas_which_must_begin_with_it(tmp_path: Path) -> None:
    hole = hole_of("total = ‸\nprint(total)\nprint(total)\nprint(total)\n")
    vllm = Vllm(tmp_path, begins="▁item")
    with HttpServer(vllm) as server:
        fill = filled(at(server.url), hole, Budget(candidates=8))
    assert len(fill.candidates) == len(LINE_SLOTS)
    assert all(one.text.startswith("item") for one in fill.candidates)
    with HttpServer(Vllm(tmp_path, begins="re")) as server:
        assert filled(at(server.url), hole).stopped == "empty"


def test_nothing_is_sent_that_a_diffusion_model_refuses(tmp_path: Path) -> None:
    with HttpServer(Vllm(tmp_path)) as server:
        filled(at(server.url), budget=Budget(steps=3))
        for body in bodies(server):
            assert not {*REFUSED, *STRUCTURED, "suffix", "stop", "n"} & set(body)
            assert body["temperature"] == 1.0
            assert body["vllm_xargs"]["diffusion_max_steps"] == 3
            assert body["vllm_xargs"]["diffusion_read_only"] == 1
            # The prompt has its first token, and marks that a gap leaves over are seen.
            assert (body["add_special_tokens"], body["skip_special_tokens"]) == (False, False)


def test_the_budgets_seed_is_the_noise_and_nothing_else(tmp_path: Path) -> None:
    def seeds(number: int) -> list[list[int]]:
        with HttpServer(Vllm(tmp_path)) as server:
            filled(at(server.url), LONG, Budget(seed=number))
            asked = sorted(bodies(server), key=lambda body: int(body["max_tokens"]))
        return [body["vllm_xargs"]["diffusion_seed_canvas"] for body in asked]

    first, again, other = seeds(1), seeds(1), seeds(2)
    assert first == again
    for one, two in zip(first, other, strict=True):
        assert one[:-TAIL_TOKENS] != two[:-TAIL_TOKENS]
        assert one[-TAIL_TOKENS:] == two[-TAIL_TOKENS:]


def test_a_pin_that_did_not_hold_is_no_fill(tmp_path: Path) -> None:
    with HttpServer(Vllm(tmp_path, slips=True)) as server:
        fill = filled(at(server.url))
    assert (fill.text, fill.stopped) == ("", "empty")


def test_tokens_of_what_follows_are_asked_for_once(tmp_path: Path) -> None:
    with HttpServer(Vllm(tmp_path)) as server, connected(at(server.url)) as engine:
        for typed in ("", "a", "a + "):
            hole = hole_of(f"def add(a, b):\n    return {typed}‸\n\n\nprint(add(1, 2))\n")
            engine.fill(hole, Budget()).result(ANSWER_S)
        paths = [asked.path for asked in server.asked]
    assert (paths.count("/tokenize"), paths.count("/detokenize")) == (2, 1)


def test_a_narrower_server_refuses_the_longest_and_the_others_count(tmp_path: Path) -> None:
    vllm = Vllm(tmp_path)
    with HttpServer(vllm) as server:
        fill = filled(at(server.url), BODY)
        assert len(bodies(server)) == 4
    assert len(vllm.canvases) == 2
    assert fill.stopped in ("settled", "empty")


def test_a_server_that_refuses_all_is_an_error(tmp_path: Path) -> None:
    vllm = Vllm(tmp_path)

    def answer(asked: Asked) -> Reply:
        return vllm(asked) if asked.path != "/v1/completions" else vllm(Asked(**{**vars(asked), "body": other}))

    other = {"model": MODEL, "prompt": "a", "temperature": 0.7}
    with HttpServer(answer) as server:
        error = refused(at(server.url))
    assert error.status == 400
    assert "temperature must be 1.0" in str(error)


def test_a_probe_finds_pins_and_has_nothing_computed(tmp_path: Path) -> None:
    vllm = Vllm(tmp_path)
    with HttpServer(vllm) as server:
        health = probe(at(server.url))
    assert (health.state, health.model, health.pins, health.logprobs) == ("ready", MODEL, True, True)
    assert not health.structured
    assert vllm.canvases == []


def test_a_server_without_pins_is_told_with_the_fix(tmp_path: Path) -> None:
    with HttpServer(Vllm(tmp_path, pins=False)) as server:
        health = probe(at(server.url))
    assert health.state == "refused"
    assert "take vLLM 0.33 or newer, or kind chat-diffusion" in health.problem


def test_a_server_that_fails_is_no_server_that_pins(tmp_path: Path) -> None:
    vllm = Vllm(tmp_path)

    def answer(asked: Asked) -> Reply:
        return Reply(status=500) if asked.path == "/v1/completions" else vllm(asked)

    with HttpServer(answer) as server:
        health = probe(at(server.url))
    assert (health.state, health.pins) == ("refused", False)


def test_another_model_is_told(tmp_path: Path) -> None:
    with HttpServer(Vllm(tmp_path)) as server:
        assert refused(at(server.url, "google/gemma-4")).status == 404
        assert f"name one that it has: {MODEL}" in probe(at(server.url, "google/gemma-4")).problem
