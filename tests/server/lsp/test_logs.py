"""The log: a repeated error is one line, and the file's size is limited."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from midspan.server.lsp.logs import LogFile, Repeated
from tests.server.raw_client import complete, connected


@pytest.fixture
def log() -> Iterator[logging.Logger]:
    """A logger for the test alone."""
    log = logging.getLogger("midspan.test")
    log.propagate = False
    yield log
    for handler in log.handlers[:]:
        handler.close()
        log.removeHandler(handler)
    log.propagate = True


def logged(log: logging.Logger, file: Path) -> LogFile:
    """A log file; the test fails if it cannot be written."""
    handler = LogFile(file, pytest.fail)
    handler.addFilter(Repeated())
    log.addHandler(handler)
    return handler


def fail(log: logging.Logger, words: str) -> None:
    try:
        raise ValueError(words)
    except ValueError:
        log.exception("it failed")


def test_a_repeated_error_is_one_line_and_a_new_one_has_its_traceback(tmp_path: Path, log: logging.Logger) -> None:
    logged(log, tmp_path / "log")
    for words in ("one", "one", "two", "one"):
        fail(log, words)
    lines = (tmp_path / "log").read_text().splitlines()
    assert lines.count("it failed; as before: ValueError: one") == 2
    assert lines.count("Traceback (most recent call last):") == 2
    assert lines[-1] == "it failed; as before: ValueError: one"


def test_further_lines_of_a_message_count_as_its_traceback(tmp_path: Path, log: logging.Logger) -> None:
    logged(log, tmp_path / "log")
    for _ in range(2):
        log.error("it failed: %s\n%s", "100 %", "in f\n  in g %d\n")
        log.warning("one\ntwo")
    expected = "it failed: 100 %\nin f\n  in g %d\n\none\ntwo\nit failed: 100 %; as before: in g %d\none\ntwo\n"
    assert (tmp_path / "log").read_text() == expected


def test_the_number_of_remembered_errors_is_limited(
    tmp_path: Path, log: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("midspan.server.lsp.logs.KNOWN", 2)
    logged(log, tmp_path / "log")
    for words in ("one", "two", "three", "one"):
        fail(log, words)
    assert (tmp_path / "log").read_text().count("Traceback") == 4


def test_one_full_log_file_is_kept_besides_the_current_one(
    tmp_path: Path, log: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("midspan.server.lsp.logs.MAX_BYTES", 1000)
    logged(log, tmp_path / "log")
    for number in range(100):
        log.warning("line %d %s", number, "x" * 50)
    assert {file.name for file in tmp_path.iterdir()} == {"log", "log.1"}
    assert all(file.stat().st_size <= 1000 for file in tmp_path.iterdir())
    assert "line 99 " in (tmp_path / "log").read_text()


def test_an_engine_that_fails_at_every_key_does_not_fill_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with connected(tmp_path / "state", "--log-file", str(log)) as client:
        client.start()
        client.open("crash")
        for id in range(1, 11):
            assert client.ask(complete(id, 0, 5)) is None
        client.notification("window/showMessage")
        assert client.leave() == 0
    text = log.read_text()
    assert text.count("Traceback") == 1
    assert text.count("the engine failed on a request; as before: RuntimeError: the scripted engine crashed") == 9
