"""Kills the server as it acknowledges an acceptance: `benchmarks/kill.py [--kills 200] [--servers 1] [--checkpoint C]`.

A round starts the real server, requests a suggestion, accepts it, and sends SIGKILL as soon as the answer to
`midspan.didAccept` has come. All rounds share one store, and `--servers` of them run at a time. In the end the store
must open and hold every acknowledged acceptance. Prints one JSON object; exits 1 if anything is missing.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from midspan.server.client.typist import server_command
from midspan.server.completion import DID_ACCEPT
from midspan.server.telemetry.schema import FILE_NAME

TEXT = "def add(left, right):\n    return "
POSITION = {"line": 1, "character": 11}
# A round takes seconds; one that takes this long hangs.
ROUND_S = 120.0
INVOKED = 1

Message = dict[str, Any]


class Victim:
    """A server that will be killed; the calling thread sends and reads messages, so that the kill comes at once."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self._last = 0

    def request(self, method: str, params: object) -> Any:
        """The result of a request. Raises EOFError if the server ends."""
        self._last += 1
        self.send({"id": self._last, "method": method, "params": params})
        return self.take(lambda message: "method" not in message and message["id"] == self._last)["result"]

    def notify(self, method: str, params: object) -> None:
        """Send a notification."""
        self.send({"method": method, "params": params})

    def send(self, message: Message) -> None:
        """Send a message."""
        assert self.process.stdin is not None
        body = json.dumps({"jsonrpc": "2.0"} | message).encode()
        self.process.stdin.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        self.process.stdin.flush()

    def take(self, wanted: Any) -> Message:
        """The next message for which `wanted` is true; others are skipped. Raises EOFError if the server ends."""
        stream = self.process.stdout
        assert stream is not None
        while header := stream.readline():
            length = int(header.partition(b":")[2])
            while stream.readline() != b"\r\n":
                pass
            message: Message = json.loads(stream.read(length))
            if wanted(message):
                return message
        raise EOFError("the server ended before it was killed")

    def begin(self) -> None:
        """Initialize, and wait until the model is loaded."""
        options = {"status": True}
        self.request("initialize", {"processId": None, "capabilities": {}, "initializationOptions": options})
        self.notify("initialized", {})
        self.take(lambda message: message.get("method") == "midspan/status" and message["params"]["state"] == "ready")

    def offer(self, uri: str) -> str:
        """Open a new document and request a suggestion; returns its id."""
        document = {"uri": uri, "languageId": "python", "version": 1, "text": TEXT}
        self.notify("textDocument/didOpen", {"textDocument": document})
        where = {"textDocument": {"uri": uri}, "position": POSITION, "context": {"triggerKind": INVOKED}}
        [item, *_] = self.request("textDocument/inlineCompletion", where)
        return str(item["command"]["arguments"][0])

    def accept(self, id: str) -> None:
        """Accept a suggestion; returns once the answer has come."""
        self.request("workspace/executeCommand", {"command": DID_ACCEPT, "arguments": [id]})


@contextmanager
def victim(command: Sequence[str]) -> Iterator[Victim]:
    """A server that has loaded its model; it is killed at the end."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    timer = threading.Timer(ROUND_S, process.kill)
    timer.start()
    try:
        server = Victim(process)
        server.begin()
        yield server
    finally:
        process.kill()
        timer.cancel()
        process.wait()
        for stream in (process.stdin, process.stdout):
            assert stream is not None
            stream.close()


def kill_once(command: Sequence[str], number: int) -> list[str]:
    """One round: ids of one, two or three acknowledged acceptances, the last one right before the kill.

    The last of three in the same second is the most likely to be lost.
    """
    with victim(command) as server:
        ids = [server.offer(f"file:///project/{number}-{offer}.py") for offer in range(1 + number % 3)]
        for id in ids:
            server.accept(id)
        server.process.kill()
    return ids


def kill(command: Sequence[str], state_dir: Path, kills: int, servers: int = 1) -> dict[str, object]:
    """Run `kills` rounds, `servers` at a time; counts the acknowledged acceptances and those that the store lacks."""
    with ThreadPoolExecutor(servers) as rounds:
        acknowledged = [id for ids in rounds.map(partial(kill_once, command), range(kills)) for id in ids]
    with closing(sqlite3.connect(state_dir / FILE_NAME)) as store:
        kept = {id for (id,) in store.execute("SELECT id FROM completion WHERE accepted_ts IS NOT NULL")}
        (sound,) = store.execute("PRAGMA integrity_check").fetchone()
    lost = [id for id in acknowledged if id not in kept]
    return {"kills": kills, "servers": servers, "acknowledged": len(acknowledged), "lost": len(lost), "store": sound}


def main(argv: list[str] | None = None) -> int:
    """Read the command line, run the rounds, print."""
    parser = argparse.ArgumentParser(description="kills the server as it acknowledges an acceptance")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--servers", type=int, default=1, help="how many run at a time, on one store")
    parser.add_argument("--checkpoint", default="embedded")
    arguments = parser.parse_args(argv)
    with TemporaryDirectory() as folder:
        command = [*server_command(arguments.checkpoint, "cpu", None), "--state-dir", folder]
        found = kill(command, Path(folder), arguments.kills, arguments.servers)
    sys.stdout.write(json.dumps(found) + "\n")
    return 1 if found["lost"] or found["store"] != "ok" else 0


if __name__ == "__main__":
    sys.exit(main())
