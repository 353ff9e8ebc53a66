"""Whether the checkpoint on disk is still the one in memory."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import midspan.engine

LOOK_EVERY_S = 5.0
EMBEDDED = Path(midspan.engine.__file__).parent / "checkpoints" / "embedded"
# What an engine reads; a model card or a picture beside it may change at will.
READ = {".json", ".safetensors"}
Prints = dict[str, tuple[int, int, int]]


class CheckpointWatch:
    """Tells once that a checkpoint's files have changed since the engine read them; looks only when asked."""

    def __init__(self, checkpoint: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder = EMBEDDED if checkpoint == "embedded" else Path(checkpoint).expanduser()
        self._clock = clock
        self._told = False
        self._next = clock()
        self._read = _prints(self._folder)

    def message(self) -> str | None:
        """One line with the fix, the first time that the files are seen to differ. Costs a few `stat`s."""
        if self._told or self._clock() < self._next:
            return None
        self._next = self._clock() + LOOK_EVERY_S
        if _prints(self._folder) == self._read:
            return None
        self._told = True
        return f"{self._folder} has changed since it was loaded; restart midspan to use what is there now"


def _prints(folder: Path) -> Prints:
    """Inode, size in bytes and time of change of the files that an engine reads; empty if there are none."""
    prints: Prints = {}
    try:
        for file in folder.iterdir():
            if file.suffix in READ:
                state = file.stat()
                prints[file.name] = (state.st_ino, state.st_size, state.st_mtime_ns)
    except OSError:
        # A file that goes away while we look is a change as well.
        prints.clear()
    return prints
