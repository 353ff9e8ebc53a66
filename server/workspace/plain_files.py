"""Reading files that nobody vouches for: plain ones only, within a size, and every error of a path is "nothing"."""

from __future__ import annotations

import os
import stat

# A FIFO must not block, and a link is followed only where the caller says so; Windows has none of the first three.
FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_BINARY", 0)
)
NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)


def read_plain(path: str, most: int, *, follow: bool = False) -> bytes | None:
    """At most `most` bytes of a plain file; None for anything else, and where it cannot be read.

    A FIFO, a socket, a device, a folder, a name that is too long and a file that has just vanished all read as None.
    """
    try:
        handle = os.open(path, FLAGS if follow else FLAGS | NO_FOLLOW)
    except (OSError, ValueError):
        return None
    try:
        with os.fdopen(handle, "rb") as file:
            return file.read(most) if stat.S_ISREG(os.fstat(handle).st_mode) else None
    except OSError:
        return None


def stamp(path: str) -> tuple[int, int] | None:
    """When a file was changed, and its size in bytes; None where there is none that can be seen."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_mtime_ns, status.st_size
