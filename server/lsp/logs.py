"""Where `midspan serve` logs, and what it does when it cannot."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Callable
from logging.handlers import RotatingFileHandler
from pathlib import Path

from pygls.exceptions import JsonRpcException

log = logging.getLogger(__name__)

# A full log is kept once more under its name with `.1`.
MAX_BYTES, BACKUPS = 4 * 1024 * 1024, 1
# So many different tracebacks are known again.
KNOWN = 100


class LogFile(RotatingFileHandler):
    """A log file of bounded size whose disk may fill up: said once, and the server goes on."""

    def __init__(self, file: Path, on_trouble: Callable[[str], object]) -> None:
        super().__init__(
            file, maxBytes=MAX_BYTES, backupCount=BACKUPS, encoding="utf-8", errors="backslashreplace", delay=False
        )
        self._on_trouble = on_trouble
        self._troubled = False

    def handleError(self, record: logging.LogRecord) -> None:
        """Called inside the `except` of a record that could not be written."""
        if not self._troubled:
            self._troubled = True
            self._on_trouble(f"no log: cannot write {self.baseFilename}; fix it or choose another --log-file")


class Repeated(logging.Filter):
    """Cuts an error that has been logged before with the same traceback down to one line: it may come at every key."""

    def __init__(self) -> None:
        super().__init__()
        self._known: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """Lets every record pass; it is changed in place."""
        head, _, detail = record.getMessage().partition("\n")
        if record.exc_info:
            detail += logging.Formatter().formatException(record.exc_info)
        if record.levelno < logging.ERROR or not detail:
            return True
        if detail in self._known:
            record.msg, record.args = f"{head}; as before: {detail.rstrip().rpartition(chr(10))[2].strip()}", ()
            record.exc_info = record.exc_text = None
        elif len(self._known) >= KNOWN:
            self._known.clear()
        self._known.add(detail)
        return True


def log_to(file: Path | None, on_trouble: Callable[[str], object], *, debug: bool = False) -> None:
    """Log to the file or to stderr. Raises OSError when the file cannot be opened.

    pygls logs whole messages below ERROR: never those.
    """
    where = logging.StreamHandler() if file is None else LogFile(file, on_trouble)
    where.addFilter(_without_the_clients_words)
    where.addFilter(Repeated())
    logging.basicConfig(
        handlers=[where], level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True
    )
    logging.getLogger("pygls").setLevel(logging.ERROR)
    logging.getLogger("midspan").setLevel(logging.DEBUG if debug else logging.INFO)


def wordless(error: BaseException) -> str:
    """An error's traceback and kind without what it says, which may quote a client."""
    frames = "".join(traceback.format_tb(error.__traceback__))
    return f"Traceback (most recent call last):\n{frames}{type(error).__name__}"


def _without_the_clients_words(record: logging.LogRecord) -> bool:
    """Libraries quote ids, methods, params and errors; the client has been told, the log need not be."""
    if record.name.startswith(("pygls", "asyncio", "concurrent")):
        arguments = record.args if isinstance(record.args, tuple) else ()
        record.args = tuple(argument if isinstance(argument, int) else "..." for argument in arguments)
        error = record.exc_info[1] if record.exc_info else None
        record.exc_info = None
        if error is not None and not isinstance(error, JsonRpcException):
            record.msg, record.args = f"{record.getMessage()}\n{wordless(error)}", ()
    return True


def log_stray(_: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    """Log an error that asyncio found in no request, without its words, which quote what a task returned: code."""
    error = context.get("exception")
    log.error("an error outside any request%s", f"\n{wordless(error)}" if isinstance(error, BaseException) else "")
