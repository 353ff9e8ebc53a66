"""What is sent to a server, what may come back, and that a key is nowhere but in its header."""

from __future__ import annotations

import logging
import subprocess
import sys
from dataclasses import replace

import pytest

from midspan.engine.api import Budget
from midspan.engine.remote import Kind, Remote, probe
from tests.engine.remote.holes import ADD, ANSWER_S, connected, filled, refused, remote_at
from tests.engine.remote.http_server import HttpServer, Reply, event, json_reply

KEY = "sk-planted-0123456789"
DONE = event({"content": "a + b", "stop": True, "stop_type": "word"})


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> str:
    """The variable that holds a key."""
    monkeypatch.setenv("SOME_KEY", KEY)
    return "SOME_KEY"


def test_a_key_is_sent_in_its_header_alone(key: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with HttpServer(lambda _: Reply(chunks=[DONE])) as server:
        remote = remote_at(server.url, key_variable=key)
        fill, [asked] = filled(remote), server.asked
    assert fill.text == "a + b"
    assert asked.headers["authorization"] == f"Bearer {KEY}"
    elsewhere = [name for name, value in asked.headers.items() if KEY in value]
    assert elsewhere == ["authorization"]
    assert KEY not in f"{asked.path} {asked.body} {remote!r} {fill!r}"
    assert KEY not in caplog.text


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500])
def test_a_key_that_a_server_repeats_is_in_no_message(key: str, status: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    said = {"error": {"message": f"Incorrect API key provided: {KEY}. You can find\nyours elsewhere."}}
    with HttpServer(lambda _: json_reply(said, status)) as server:
        remote = remote_at(server.url, key_variable=key)
        error, health = refused(remote), probe(remote)
    assert error.status == status
    assert "Incorrect API key provided: ..." in str(error)
    assert KEY not in f"{error!r} {error} {health!r} {caplog.text}"
    assert error.__cause__ is None


@pytest.mark.parametrize("before", range(140, 165, 4))
def test_a_message_that_is_cut_short_keeps_no_part_of_a_key(key: str, before: int) -> None:
    said = {"error": {"message": "x" * before + KEY}}
    with HttpServer(lambda _: json_reply(said, 400)) as server:
        error = refused(remote_at(server.url, key_variable=key))
    assert KEY[:4] not in str(error)


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_names_its_variable(key: str, status: int) -> None:
    with HttpServer(lambda _: json_reply({}, status)) as server:
        assert "set SOME_KEY to a key that it takes" in str(refused(remote_at(server.url, key_variable=key)))


@pytest.mark.parametrize("value", ["", "  ", "two\nlines", "schlüssel"])
def test_a_key_that_is_none_is_not_sent(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("SOME_KEY", value)
    with HttpServer(lambda _: json_reply({})) as server:
        error = refused(remote_at(server.url, key_variable="SOME_KEY"))
        assert server.asked == []
    assert error.status == 401
    assert "SOME_KEY" in str(error)
    assert not value.strip() or value not in str(error)


def test_code_that_a_server_repeats_is_in_no_message() -> None:
    with HttpServer(lambda _: json_reply({"error": "cannot parse 'def add(a, b):'"}, 400)) as server:
        assert "add" not in str(refused(remote_at(server.url)))


def test_what_a_server_says_becomes_one_short_line() -> None:
    with HttpServer(lambda _: json_reply({"error": "no\r\n\x1b[31mmodel " + "x" * 5000}, 400)) as server:
        error = str(refused(remote_at(server.url)))
    assert error.isprintable()
    assert len(error) < 400
    assert "no [31mmodel xxx" in error


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("7", 7.0), ("999999999999", 3600.0), ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0), ("soon", None), ("-1", None)],
)
def test_retry_after_is_read_in_both_forms(header: str, seconds: float | None) -> None:
    with HttpServer(lambda _: json_reply({}, 429, retry_after=header)) as server:
        assert refused(remote_at(server.url)).retry_after_s == seconds


def test_a_redirect_is_not_followed(key: str) -> None:
    with HttpServer(lambda _: Reply(chunks=[DONE])) as other:
        with HttpServer(lambda _: Reply(status=307, headers={"location": other.url + "/infill"})) as server:
            error = refused(remote_at(server.url, key_variable=key))
        assert other.asked == []
    assert error.status == 307
    assert "give that address" in str(error)


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        (Reply(chunks=[b"x" * (1 << 16)] * 80), "which no fill has"),
        (Reply(chunks=[b"data: {\n\n"]), "no JSON"),
        (Reply(chunks=[b"data: " + b"[" * 100_000 + b"\n\n"]), "no JSON"),
        (Reply(headers={"content-encoding": "gzip"}, chunks=[b"x"]), "compresses"),
        (Reply(chunks=[event([1, None, {"content": 7}])]), "broke off"),
        (Reply(status=204), "status 204"),
    ],
)
def test_an_answer_that_makes_no_sense_is_one_line(reply: Reply, problem: str) -> None:
    with HttpServer(lambda _: reply) as server:
        assert problem in str(refused(remote_at(server.url)))


def test_nothing_that_answers_is_told_with_the_fix() -> None:
    with HttpServer(lambda _: json_reply({})) as server:
        url = server.url
    error = refused(remote_at(url))
    assert (error.status, error.__cause__, error.__suppress_context__) == (0, None, True)
    assert str(error) == f"there at {url}: nothing answers there; start the server or correct its address"
    assert probe(remote_at(url)).latency_ms == 0


def test_after_an_error_the_next_request_is_answered() -> None:
    replies = [json_reply({}, 500), Reply(chunks=[DONE])]
    with HttpServer(lambda _: replies.pop(0)) as server, connected(remote_at(server.url)) as engine:
        assert engine.fill(ADD, Budget()).exception(ANSWER_S) is not None
        assert engine.fill(ADD, Budget()).result(ANSWER_S).text == "a + b"


