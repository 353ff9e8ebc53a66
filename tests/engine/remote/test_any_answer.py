"""Whatever a server sends, a fill ends as a Fill or as a RemoteError of one line; and no kind lets its key out."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from midspan.engine.api import Budget, Engine, Fill, RemoteError
from midspan.engine.remote import Kind, Remote, probe
from tests.engine.remote.holes import ADD, ANSWER_S, BODY, connected, refused
from tests.engine.remote.http_server import Asked, HttpServer, Reply, json_reply

KINDS: tuple[Kind, ...] = get_args(Kind)
# The keys that are looked for, each with anything under it.
NAMES = (
    *("choices", "content", "text", "delta", "finish_reason", "logprobs", "token_logprobs", "token_ids", "stop"),
    *("stop_type", "completion_probabilities", "logprob", "timings", "prompt_ms", "response", "done", "done_reason"),
    *("capabilities", "data", "id", "tokens", "prompt", "error", "message", "code"),
)
LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.just("stop"))
JSON = st.recursive(
    LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(NAMES), inner, max_size=4)),
    max_leaves=12,
)
CHUNKS = st.lists(
    st.one_of(
        st.binary(max_size=40).filter(bool),
        JSON.map(lambda found: b"data: " + json.dumps(found).encode() + b"\n\n"),
        JSON.map(lambda found: json.dumps(found).encode() + b"\n"),
        st.sampled_from([b": ping\n\n", b"data: [DONE]\n\n", b"\n"]),
    ),
    max_size=5,
)
REPLIES = st.builds(Reply, status=st.sampled_from([200, 200, 200, 400, 404, 503]), chunks=CHUNKS, breaks=st.booleans())


def there(url: str, kind: Kind, key_variable: str = "") -> Remote:
    return Remote(name="there", kind=kind, address=url, model="qwen2.5-coder", key_variable=key_variable)


class Anything:
    """Answers with the reply that it holds."""

    def __init__(self) -> None:
        self.reply = Reply()

    def __call__(self, asked: Asked) -> Reply:
        # What DiffusionGemma's path asks before it asks for a canvas.
        if asked.path == "/tokenize" and self.reply.status == 200:
            return json_reply({"tokens": [1, 2, 3]})
        return self.reply


@pytest.fixture(scope="module")
def engines() -> Iterator[tuple[Anything, dict[Kind, Engine]]]:
    """An engine of each kind at one server."""
    anything = Anything()
    with HttpServer(anything) as server, ExitStack() as stack:
        yield anything, {kind: stack.enter_context(connected(there(server.url, kind))) for kind in KINDS}


@pytest.mark.hypothesis
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60)
@given(reply=REPLIES)
def test_any_answer_ends_as_a_fill_or_an_error(
    engines: tuple[Anything, dict[Kind, Engine]], kind: Kind, reply: Reply
) -> None:
    anything, connections = engines
    anything.reply = reply
    for hole in (ADD, BODY):
        future = connections[kind].fill(hole, Budget())
        error = future.exception(ANSWER_S)
        if error is None:
            fill = future.result(0)
            assert isinstance(fill, Fill)
            assert 0 <= fill.confidence <= 1
            fill.text.encode()
        else:
            assert isinstance(error, RemoteError)
            assert str(error).isprintable()


@pytest.mark.parametrize("kind", KINDS)
def test_a_key_is_nowhere_but_in_its_header(
    kind: Kind, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    key = "planted-0123456789"
    monkeypatch.setenv("SOME_KEY", key)

    def answer(asked: Asked) -> Reply:
        said: Any = {"error": {"message": f"no such key: {key}"}}
        return json_reply(said, 403)

    with HttpServer(answer) as server:
        remote = there(server.url, kind, "SOME_KEY")
        with connected(remote) as engine:
            shown = repr((remote, engine.about))
        told = f"{refused(remote)!r} {probe(remote)!r}"
        for asked in server.asked:
            assert [name for name, value in asked.headers.items() if key in value] == ["authorization"]
            assert key not in f"{asked.path} {asked.body}"
    assert "no such key: ..." in told
    assert key not in f"{shown} {told} {caplog.text}"
