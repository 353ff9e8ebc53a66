"""A hub on this machine that speaks what its own client asks for: a repository's files, their metadata and bytes."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE = (".gguf", ".safetensors")


@dataclass
class Hub:
    """What a test tells the hub, and what it saw.

    `stop_after` bytes of a file it sends no more, sets `stopped`, and waits until the client has left. `newer` has the
    files that are others by the time they are asked for without a revision.
    """

    repository: str
    files: dict[str, bytes]
    url: str = ""
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    sends: dict[str, bytes] = field(default_factory=dict)
    newer: dict[str, bytes] = field(default_factory=dict)
    refuse: int | None = None
    answer: bytes | None = None
    stop_after: int | None = None
    stopped: threading.Event = field(default_factory=threading.Event)

    def info(self) -> dict[str, object]:
        """A revision's files, as the API lists them."""
        siblings = [{"rfilename": name, "size": len(data), **_large(name, data)} for name, data in self.files.items()]
        return {"id": self.repository, "sha": COMMIT, "siblings": siblings}

    def environment(self, home: Path) -> dict[str, str]:
        """What makes the hub's client ask this one, and keep its cache below `home`."""
        return {"HF_ENDPOINT": self.url, "HF_HOME": str(home / "hf"), "HF_HUB_DISABLE_TELEMETRY": "1"}


def _large(name: str, data: bytes) -> dict[str, object]:
    if not name.endswith(LARGE):
        return {}
    return {"lfs": {"size": len(data), "sha256": hashlib.sha256(data).hexdigest(), "pointerSize": 134}}


class Answer(BaseHTTPRequestHandler):
    """One connection to the hub."""

    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, format: str, *args: object) -> None:
        """Nothing, as a test's output is the client's."""

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        path, hub = urlsplit(self.path).path, self.hub
        hub.asked.append((self.command, path, self.headers.get("Range")))
        if hub.refuse is not None:
            self._send(hub.refuse, b"", {})
        elif path == f"/api/models/{hub.repository}":
            self._send(200, json.dumps(hub.info()).encode() if hub.answer is None else hub.answer, {})
        elif (name := path.rpartition("/")[2]) in hub.files and path.startswith(f"/{hub.repository}/resolve/"):
            newer = hub.newer if "/resolve/main/" in path else {}
            self._file(name, newer.get(name, hub.files[name]), with_body=with_body)
        else:
            self._send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})

    def _file(self, name: str, data: bytes, *, with_body: bool) -> None:
        etag = hashlib.sha256(data).hexdigest() if name.endswith(LARGE) else hashlib.sha1(data).hexdigest()
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT, "X-Linked-Size": str(len(data))}
        sent, status = self.hub.sends.get(name, data), 200
        if (asked := self.headers.get("Range")) is not None:
            first = int(asked.removeprefix("bytes=").rstrip("-"))
            headers["Content-Range"] = f"bytes {first}-{len(sent) - 1}/{len(sent)}"
            sent, status = sent[first:], 206
        self._send(status, sent, headers, with_body=with_body)

    def _send(self, status: int, body: bytes, headers: dict[str, str], *, with_body: bool = True) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if not with_body:
            return
        most = self.hub.stop_after
        if most is None or len(body) <= most:
            self.wfile.write(body)
            return
        self.wfile.write(body[:most])
        self.wfile.flush()
        self.hub.stopped.set()
        # Ends when the client closes the connection.
        self.rfile.read(1)
        self.close_connection = True


@contextmanager
def running(hub: Hub) -> Iterator[Hub]:
    """The hub, listening on a port of its own."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Answer,), {"hub": hub}))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
