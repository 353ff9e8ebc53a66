"""Random edits against a reference text, and random bad messages: no difference, no request unanswered, no crash.

CONTRIBUTING.md says how to run them for longer.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.server.inside import Inside
from tests.server.raw_client import URI, Message, RawClient, call, complete, connected, framed
from tests.server.scripted import TEXT
from tests.server.text.test_documents import reference_offset

SECRET = "hunter2_correct_horse"
ODD = ["\x0b", "\x0c", "\x85", "\u2028", "\ud800", "\udc00"]
PIECES = ["a", "x = 1", "é", "漢", "😀", "\n", "\r", "\r\n", "\t", "", *ODD]
# A round trip through JSON joins adjacent halves of a surrogate pair.
TEXTS = st.lists(st.sampled_from(PIECES), max_size=10).map("".join).map(lambda text: json.loads(json.dumps(text)))
POSITIONS = st.fixed_dictionaries({"line": st.integers(0, 8), "character": st.integers(0, 14)})
RANGES = st.fixed_dictionaries({"start": POSITIONS, "end": POSITIONS})
CHANGES = st.fixed_dictionaries({"text": TEXTS}, optional={"range": RANGES})
ENCODINGS = ("utf-8", "utf-16", "utf-32")


def edited(text: str, change: Message, encoding: Any) -> str:
    """The text after a change, computed as the specification words it."""
    if "range" not in change:
        return str(change["text"])
    ends = (change["range"]["start"], change["range"]["end"])
    begin, end = sorted(reference_offset(text, at["line"], at["character"], encoding) for at in ends)
    return text[:begin] + str(change["text"]) + text[end:]


@pytest.fixture(scope="module", params=ENCODINGS)
def spoken(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Inside]:
    """A position encoding, and a server that uses it."""
    inside = Inside(tmp_path_factory.mktemp("state"))
    assert inside.initialize(request.param)["positionEncoding"] == request.param
    return request.param, inside


@given(TEXTS, st.lists(st.lists(CHANGES, max_size=3), max_size=6))
def test_any_sequence_of_edits_gives_the_reference_text(
    spoken: tuple[str, Inside], text: str, edits: list[list[Message]]
) -> None:
    encoding, inside = spoken
    document = {"uri": URI, "languageId": "python", "version": 0, "text": text}
    inside.send(call(None, "textDocument/didOpen", {"textDocument": document}))
    for version, changes in enumerate(edits, 1):
        where = {"textDocument": {"uri": URI, "version": version}}
        inside.send(call(None, "textDocument/didChange", where | {"contentChanges": changes}))
        for change in changes:
            text = edited(text, change, encoding)
        assert inside.document().text == text
        assert inside.document().version == version
    assert inside.take() == []


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RawClient]:
    """One server for all cases; it must survive them, and its log must not quote them."""
    with connected(tmp_path_factory.mktemp("state")) as client:
        client.start()
        yield client
        assert client.leave() == 0
        assert SECRET not in client.stderr


LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.sampled_from(["", SECRET, URI, "\ud800", "\x00"]),
)
NAMES = "textDocument uri version position line character context triggerKind range start end contentChanges text"
NAMES += " languageId command arguments item acceptedLength id settings midspan enable exclude value token"
KEYS = st.sampled_from([*NAMES.split(), SECRET])
JSON = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4))
REQUESTS = f"""textDocument/inlineCompletion workspace/executeCommand textDocument/hover codeAction/resolve no/such $/no
initialize window/workDoneProgress/create textDocument/didOpen no/{SECRET}""".split()
NOTES = [
    "textDocument/didOpen",
    "textDocument/didChange",
    "textDocument/didClose",
    "textDocument/didShowCompletion",
    "no/note",
    "$/setTrace",
    "textDocument/didPartiallyAcceptCompletion",
    "workspace/didChangeWorkspaceFolders",
    "workspace/didChangeConfiguration",
    "window/workDoneProgress/cancel",
    "$/cancelRequest",
    "$/progress",
    "initialize",
]
GOOD = complete(0, 0, 1)["params"]
WHERES = st.lists(st.sampled_from(["textDocument", "position", "context", "uri", "line", "triggerKind"]), max_size=2)


def spoiled(where: list[str], value: Any) -> Any:
    """The params of a valid request with one value replaced."""
    params: Any = json.loads(json.dumps(GOOD))
    inner = params
    for key in where[:-1]:
        inner = inner[key] if isinstance(inner, dict) and isinstance(inner.get(key), dict) else params
    if where:
        inner[where[-1]] = value
        return params
    return value


PARAMS = st.one_of(JSON, st.builds(spoiled, WHERES, JSON))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.lists(st.tuples(st.booleans(), st.sampled_from(REQUESTS), st.sampled_from(NOTES), PARAMS), max_size=8))
def test_bad_messages_are_answered_once_and_harm_nothing(
    client: RawClient, messages: list[tuple[bool, str, str, Any]]
) -> None:
    calls = [
        call(number if request else None, method if request else note, params)
        for number, (request, method, note, params) in enumerate(messages, 1000)
    ]
    client.open("x = ")
    client.send(*calls)
    for sent in calls:
        if "id" in sent:
            client.answer(sent["id"])
    # Whatever the settings and documents are now: after default settings and a new document the server answers again.
    client.send(call(None, "workspace/didChangeConfiguration", {"settings": {"midspan": {}}}))
    client.open("x = ", uri="file:///after.py")
    assert client.ask(complete(1, 0, 4, uri="file:///after.py")) == [TEXT]
    client.kept.clear()


def id_in(body: bytes) -> Any:
    """The id in a body, if it is one that an answer can have."""
    try:
        message = json.loads(body)
    except ValueError:
        return None
    id = message.get("id") if isinstance(message, dict) else None
    return id if isinstance(id, int | str) else None


BODIES = st.one_of(
    st.binary(max_size=60),
    JSON.map(lambda value: json.dumps(value).encode()),
    st.text(max_size=60).map(lambda text: text.encode("utf-8", "replace")),
    st.integers(1, 200).map(lambda cut: framed(complete(0, 0, 4)).partition(b"\r\n\r\n")[2][:cut]),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.lists(BODIES, max_size=6))
def test_bytes_that_are_no_message_harm_nothing(client: RawClient, bodies: list[bytes]) -> None:
    for body in bodies:
        client.traffic.sent({"id": id_in(body), "method": "textDocument/inlineCompletion"})
    client.write(b"".join(b"Content-Length: %d\r\n\r\n%s" % (len(body), body) for body in bodies))
    client.open("x = ", uri="file:///after.py")
    assert client.ask(complete(77777, 0, 4, uri="file:///after.py")) == [TEXT]
    client.kept.clear()
    client.traffic.waiting.clear()
