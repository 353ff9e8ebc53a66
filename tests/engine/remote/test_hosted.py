"""Hosted fill-in-the-middle by the services' own pages: Mistral's, DeepSeek's and Inception's."""

from __future__ import annotations

from typing import get_args

import pytest

from midspan.engine.api import Budget
from midspan.engine.remote import Kind, probe
from midspan.engine.remote.paths import PATHS
from tests.engine.remote.holes import ADD, BODY, filled, refused, remote_at
from tests.engine.remote.http_server import Asked, HttpServer, Reply, event, json_reply

KEY = "planted-key-of-a-service"
ROUTES = {
    "mistral": "/v1/fim/completions",
    "deepseek": "/beta/completions",
    "inception": "/v1/fim/completions",
}
KINDS: tuple[Kind, ...] = ("mistral", "deepseek", "inception")


class Contract:
    """Answers with `a + b` who has the key; `chat` is Mistral's form of a stream."""

    def __init__(self, kind: str) -> None:
        self.kind, self.chat = kind, kind == "mistral"

    def __call__(self, asked: Asked) -> Reply:
        # All three: no key, or another one, is 401.
        if asked.headers.get("authorization") != f"Bearer {KEY}":
            return json_reply({"message": "Unauthorized"}, 401)
        if asked.method == "GET":
            return json_reply({"data": []} if asked.path.endswith("/models") else {}, 200)
        if asked.path != ROUTES[self.kind]:
            return json_reply({"message": "no Route matched with those values"}, 404)
        # Mistral's API reference: keys that it does not know are 422.
        known = {"model", "prompt", "suffix", "max_tokens", "temperature", "stop", "stream"}
        if set(asked.body) - known:
            return json_reply({"detail": "Extra inputs are not permitted"}, 422)
        return Reply(
            chunks=[self.chunk("a", None), self.chunk(" + b", None), self.chunk("", "stop"), b"data: [DONE]\n\n"]
        )

    def chunk(self, text: str, finish: str | None) -> bytes:
        """One event."""
        said = {"delta": {"content": text}} if self.chat else {"text": text}
        return event({"choices": [{"index": 0, "finish_reason": finish, **said}]})


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVICE_KEY", KEY)


@pytest.mark.parametrize("kind", KINDS)
def test_a_gap_is_asked_for_by_the_services_own_route(kind: Kind) -> None:
    with HttpServer(Contract(kind)) as server:
        fill = filled(remote_at(server.url, kind, "some-model", "SERVICE_KEY"), budget=Budget(deadline_s=20.0))
        [asked] = server.asked
    assert (fill.text, fill.stopped, fill.confidence) == ("a + b", "settled", 0.5)
    assert asked.path == ROUTES[kind]
    assert asked.body == {
        "model": "some-model",
        "prompt": ADD.prefix,
        "suffix": ADD.suffix,
        "max_tokens": 48,
        "temperature": 0.0,
        "stop": ["\n"],
        "stream": True,
    }
    assert KEY not in str(asked.body)


@pytest.mark.parametrize("kind", KINDS)
def test_several_lines_have_no_stop(kind: Kind) -> None:
    with HttpServer(Contract(kind)) as server:
        filled(remote_at(server.url, kind, "some-model", "SERVICE_KEY"), BODY)
        assert "stop" not in server.asked[0].body


@pytest.mark.parametrize("kind", KINDS)
def test_a_key_that_is_missing_is_named(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVICE_KEY", "another")
    with HttpServer(Contract(kind)) as server:
        remote = remote_at(server.url, kind, "some-model", "SERVICE_KEY")
        error, health = refused(remote), probe(remote)
    assert error.status == 401
    assert "set SERVICE_KEY to a key that it takes" in str(error)
    assert (health.state, health.infill) == ("refused", False)


@pytest.mark.parametrize("kind", KINDS)
def test_a_probe_costs_nothing(kind: Kind) -> None:
    with HttpServer(Contract(kind)) as server:
        health = probe(remote_at(server.url, kind, "some-model", "SERVICE_KEY"))
        assert [asked.method for asked in server.asked] == ["GET"]
    assert (health.state, health.infill, health.logprobs) == ("ready", True, False)


@pytest.mark.parametrize("kind", KINDS)
def test_an_address_may_have_the_beginning_of_its_routes(kind: Kind) -> None:
    with HttpServer(Contract(kind)) as server:
        begun = server.url + ("/beta" if kind == "deepseek" else "/v1/")
        assert filled(remote_at(begun, kind, "some-model", "SERVICE_KEY")).text == "a + b"


def test_every_kind_has_a_path() -> None:
    assert set(PATHS) == set(get_args(Kind))
