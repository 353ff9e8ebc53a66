"""What an error of the engine means to the user: one line with the mend."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from midspan.engine.api import CheckpointError, DeviceError

if TYPE_CHECKING:
    from midspan.server.app import Server

log = logging.getLogger(__name__)

MEMORY = "close other programs, or give another --device or a smaller --checkpoint"


class Unanswered(Exception):
    """The engine has not come back from a question."""


class EngineFailed(Exception):
    """The engine has not answered; the message is what the user has been told."""


@contextmanager
def engine_at_work(server: Server) -> Iterator[None]:
    """Around a question to the engine, atop a handler: the status says that it works, and what failed.

    Raises EngineFailed for whatever went wrong.
    """
    if server.replaced is not None and (replaced := server.replaced.message()) is not None:
        server.degrade("checkpoint", replaced)
    try:
        with server.status.work():
            yield
    except Exception as error:  # atop a handler
        log.exception("the engine failed on a request")
        server.degrade("engine", failed_request(error))
        raise EngineFailed(failed_request(error)) from error
    server.status.well("engine")


def failed_load(error: Exception) -> str:
    """Why there is no engine."""
    if isinstance(error, CheckpointError | DeviceError):
        return str(error)
    if out_of_memory(error):
        return f"out of memory while the model was loaded; {MEMORY}"
    return f"loading failed ({type(error).__name__}); run `midspan doctor`"


def failed_request(error: Exception) -> str:
    """Why there is no answer."""
    if isinstance(error, DeviceError):
        return str(error)
    if out_of_memory(error):
        return f"out of memory; {MEMORY}"
    if isinstance(error, Unanswered):
        return f"{error}; if it stays so, restart midspan or give a smaller --checkpoint"
    return "the engine failed on a request; the log says why"


def out_of_memory(error: Exception) -> bool:
    """Whether the machine or its accelerator had no memory left: torch's error is known by its name, as torch is not
    imported here."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return not names.isdisjoint({"MemoryError", "OutOfMemoryError"})
