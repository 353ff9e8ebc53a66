"""One process of the indexer: started, spoken to, and watched for as long as it lives."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable

import msgspec

from midspan.server.workspace.messages import LENGTH_BYTES, Finding, Ping, Reading, Request, write

# It is looked at so often. Seen stopped twice it is replaced: a shell that stops an editor stops both of its processes,
# and wakes them at once. One that is silent for so many looks is asked whether it is there, and replaced when it has
# not said so for as many as a machine under load may take at the lowest priority. Looks are counted, and not seconds,
# as this process may have been stopped itself.
LOOK_S, STOPPED_LOOKS, QUIET_LOOKS, SILENT_LOOKS = 1.0, 2, 15, 120
END_S = 2.0
IDLE_PRIORITY: int = getattr(subprocess, "IDLE_PRIORITY_CLASS", 0)  # Windows; elsewhere the process lowers its own
STOPPED, SILENT = "was stopped", "did not answer"


class IndexerProcess:
    """A process that hears requests and tells findings; used on the event loop only."""

    def __init__(self, hear: Callable[[Finding], None], ended: Callable[[IndexerProcess, str], None]) -> None:
        """`hear` gets every finding; `ended` why it is no more, in a few words, unless `stop` has ended it."""
        self.in_hand = ""  # the key of what it reads
        self._hear, self._ended = hear, ended
        self._process: asyncio.subprocess.Process | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._why = ""
        self._silent = 0
        self._asked = False

    @property
    def pid(self) -> int | None:
        """The process's number while it runs."""
        return None if self._process is None or self._process.returncode is not None else self._process.pid

    async def start(self) -> None:
        """Start the process. Raises OSError."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            # -P: nothing is imported from the folder that the editor was started in.
            *("-P", "-m", "midspan.server.workspace.indexer"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            creationflags=IDLE_PRIORITY,
        )
        self._tasks = [asyncio.create_task(work(self._process)) for work in (self._read, self._watch)]

    def send(self, request: Request) -> None:
        """Tell it something; nothing happens where it is no more."""
        if self.pid is not None and self._process is not None and self._process.stdin is not None:
            self._process.stdin.write(write(request))

    async def stop(self) -> None:
        """End it; nobody is told."""
        for task in self._tasks:
            task.cancel()
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            process.kill()
            async with asyncio.timeout(END_S):
                await process.wait()

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        decoder = msgspec.msgpack.Decoder(Finding)
        try:
            while True:
                length = int.from_bytes(await process.stdout.readexactly(LENGTH_BYTES), "big")
                finding: Finding = decoder.decode(await process.stdout.readexactly(length))
                self._silent, self._asked = 0, False
                self.in_hand = finding.key if isinstance(finding, Reading) else ""
                self._hear(finding)
        except asyncio.IncompleteReadError:
            code = await process.wait()
            self._tasks[-1].cancel()
            self._ended(self, self._why or f"ended with code {code}")

    async def _watch(self, process: asyncio.subprocess.Process) -> None:
        stopped = 0
        while process.returncode is None:
            await asyncio.sleep(LOOK_S)
            stopped = stopped + 1 if _is_stopped(process.pid) else 0
            self._silent += 1
            if self._silent >= QUIET_LOOKS and not self._asked:
                self._asked = True
                self.send(Ping())
            if stopped >= STOPPED_LOOKS or self._silent >= SILENT_LOOKS:
                self._why = STOPPED if stopped else SILENT
                if process.returncode is None:
                    process.kill()
                return


def _is_stopped(pid: int) -> bool:
    """Whether a child has been stopped by a signal, where the system can say so."""
    if not hasattr(os, "waitid"):
        return False
    try:
        return os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return False
