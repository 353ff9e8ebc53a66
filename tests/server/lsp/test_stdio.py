"""Framing of messages on stdio: headers are read, bodies are returned."""

from __future__ import annotations

import io

import pytest

from midspan.server.lsp.stdio import WireError, read_message, read_messages


def test_bodies_are_read_one_by_one() -> None:
    stream = io.BytesIO(b"Content-Length: 2\r\n\r\n{}content-length:3\r\nContent-Type: x\r\n\r\n[1]")
    posted: list[object] = []
    read_messages(stream, posted.append)
    assert posted == [b"{}", b"[1]", None]


def test_a_truncated_body_is_the_end_of_the_stream() -> None:
    assert read_message(io.BytesIO(b"Content-Length: 9\r\n\r\n{}")) is None


HEADERS = [b"Content-Length: many", b"Content-Length: -1", b"Content-Length:", b"X: secret"]
HEADERS += [b"Content-Length: 1073741825", b"Content-Length: " + b"9" * 5000]


@pytest.mark.parametrize("header", HEADERS)
def test_a_broken_header_is_an_error_that_quotes_nothing(header: bytes) -> None:
    posted: list[object] = []
    read_messages(io.BytesIO(header + b"\r\n\r\n{}"), posted.append)
    [error] = posted
    assert isinstance(error, WireError)
    assert "Content-Length" in str(error)
    assert "secret" not in str(error)
