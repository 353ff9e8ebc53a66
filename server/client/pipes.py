"""A server's pipes as pygls's client uses them, timed without the client's own time for JSON."""

from __future__ import annotations

import time
from asyncio import StreamReader, StreamWriter


class Pipes:
    """`sent`: when the newest message to the server began to be written. `came`: when the newest from it had come."""

    def __init__(self, reader: StreamReader, writer: StreamWriter) -> None:
        self.sent = self.came = 0.0  # of time.perf_counter
        self._reader, self._writer = reader, writer

    def write(self, data: bytes) -> None:
        """See pygls.io_.AsyncWriter."""
        self.sent = time.perf_counter()
        self._writer.write(data)

    def close(self) -> None:
        """See pygls.io_.AsyncWriter."""
        self._writer.close()

    async def readline(self) -> bytes:
        """See pygls.io_.AsyncReader."""
        return await self._reader.readline()

    async def readexactly(self, n: int) -> bytes:
        """See pygls.io_.AsyncReader; a message's body."""
        body = await self._reader.readexactly(n)
        self.came = time.perf_counter()
        return body
