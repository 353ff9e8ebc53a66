"""The server's protocol within the test's own process: no pipes and no engine; every answer must be right."""

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
    """One server that is handed its messages; it has no event loop, so nothing is asked of an engine."""

    def __init__(self, state_dir: Path, load: Load = load_with_syntax) -> None:
        self.out = io.BytesIO()
        self.traffic = Traffic()
        self.server = build(ServeOptions(checkpoint="none", device="cpu", state_dir=state_dir, log_file=None), load)
        self.server.protocol.set_writer(StdoutWriter(self.out))

    def send(self, message: Any) -> None:
        """Hand over one message."""
        self.traffic.sent(message)
        self.server.protocol.receive(json.dumps(message).encode())

    def take(self) -> list[Message]:
        """What the server has sent since the last time; all of it must be right."""
        stream = io.BytesIO(self.out.getvalue())
        self.out.seek(0)
        self.out.truncate()
        sent = []
        while (body := read_message(stream)) is not None:
            sent.append(json.loads(body))
            self.traffic.received(sent[-1])
        return sent

    def initialize(self, *encodings: str) -> Message:
        """Initialize; the server's capabilities."""
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
