"""What an error of the engine means to the user: one line with the fix."""

from __future__ import annotations

import re

from midspan.engine.api import CheckpointError, DeviceError, RemoteError
from midspan.server.requests import Unanswered

# What torch and triton say in a plain RuntimeError; an accelerator's memory has an error of its own too.
NO_MEMORY = re.compile("can't allocate memory|not enough memory|out of memory|CUBLAS_STATUS_ALLOC_FAILED")
# Behind one of these no call of the process reaches the device any more.
DEVICE_LOST = re.compile(r"CUDA (driver )?error\b|Triton Error \[CUDA\]|device-side assert")
MEMORY = "close other programs, or give another --device or a smaller --checkpoint"
NOT_LOADED = "the local checkpoint did not load"
RESTART = "the GPU failed and answers this process no more; restart midspan, with --device cpu if it happens again"


class EngineFailed(Exception):
    """The engine has not answered; the message is what the user has been told."""


def failed_load(error: Exception) -> str:
    """Why there is no engine."""
    if isinstance(error, CheckpointError | DeviceError):
        return str(error)
    if out_of_memory(error):
        return f"out of memory while the model was loaded; {MEMORY}"
    if _device_lost(error):
        return RESTART
    return f"loading failed ({type(error).__name__}); run `midspan doctor`"


def failed_request(error: Exception) -> str:
    """Why there is no answer."""
    if isinstance(error, DeviceError | RemoteError):
        return str(error)
    if out_of_memory(error):
        return f"out of memory; {MEMORY}"
    if isinstance(error, Unanswered):
        return f"{error}; if it stays so, restart midspan or give a smaller --checkpoint"
    if _device_lost(error):
        return RESTART
    return "the engine failed on a request; the log says why"


def out_of_memory(error: Exception) -> bool:
    """Whether the machine or its accelerator had no memory left: torch's errors are known by their names and words, as
    torch is not imported here."""
    names = {kind.__name__ for kind in type(error).__mro__}
    if not names.isdisjoint({"MemoryError", "OutOfMemoryError"}):
        return True
    return isinstance(error, RuntimeError) and NO_MEMORY.search(str(error)) is not None


def _device_lost(error: Exception) -> bool:
    return isinstance(error, RuntimeError) and DEVICE_LOST.search(str(error)) is not None
