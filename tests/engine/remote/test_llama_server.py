"""llama-server by its contract: what it is asked, what it streams, and what it refuses.

Its rules stand in llama.cpp's tools/server/README.md, and were looked at with the server of build 11669.
"""

from __future__ import annotations

import re
import threading
from dataclasses import replace
from typing import Any

import pytest

from midspan.engine.api import Budget, Frame
from midspan.engine.remote import probe
from midspan.engine.remote.writing import PRIOR
from tests.engine.remote.holes import ADD, ANSWER_S, BODY, connected, filled, hole_of, refused, remote_at
from tests.engine.remote.http_server import Asked, HttpServer, Reply, event, json_reply

PING = b": ping\n\n"
NO_FIM = {"error": {"code": 501, "message": "Infill is not supported by this model: ", "type": "not_supported_error"}}
LOADING = {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}


def piece(text: str, *values: float) -> bytes:
    """A piece of an answer, as it is streamed."""
    known = [{"id": 1, "token": text, "bytes": [], "logprob": value, "top_logprobs": []} for value in values]
    return event({"index": 0, "content": text, "stop": False, "completion_probabilities": known})


def end(stop_type: str = "word") -> bytes:
    """The last piece."""
    timings = {"prompt_n": 9, "prompt_ms": 7.5, "predicted_ms": 2.5}
    return event({"index": 0, "content": "", "stop": True, "stop_type": stop_type, "timings": timings})


def streams(*chunks: bytes) -> HttpServer:
    """A server that answers with these chunks."""
    return HttpServer(lambda _: Reply(headers={"content-type": "text/event-stream"}, chunks=chunks))


def test_a_line_is_written_with_the_confidence_of_its_probabilities() -> None:
    frames = list[Frame]()
    written = streams(piece("a", -0.01), PING, piece(" + b", -0.01), piece("", -0.01), end())
    with written as server, connected(remote_at(server.url)) as engine:
        fill = engine.fill(ADD, Budget(), on_frame=frames.append).result(ANSWER_S)
    assert (fill.text, fill.stopped, fill.steps) == ("a + b", "settled", 4)
    assert fill.confidence == pytest.approx(PRIOR.share(-0.03, 3))
    assert (fill.latency.encode, fill.latency.denoise) == (7.5, 2.5)
    assert [frame.text for frame in frames] == ["a", "a + b", "a + b", "a + b"]
    assert [frame.settled for frame in frames] == [False, False, False, True]


def test_it_is_asked_for_one_line_of_what_stands_around_the_gap() -> None:
    hole = replace(ADD, context=("first = 1\n", "second = 2\n"))
    with streams(piece("a"), end()) as server:
        filled(remote_at(server.url), hole, Budget(deadline_s=9.0))
        asked = server.asked[0]
    assert (asked.method, asked.path) == ("POST", "/infill")
    body = dict(asked.body)
    assert 8000 < body.pop("t_max_predict_ms") <= 9000
    assert body == {
        "input_extra": [{"filename": "elsewhere", "text": text} for text in ("first = 1\n", "second = 2\n")],
        "input_prefix": "def add(a, b):\n",
        "prompt": "    return ",
        "input_suffix": "\n\n\nprint(add(1, 2))\n",
        "n_predict": 48,
        "temperature": 0.0,
        "top_k": 1,
        "n_probs": 1,
        "cache_prompt": True,
        "stream": True,
        "stop": ["\n"],
    }


def test_of_a_long_file_a_part_is_sent_that_typing_does_not_move() -> None:
    lines = "".join(f"line_{number} = {number}\n" for number in range(5000))
    with streams(piece("a"), end()) as server, connected(remote_at(server.url)) as engine:
        for typed in ("", "x", "x ="):
            engine.fill(hole_of(f"{lines}{typed}‸\n{lines}"), Budget()).result(ANSWER_S)
        bodies = [asked.body for asked in server.asked]
    assert [body["prompt"] for body in bodies] == ["", "x", "x ="]
    assert len({body["input_prefix"] for body in bodies}) == 1
    assert re.match(r"line_\d+ = ", bodies[0]["input_prefix"])
    assert lines.endswith(bodies[0]["input_prefix"])
    assert 4096 <= len(bodies[0]["input_prefix"]) < 4096 + 1024 + 20
    assert [len(body["input_suffix"]) for body in bodies] == [1280] * 3


