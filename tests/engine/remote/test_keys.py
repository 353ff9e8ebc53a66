"""Keys in the operating system's keyring, with one of our own in place of the package."""

from __future__ import annotations

import logging
import sys
from dataclasses import replace
from types import ModuleType

import pytest

from midspan.engine.remote import Remote, keys, probe
from tests.engine.remote.holes import filled, refused, remote_at
from tests.engine.remote.http_server import HttpServer, Reply, event, json_reply

KEY = "sk-planted-0123456789"
DONE = event({"content": "a + b", "stop": True, "stop_type": "word"})


class Locked(Exception):
    """As keyring.errors.KeyringLocked, below keyring.errors.KeyringError."""


class Keyring:
    """As keyring.backend.KeyringBackend: passwords by service and user name."""

    def __init__(self, passwords: dict[tuple[str, str], str]) -> None:
        self.passwords = passwords
        self.locked = False
        self.asked: list[tuple[str, str]] = []

    def get_password(self, service: str, username: str) -> str | None:
        """The password, None where there is none. Raises KeyringError."""
        self.asked.append((service, username))
        if self.locked:
            raise Locked(f"the collection with {self.passwords} is locked")
        return self.passwords.get((service, username))


@pytest.fixture
def ring(monkeypatch: pytest.MonkeyPatch) -> Keyring:
    """What `import keyring` gives; nothing of it has been read yet."""
    found = Keyring({("team", "midspan"): KEY, ("team", "somebody"): "not ours", ("empty", "midspan"): " "})
    package, errors = ModuleType("keyring"), ModuleType("keyring.errors")
    errors.KeyringError = Locked  # type: ignore[attr-defined]
    package.errors = errors  # type: ignore[attr-defined]
    package.get_password = found.get_password  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "keyring", package)
    monkeypatch.setitem(sys.modules, "keyring.errors", errors)
    monkeypatch.setattr(keys, "_read", {})
    return found


def named(url: str, service: str = "team") -> Remote:
    return replace(remote_at(url), keyring=service)


def test_a_key_is_read_once_and_stands_in_its_header_alone(ring: Keyring, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with HttpServer(lambda _: Reply(chunks=[DONE])) as server:
        remote = named(server.url)
        assert [filled(remote).text, filled(remote).text] == ["a + b", "a + b"]
        assert [asked.headers["authorization"] for asked in server.asked] == [f"Bearer {KEY}"] * 2
    assert ring.asked == [("team", "midspan")]
    assert KEY not in f"{remote!r} {caplog.text}"


def test_a_key_that_a_server_repeats_is_in_no_message(ring: Keyring) -> None:
    with HttpServer(lambda _: json_reply({"error": {"message": f"wrong key {KEY}"}}, 401)) as server:
        error, health = refused(named(server.url)), probe(named(server.url))
    assert "wrong key ..." in str(error)
    assert "run `keyring set team midspan` and give it a key that it takes" in str(error)
    assert KEY not in f"{error} {health!r}"


@pytest.mark.parametrize("service", ["other", "empty"])
def test_a_keyring_without_the_key_is_one_line_with_the_fix(ring: Keyring, service: str) -> None:
    with HttpServer(lambda _: json_reply({})) as server:
        error = refused(named(server.url, service))
        assert server.asked == []
    assert error.status == 401
    assert f"the keyring's entry {service} of midspan holds no key; run `keyring set {service} midspan`" in str(error)


def test_a_locked_keyring_is_one_line_and_is_asked_again(ring: Keyring) -> None:
    ring.locked = True
    with HttpServer(lambda _: Reply(chunks=[DONE])) as server:
        error = refused(named(server.url))
        assert "the keyring cannot be read (Locked); unlock it, or use key_variable" in str(error)
        assert KEY not in str(error)
        ring.locked = False
        assert filled(named(server.url)).text == "a + b"


def test_without_the_package_the_fix_is_to_install_it(ring: Keyring, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)
    with HttpServer(lambda _: json_reply({})) as server:
        error = refused(named(server.url))
    assert "run python -m pip install 'midspan[keyring]'" in str(error)
    assert error.status == 401


def test_no_keyring_is_looked_at_where_none_is_named(ring: Keyring) -> None:
    with HttpServer(lambda _: Reply(chunks=[DONE])) as server:
        assert filled(remote_at(server.url)).text == "a + b"
    assert ring.asked == []


def test_a_key_is_in_one_place() -> None:
    with pytest.raises(ValueError, match="leave one of them out"):
        replace(remote_at("http://127.0.0.1:9", key_variable="SOME_KEY"), keyring="team")
