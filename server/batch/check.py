"""A copy of a tree in which a command is run, within limits of time and memory, to see whether a change is kept.

The limits guard against a wrong text's accidents, not against an attacker: the command runs as the user does.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from midspan.server.commands.errors import CommandError

NOT_FOUND = 127
SAID_BYTES = 2000
# The child limits itself: what runs between fork and exec in a process with threads must not be Python.
LIMITED = """
import os, resource, sys
most = int(sys.argv[1]) << 20
resource.setrlimit(resource.RLIMIT_AS, (most, most))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
os.execv("/bin/sh", ["sh", "-c", sys.argv[2]])
"""
LEFT_OUT = shutil.ignore_patterns(".git", "__pycache__", "node_modules", ".venv", "venv")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Seconds by the clock, and megabytes of address space of each process."""

    seconds: int
    megabytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ran:
    """How a command ended: its exit code, None where its time ran out, and its last line."""

    code: int | None
    said: str


class Scratch:
    """A copy of the tree at `root`: what git tracks or does not ignore; without git, all but a few folders.

    Used as a context, which makes the copy and takes it away. Raises CommandError where the command does not pass in
    the copy as it is.
    """

    def __init__(self, root: Path, command: str, limits: Limits) -> None:
        if sys.platform == "win32":
            raise CommandError("--check limits its command with POSIX means; run it on Linux or macOS")
        self._root, self._command, self._limits = root, command, limits

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            made = tempfile.TemporaryDirectory(prefix="midspan-check-", ignore_cleanup_errors=True)
            self._copy = Path(stack.enter_context(made)) / self._root.name
            _copy_tree(self._root, self._copy)
            self._demand()
            self._open = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def write(self, name: str, data: bytes) -> None:
        """Let a file have other bytes from here on."""
        (self._copy / name).write_bytes(data)

    def first_that_passes(self, name: str, before: bytes, tried: Sequence[bytes]) -> int | None:
        """Which of some contents of a file leaves the command passing, and stays; None, and `before`, if none does."""
        for number, data in enumerate(tried):
            self.write(name, data)
            if self._run().code == 0:
                return number
        self.write(name, before)
        return None

    def _demand(self) -> None:
        ran = self._run()
        if ran.code == NOT_FOUND:
            raise CommandError(f"--check: {ran.said or self._command}; give a command that is on the PATH")
        if ran.code is None:
            raise CommandError(f"--check: over {self._limits.seconds} s with nothing filled; raise --check-seconds")
        if ran.code:
            said = f": {ran.said}" if ran.said else ""
            raise CommandError(f"--check: exit {ran.code} with nothing filled{said}; give a command that passes")

    def _run(self) -> _Ran:
        with tempfile.TemporaryFile() as out:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", LIMITED, str(self._limits.megabytes), self._command],
                cwd=self._copy,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                # A module's second text within a second would be taken for the first one by its size and time.
                env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
                start_new_session=True,
            )
            try:
                code: int | None = process.wait(timeout=self._limits.seconds)
            except subprocess.TimeoutExpired:
                code = None
            finally:
                _end(process)
            return _Ran(code=code, said=_last_line(out.fileno()))


def _copy_tree(root: Path, copy: Path) -> None:
    if not (root / ".git").exists():
        shutil.copytree(root, copy, symlinks=True, ignore=LEFT_OUT)
        return
    command = ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, capture_output=True, check=True).stdout
    except FileNotFoundError as error:
        raise CommandError("--check: no git on the PATH, and the tree is git's; install git") from error
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
        raise CommandError(f"--check: git ls-files fails in {root}: {' '.join(said)}; correct that first") from error
    copy.mkdir()
    for name in map(os.fsdecode, filter(None, listed.split(b"\0"))):
        source = root / name
        # What is deleted is listed still, and a submodule is a folder.
        if source.is_symlink() or source.is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, copy / name, follow_symlinks=False)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill all that the command has started and left behind."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _last_line(file: int) -> str:
    """The end of what was said."""
    size = os.fstat(file).st_size
    said = os.pread(file, SAID_BYTES, max(0, size - SAID_BYTES)).decode("utf-8", "replace").strip()
    return said.splitlines()[-1][:200] if said else ""