def test_other_text_keeps_its_order_so_that_the_cache_holds() -> None:
    with streams(piece("a"), end()) as server, connected(remote_at(server.url)) as engine:
        for context in (("one", "two", "three"), ("three", "four", "one"), ("x" * 5000, "one", "five")):
            engine.fill(replace(ADD, context=context), Budget()).result(ANSWER_S)
        sent = [[one["text"] for one in asked.body["input_extra"]] for asked in server.asked]
    assert sent == [["one", "two", "three"], ["one", "three", "four"], ["one", "five"]]


def test_several_lines_have_no_stop_and_end_with_the_model() -> None:
    with streams(piece("    pass\n"), piece("    return"), end("eos")) as server:
        assert filled(remote_at(server.url), BODY).text == "    pass\n    return"
        assert server.asked[0].body["stop"] == []


def test_of_lines_that_were_not_ended_the_whole_ones_are_taken() -> None:
    with streams(piece("    pass\n"), piece("    ret"), end("limit")) as server:
        fill = filled(remote_at(server.url), BODY)
    assert (fill.text, fill.stopped) == ("    pass", "steps")


def test_a_line_that_was_not_ended_is_none() -> None:
    with streams(piece("a + b"), end("limit")) as server:
        assert filled(remote_at(server.url)).stopped == "empty"


@pytest.mark.parametrize("leak", ["<|endoftext|>", "<fim_middle>", "<｜fim▁end｜>", "\x00", "\ud800"])
def test_an_answer_is_cut_at_a_token_that_leaks(leak: str) -> None:
    with streams(piece("a + b" + leak + "def"), end("eos")) as server:
        assert filled(remote_at(server.url)).text == "a + b"


def test_a_token_that_the_file_itself_has_is_no_leak() -> None:
    hole = hole_of('MIDDLE = "<fim_middle>"\nMARKS = [‸\n')
    with streams(piece('"<fim_middle>"]'), end()) as server:
        assert filled(remote_at(server.url), hole).text == '"<fim_middle>"]'


def test_a_repeated_suffix_is_cut() -> None:
    hole = hole_of("print(add(‸first, second))\n")
    with streams(piece("one, first, second))"), end()) as server:
        assert filled(remote_at(server.url), hole).text == "one, "


def test_a_fill_that_cannot_be_sure_enough_is_given_up() -> None:
    reply = Reply(chunks=[piece("a", -9.0)], hangs=True)
    with HttpServer(lambda _: reply) as server:
        fill = filled(remote_at(server.url), budget=Budget(min_confidence=0.5))
        assert (fill.text, fill.stopped) == ("", "empty")
        assert server.gone.wait(ANSWER_S)


def test_a_whole_line_is_given_up_sooner_than_the_end_of_one() -> None:
    """After one token of probability 0.7: it would do for the end of a line."""
    line, budget = hole_of("def add(a, b):\n    ‸\n\nprint(add(1, 2))\n", "line"), Budget(min_confidence=0.5)
    with HttpServer(lambda _: Reply(chunks=[piece("a", -0.36)], hangs=True)) as server:
        assert filled(remote_at(server.url), line, budget).stopped == "empty"
    with streams(piece("a", -0.36), end()) as server:
        assert filled(remote_at(server.url), ADD, budget).text == "a"


def test_events_are_read_wherever_the_network_cuts_them() -> None:
    whole = b"".join([piece("é = 1", -0.1), PING, end()])
    with streams(*(whole[place : place + 1] for place in range(len(whole)))) as server:
        assert filled(remote_at(server.url)).text == "é = 1"


def test_stopping_closes_the_connection() -> None:
    with (
        HttpServer(lambda _: Reply(chunks=[piece("a")], hangs=True)) as server,
        connected(remote_at(server.url)) as engine,
    ):
        stop = threading.Event()
        future = engine.fill(ADD, Budget(), stop=stop)
        assert server.begun.wait(ANSWER_S)
        stop.set()
        assert future.result(ANSWER_S).stopped == "cancelled"
        assert server.gone.wait(1.0)


def test_a_fill_that_is_stopped_before_there_is_a_client_leaves_it_to_the_next() -> None:
    with streams(piece("a"), end()) as server, connected(remote_at(server.url)) as engine:
        stop = threading.Event()
        stop.set()
        assert engine.fill(ADD, Budget(), stop=stop).result(ANSWER_S).stopped == "cancelled"
        assert engine.fill(ADD, Budget()).result(ANSWER_S).text == "a"