def test_one_connection_serves_one_request_after_another() -> None:
    with HttpServer(lambda _: Reply(chunks=[DONE])) as server, connected(remote_at(server.url)) as engine:
        for _ in range(3):
            assert engine.fill(ADD, Budget()).result(ANSWER_S).text == "a + b"
        assert len(server.asked) == 3
        assert server.connections == 1


def test_an_answer_is_whole_though_its_connection_breaks_behind_it() -> None:
    with HttpServer(lambda _: Reply(chunks=[DONE], breaks=True)) as server:
        assert filled(remote_at(server.url)).text == "a + b"
    with HttpServer(lambda _: Reply(chunks=[DONE], hangs=True)) as server:
        assert filled(remote_at(server.url)).text == "a + b"


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_this_machine_is_asked_without_a_proxy(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    with HttpServer(lambda _: json_reply({}, 500)) as proxy, HttpServer(lambda _: Reply(chunks=[DONE])) as server:
        monkeypatch.setenv(name, proxy.url)
        assert filled(remote_at(server.url)).text == "a + b"
        assert filled(remote_at(server.url.replace("127.0.0.1", "localhost"))).text == "a + b"
        assert proxy.asked == []


def test_elsewhere_is_asked_through_the_proxy_that_the_environment_names(monkeypatch: pytest.MonkeyPatch) -> None:
    with HttpServer(lambda _: Reply(chunks=[DONE])) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        remote = Remote(name="there", kind="llama-server", address="http://models.example:9931", insecure=True)
        assert filled(remote).text == "a + b"
        assert [asked.path for asked in proxy.asked] == ["http://models.example:9931/infill"]


def test_an_environment_that_cannot_be_used_is_told_without_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "gopher://user:secret@proxy.example")
    remote = Remote(name="there", kind="llama-server", address="https://models.example")
    error = refused(remote)
    assert "correct HTTPS_PROXY" in str(error)
    assert "secret" not in str(error)


def test_a_certificate_of_nobody_is_told_with_the_fix() -> None:
    with HttpServer(lambda _: json_reply({})) as server:
        # It speaks no TLS at all.
        error = refused(remote_at(server.url.replace("http:", "https:")))
    assert error.status == 0
    assert "there at https:" in str(error)


def made(address: str, *, kind: Kind = "llama-server", insecure: bool = False) -> Remote:
    return Remote(name="there", kind=kind, address=address, model="some", insecure=insecure)


@pytest.mark.parametrize(
    ("address", "tier"),
    [
        ("http://127.0.0.1:9931", "loopback"),
        ("http://127.8.8.8:9931/api", "loopback"),
        ("http://[::1]:9931", "loopback"),
        ("http://localhost:8080/", "loopback"),
        ("https://10.1.2.3", "private"),
        ("https://[fd00::1]", "private"),
        ("https://models.example", "public"),
        ("https://localhost.example", "public"),
        ("https://8.8.8.8:8000", "public"),
    ],
)
def test_an_address_says_how_far_it_goes(address: str, tier: str) -> None:
    assert made(address).tier == tier


def test_what_can_be_read_on_the_way_is_refused_unless_it_is_allowed() -> None:
    with pytest.raises(ValueError, match=r"address http://10\.1\.2\.3:8000: .* use https, or set insecure"):
        made("http://10.1.2.3:8000")
    assert made("http://10.1.2.3:8000", insecure=True).tier == "private"


@pytest.mark.parametrize(
    "address",
    [
        *("", "models.example", "ftp://models.example", "http://", "https://:8000", "http://localhost:port"),
        *("http://localhost:0", "https://a b", "https://models.example/\n", "https://[::1", "https://mödels.example"),
        *("https://user:secret@models.example", "https://models.example?key=secret", "https://models.example#secret"),
    ],
)
def test_what_is_no_address_is_one_line_that_does_not_repeat_it(address: str) -> None:
    with pytest.raises(ValueError, match=r"^address .*(give http|leave them out)") as raised:
        made(address)
    assert "secret" not in str(raised.value)
    assert str(raised.value).isprintable()


def test_a_key_in_place_of_its_variable_is_not_repeated() -> None:
    with pytest.raises(ValueError, match=r"^key_variable .* give the name, never the key") as raised:
        replace(made("https://models.example"), key_variable=KEY)
    assert KEY not in str(raised.value)


def test_a_kind_that_needs_a_model_says_so() -> None:
    with pytest.raises(ValueError, match=r"^model is not given"):
        Remote(name="there", kind="ollama", address="http://localhost:11434")


def test_nothing_is_imported_before_a_server_is_asked() -> None:
    script = """
import sys
import midspan.engine
assert "httpx2" not in sys.modules and "midspan.engine.remote" not in sys.modules
from midspan.engine.remote import Remote
Remote(name="there", kind="llama-server", address="http://127.0.0.1:9931")
print(sorted({"asyncio", "httpx2", "ssl", "tokenizers", "torch"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=100, check=True)
    assert done.stdout == "[]\n"


def test_an_engine_loads_no_network() -> None:
    script = """
import sys
from midspan.engine.api import Budget, Hole
from midspan.engine.remote import Remote, connect
engine = connect(Remote(name="there", kind="llama-server", address="http://127.0.0.1:9"))
print(engine.fill(Hole(prefix="", suffix=""), Budget()).exception(60))
engine.close()
print("torch" in sys.modules, "tokenizers" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=100, check=True)
    assert "nothing answers there" in done.stdout
    assert done.stdout.endswith("False False\n")
