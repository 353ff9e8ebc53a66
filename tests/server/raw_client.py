"""A client that writes raw bytes: for messages that a client library cannot send, and for counting every answer."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.server.traffic import Traffic

WAIT_S = 60
URI = "file:///project/a.py"

Message = dict[str, Any]


class RawClient:
    """One server process. Each of its messages is checked against the specification and kept until a test takes it.

    At the end no messages may be left but status changes, and no request may be unanswered. `seen` holds all messages
    of the server, in order.
    """

    def __init__(self, command: list[str]) -> None:
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self._inbox: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self.traffic = Traffic()
        self.kept: list[Message] = []
        self.seen: list[Message] = []
        self._errors: list[bytes] = []
        self._threads = [threading.Thread(target=self._read), threading.Thread(target=self._read_errors)]
        for thread in self._threads:
            thread.start()

    @property
    def stderr(self) -> str:
        """The server's stderr; complete once the process has ended."""
        return b"".join(self._errors).decode()

    def write(self, data: bytes) -> None:
        """Send bytes without change."""
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def send(self, *messages: Message) -> None:
        """Send messages in one write."""
        for message in messages:
            self.traffic.sent(message)
        self.write(b"".join(framed(message) for message in messages))

    def request(self, id: int, method: str, params: Any = None) -> Message:
        """Send a request and take its answer."""
        self.send(call(id, method, params))
        return self.answer(id)

    def exchange(self, message: Message) -> Message:
        """Send a request that is already encoded, and take its answer."""
        self.send(message)
        return self.answer(message["id"])

    def ask(self, message: Message) -> list[str] | None:
        """Request inline completion, and return the texts of the items."""
        return items(self.exchange(message))

    def history(self) -> Any:
        """The holes that the scripted engine was given, and whether torch had been imported when it was loaded."""
        # The names that JSON has and Python has not are defined here, so that no validator objects.
        self.open("true = false = null = 0\nhistory = ", uri="file:///history.py")
        [text] = self.ask(complete(9998, 1, 10, uri="file:///history.py")) or []
        return json.loads(text)

    def answer(self, id: int | None) -> Message:
        """Take the answer to this request."""
        return self.take(lambda message: "method" not in message and message.get("id") == id)

    def notification(self, method: str) -> Any:
        """Take the next message with this method, and return its params."""
        return self.take(lambda message: message.get("method") == method)["params"]

    def take(self, wanted: Callable[[Message], bool]) -> Message:
        """Take the first message that `wanted` accepts; messages before it are kept."""
        for message in self.kept:
            if wanted(message):
                self.kept.remove(message)
                return message
        while (sent := self._next()) is not None:
            if wanted(sent):
                return sent
            self.kept.append(sent)
        raise AssertionError(f"the server ended; it had sent {self.kept}; stderr: {self.stderr}")

    def _next(self) -> Message | None:
        """The next message, which must match the specification; None when the server has ended."""
        message = self._inbox.get(timeout=WAIT_S)
        if message is not None:
            self.traffic.received(message)
        return message

    def state(self, wanted: str) -> str:
        """Take status changes up to this state, and return its message."""
        while (news := self.notification("midspan/status"))["state"] != wanted:
            pass
        message: str = news["message"]
        return message

    def initialize(self, options: Any = None, capabilities: Message | None = None, root: Path | None = None) -> Message:
        """Initialize, in a folder if one is given, and return the result."""
        uri = None if root is None else root.as_uri()
        params = {"processId": None, "rootUri": uri, "capabilities": capabilities or {}}
        result: Message = self.request(
            0, "initialize", params | ({} if options is None else {"initializationOptions": options})
        )["result"]
        return result

    def start(self, options: Message | None = None, root: Path | None = None) -> None:
        """Initialize and wait until the engine is loaded."""
        self.initialize({"status": True} | (options or {}), root=root)
        self.send(call(None, "initialized", {}))
        assert self.notification("midspan/status")["state"] == "loading"
        assert self.notification("midspan/status")["state"] == "ready"

    def open(self, text: str, uri: str = URI, version: int = 1, language: str = "python") -> None:
        """Open a document."""
        document = {"uri": uri, "languageId": language, "version": version, "text": text}
        self.send(call(None, "textDocument/didOpen", {"textDocument": document}))

    def leave(self) -> int:
        """Shut down, exit, and return the exit code. No message of the server may be left."""
        assert self.request(9999, "shutdown")["result"] is None
        self.send(call(None, "exit"))
        return self.ended()

    def ended(self) -> int:
        """Wait for the process to end, and return the exit code. No messages may be left but status changes."""
        code = self.process.wait(WAIT_S)
        for thread in self._threads:
            thread.join(WAIT_S)
        while (message := self._next()) is not None:
            self.kept.append(message)
        assert [message for message in self.kept if message.get("method") != "midspan/status"] == []
        assert self.traffic.waiting == {}
        return code

    def _read(self) -> None:
        stream = self.process.stdout
        assert stream is not None
        while line := stream.readline():
            name, _, length = line.partition(b": ")
            assert name == b"Content-Length", line
            while stream.readline() != b"\r\n":
                pass
            message = json.loads(stream.read(int(length)))
            self.seen.append(message)
            self._inbox.put(message)
        self._inbox.put(None)

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._errors.append(line)


def command(state_dir: Path, *arguments: str) -> list[str]:
    """The command line of the server with the scripted engine."""
    script = Path(__file__).with_name("scripted_serve.py")
    return [sys.executable, "-W", "error", str(script), "--state-dir", str(state_dir), *arguments]


@contextmanager
def connected(state_dir: Path, *arguments: str) -> Iterator[RawClient]:
    """A server with the scripted engine, which is killed if it still runs after the test."""
    with talking_to(command(state_dir, *arguments)) as client:
        yield client


@contextmanager
def talking_to(server: list[str]) -> Iterator[RawClient]:
    """The same with any command that serves."""
    client = RawClient(server)
    try:
        yield client
    finally:
        client.process.kill()
        client.process.wait(WAIT_S)
        for stream in (client.process.stdin, client.process.stdout, client.process.stderr):
            assert stream is not None
            stream.close()


def framed(message: Message) -> bytes:
    """A message with its header."""
    body = json.dumps(message).encode()
    return b"Content-Length: %d\r\n\r\n" % len(body) + body


def call(id: int | None, method: str, params: Any = None) -> Message:
    """A request, or a notification if `id` is None."""
    message: Message = {"jsonrpc": "2.0", "method": method}
    if id is not None:
        message["id"] = id
    return message if params is None else message | {"params": params}


def complete(
    id: int, line: int, character: int, uri: str = URI, invoked: bool = False, selected: Message | None = None
) -> Message:
    """A request for inline completion."""
    context: Message = {"triggerKind": 1 if invoked else 2}
    if selected is not None:
        context["selectedCompletionInfo"] = selected
    where = {"textDocument": {"uri": uri}, "position": {"line": line, "character": character}}
    return call(id, "textDocument/inlineCompletion", where | {"context": context})


def change(text: str, version: int, uri: str = URI) -> Message:
    """A notification that replaces a document's whole text."""
    document = {"uri": uri, "version": version}
    return call(None, "textDocument/didChange", {"textDocument": document, "contentChanges": [{"text": text}]})


def items(answer: Message) -> list[str] | None:
    """The texts of an answer's items."""
    found = answer["result"]
    return None if found is None else [item["insertText"] for item in found]