def test_a_newer_request_replaces_an_older_one() -> None:
    replies = [Reply(hangs=True), Reply(chunks=[piece("b"), end()])]
    with HttpServer(lambda _: replies.pop(0)) as server, connected(remote_at(server.url)) as engine:
        older = engine.fill(ADD, Budget())
        assert server.begun.wait(ANSWER_S)
        assert engine.fill(ADD, Budget()).result(ANSWER_S).text == "b"
        assert older.result(ANSWER_S).stopped == "cancelled"


def test_the_deadline_bounds_the_whole_call_and_closes_the_connection() -> None:
    begun = Reply(chunks=[piece("    a()\n"), piece("    b")], hangs=True)
    with HttpServer(lambda _: begun) as server, connected(remote_at(server.url)) as engine:
        fill = engine.fill(BODY, Budget(deadline_s=1.0)).result(ANSWER_S)
        # What is whole by then counts.
        assert (fill.text, fill.stopped) == ("    a()", "deadline")
        assert fill.latency.total < 5000
        assert server.gone.wait(1.0)


def test_closing_ends_a_fill_as_cancelled() -> None:
    with HttpServer(lambda _: Reply(hangs=True)) as server:
        with connected(remote_at(server.url)) as engine:
            future = engine.fill(ADD, Budget())
            assert server.begun.wait(ANSWER_S)
        assert future.result(0).stopped == "cancelled"
        with pytest.raises(RuntimeError, match="closed"):
            engine.fill(ADD, Budget())


def test_a_model_without_marks_is_named_with_the_fix() -> None:
    with HttpServer(lambda _: json_reply(NO_FIM, 501)) as server:
        error = refused(remote_at(server.url))
        health = probe(remote_at(server.url))
    assert error.status == 501
    assert "serve one that has, such as Qwen2.5-Coder" in str(error)
    assert (health.state, health.infill) == ("refused", False)


def test_a_server_that_is_loading_is_waited_for() -> None:
    with HttpServer(lambda _: json_reply(LOADING, 503, retry_after="7")) as server:
        error, health = refused(remote_at(server.url)), probe(remote_at(server.url))
    assert (error.status, error.retry_after_s) == (503, 7.0)
    assert "wait" in str(error)
    assert health.state == "loading"
    assert "\n" not in health.problem


def test_an_answer_that_breaks_off_is_an_error() -> None:
    for reply in (Reply(chunks=[piece("a")], breaks=True), Reply(chunks=[piece("a")])):
        with HttpServer(lambda _, reply=reply: reply) as server:  # type: ignore[misc]
            assert "broke off" in str(refused(remote_at(server.url)))


def test_a_failure_in_the_middle_is_told_without_its_words() -> None:
    with streams(piece("a"), event({"error": {"code": 500, "message": "return a + b"}})) as server:
        error = refused(remote_at(server.url))
    assert error.status == 500
    assert "return" not in str(error)


def test_a_strength_is_refused() -> None:
    with streams() as server, connected(remote_at(server.url)) as engine:
        future = engine.fill(replace(ADD, draft="a", strength=0.5), Budget())
        assert isinstance(future.exception(ANSWER_S), ValueError)
        assert server.asked == []


def health_of(infill: int) -> Any:
    def answer(asked: Asked) -> Reply:
        if asked.method == "GET":
            return json_reply({"data": [{"id": "/models/coder-1.5b.gguf", "object": "model"}]})
        return json_reply(NO_FIM if infill == 501 else {"error": {"code": 400, "message": "no input_prefix"}}, infill)

    return answer


@pytest.mark.parametrize(("status", "can"), [(400, True), (501, False)])
def test_a_probe_asks_what_it_can_and_has_nothing_computed(status: int, can: bool) -> None:
    with HttpServer(health_of(status)) as server:
        health = probe(remote_at(server.url))
        assert [(asked.method, asked.path, asked.body) for asked in server.asked] == [
            ("GET", "/v1/models", None),
            ("POST", "/infill", {}),
        ]
    assert (health.state, health.model, health.infill) == ("ready", "coder-1.5b.gguf", can)
    assert health.logprobs
    assert health.structured
    assert health.latency_ms > 0
