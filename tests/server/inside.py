"""A server within the test's own process, without pipes and without an engine; every message it sends is checked."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

from pygls.io_ import StdoutWriter

from midspan.server.app import build
from midspan.server.lsp.stdio import read_message
from midspan.server.session import Load
from midspan.server.settings import ServeOptions
from midspan.server.text.documents import Document
from midspan.server.text.syntax_check import load_with_syntax
from tests.server.raw_client import URI, Message, call
from tests.server.traffic import Traffic


class Inside:
    """One server that receives messages by calls. It has no event loop, so no request reaches an engine."""

    def __init__(self, state_dir: Path, load: Load = load_with_syntax) -> None:
        self.out = io.BytesIO()
        self.traffic = Traffic()
        self.server = build(ServeOptions(checkpoint="none", device="cpu", state_dir=state_dir, log_file=None), load)
        self.server.protocol.set_writer(StdoutWriter(self.out))

    def send(self, message: Any) -> None:
        """Let the server receive one message."""
        self.traffic.sent(message)
        self.server.protocol.receive(json.dumps(message).encode())

    def take(self) -> list[Message]:
        """The messages that the server has sent since the last call; each must match the specification."""
        stream = io.BytesIO(self.out.getvalue())
        self.out.seek(0)
        self.out.truncate()
        sent = []
        while (body := read_message(stream)) is not None:
            sent.append(json.loads(body))
            self.traffic.received(sent[-1])
        return sent

    def initialize(self, *encodings: str) -> Message:
        """Initialize and return the server's capabilities."""
        capabilities = {"general": {"positionEncodings": list(encodings)}} if encodings else {}
        self.send(call(0, "initialize", {"processId": None, "rootUri": None, "capabilities": capabilities}))
        [answer] = self.take()
        found: Message = answer["result"]["capabilities"]
        return found

    def document(self, uri: str = URI) -> Document:
        """An open document."""
        found = self.server.documents.get(uri)
        assert found is not None
        return found
