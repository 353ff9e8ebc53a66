"""An HTTP/1.1 server on a thread, written by hand: each test says how it answers, and reads what it was asked."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self

WAIT_S = 20.0


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A request, as it came in."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What is sent back: chunks, each as it is; behind them nothing more comes where `hangs`, or the line is cut."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    chunks: Iterable[bytes] = ()
    hangs: bool = False
    breaks: bool = False


def json_reply(found: Any, status: int = 200, **headers: str) -> Reply:
    """A reply of JSON."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(
        status=status, headers={"content-type": "application/json", **named}, chunks=[json.dumps(found).encode()]
    )


def event(found: Any) -> bytes:
    """One server-sent event."""
    return b"data: " + json.dumps(found).encode() + b"\n\n"


Answer = Callable[[Asked], Reply]


class HttpServer:
    """Answers on a port of its own until the context ends; `gone` is set when a client leaves a reply that hangs."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.asked = list[Asked]()
        self.connections = 0
        self._serving = set[asyncio.Task[Any]]()
        self.begun, self.gone = threading.Event(), threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        listening = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(WAIT_S)
        self.url = f"http://127.0.0.1:{listening}"
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(WAIT_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(WAIT_S)
        self._loop.close()

    async def _listen(self) -> int:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def _end(self) -> None:
        self._server.close()
        for task in self._serving:
            task.cancel()
        # A connection that is being accepted is accepted first, and then closed: asyncio would leave its socket open.
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        if not self._server.is_serving():
            task.cancel()
        try:
            while (asked := await _read(reader)) is not None:
                self.asked.append(asked)
                if not await self._send(self._answer(asked), reader, writer):
                    return
        except (ConnectionError, asyncio.IncompleteReadError):
            self.gone.set()
        except asyncio.CancelledError:
            # The test is over.
            return
        finally:
            writer.close()

    async def _send(self, reply: Reply, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Send a reply; whether the connection goes on."""
        lines = [f"HTTP/1.1 {reply.status} {HTTPStatus(reply.status).phrase}", "transfer-encoding: chunked"]
        lines += [f"{name}: {value}" for name, value in reply.headers.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        for chunk in reply.chunks:
            writer.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            await writer.drain()
        self.begun.set()
        if reply.hangs:
            # Nothing more is asked on this connection, so that reading ends when the client closes it.
            await reader.read()
            self.gone.set()
        elif not reply.breaks:
            writer.write(b"0\r\n\r\n")
            await writer.drain()
        return not reply.hangs and not reply.breaks


async def _read(reader: asyncio.StreamReader) -> Asked | None:
    """The next request; None at the connection's end."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *rest = head.decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in rest if line)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Asked(method=method, path=path, headers=headers, body=json.loads(body) if body else None)
