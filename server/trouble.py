"""What an error of the engine means to the user: one line with the mend."""

from __future__ import annotations

from midspan.engine.api import CheckpointError, DeviceError

MEMORY = "close other programs, or give another --device or a smaller --checkpoint"


class Unanswered(Exception):
    """The engine has not come back from a question."""


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
