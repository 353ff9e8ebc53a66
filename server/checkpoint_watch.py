"""Which checkpoint is on disk, and whether it is still the one in memory."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path

import midspan.engine

LOOK_EVERY_S = 5.0
EMBEDDED = Path(midspan.engine.__file__).parent / "checkpoints" / "embedded"
# What an engine reads; a model card or a picture beside it may change at will.
READ = {".json", ".safetensors"}
Prints = dict[str, tuple[int, int, int]]
# Of a large file this much of its beginning and of its end is read for its digest: weights change everywhere.
DIGESTED = 1 << 20


class CheckpointWatch:
    """Tells once that a checkpoint's files have changed since the engine read them; looks only when asked."""

    def __init__(self, checkpoint: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = _path_of(checkpoint)
        self._clock = clock
        self._told = False
        self._next = clock()
        self._read = _prints(self._path)

    def message(self) -> str | None:
        """One line with the fix, the first time that the files are seen to differ. Costs a few `stat`s."""
        if self._told or self._clock() < self._next:
            return None
        self._next = self._clock() + LOOK_EVERY_S
        if _prints(self._path) == self._read:
            return None
        self._told = True
        return f"{self._path} has changed since it was loaded; restart midspan to use what is there now"


def digest_of(checkpoint: str) -> str:
    """What tells a checkpoint from another of its name, in 16 digits; empty where it has no files of its own here."""
    found = hashlib.blake2b(digest_size=8)
    try:
        for path in sorted(_files(_path_of(checkpoint))):
            size = path.stat().st_size
            found.update(f"{path.name} {size} ".encode())
            with path.open("rb") as file:
                found.update(file.read(DIGESTED))
                file.seek(max(file.tell(), size - DIGESTED))
                found.update(file.read(DIGESTED))
    except OSError:
        # Loading tells what is wrong with it.
        return ""
    return found.hexdigest()


def _path_of(checkpoint: str) -> Path:
    return EMBEDDED if checkpoint == "embedded" else Path(checkpoint).expanduser()


def _files(path: Path) -> list[Path]:
    """The files that an engine reads: those of a folder, or a GGUF file with its settings, if it has any."""
    if path.is_dir():
        return [file for file in path.iterdir() if file.suffix in READ]
    settings = path.with_name(f"{path.name}.midspan.json")
    return [path, settings] if settings.exists() else [path]


def _prints(path: Path) -> Prints:
    """Inode, size in bytes and time of change of the files that an engine reads; empty if there are none."""
    prints: Prints = {}
    try:
        for file in _files(path):
            state = file.stat()
            prints[file.name] = (state.st_ino, state.st_size, state.st_mtime_ns)
    except OSError:
        # A file that goes away while we look is a change as well.
        prints.clear()
    return prints
