"""Where `midspan serve` logs, and what it does when it cannot."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from pygls.exceptions import JsonRpcException


class LogFile(logging.FileHandler):
    """A log file whose disk may fill up: said once, and the server goes on."""

    def __init__(self, file: Path, on_trouble: Callable[[str], object]) -> None:
        super().__init__(file, encoding="utf-8", errors="backslashreplace", delay=False)
        self._on_trouble = on_trouble
        self._troubled = False

    def handleError(self, record: logging.LogRecord) -> None:
        """Called inside the `except` of a record that could not be written."""
        if not self._troubled:
            self._troubled = True
            self._on_trouble(f"no log: cannot write {self.baseFilename}; mend it or choose another --log-file")


def log_to(file: Path | None, on_trouble: Callable[[str], object], *, debug: bool = False) -> None:
    """Log to the file or to stderr. Raises OSError when the file cannot be opened.

    pygls logs whole messages below ERROR: never those.
    """
    where = logging.StreamHandler() if file is None else LogFile(file, on_trouble)
    where.addFilter(_without_the_clients_words)
    logging.basicConfig(
        handlers=[where], level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True
    )
    logging.getLogger("pygls").setLevel(logging.ERROR)
    logging.getLogger("midspan").setLevel(logging.DEBUG if debug else logging.INFO)


def _without_the_clients_words(record: logging.LogRecord) -> bool:
    """pygls quotes ids, params and what a refusal says of them; the client has been told, the log need not be."""
    if record.name.startswith("pygls"):
        arguments = record.args if isinstance(record.args, tuple) else ()
        record.args = tuple(argument if isinstance(argument, int) else "..." for argument in arguments)
        if record.exc_info and isinstance(record.exc_info[1], JsonRpcException):
            record.exc_info = None
    return True
