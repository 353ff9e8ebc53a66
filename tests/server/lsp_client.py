"""pytest-lsp's client with inline completion; our own notifications are kept until a test takes them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from lsprotocol import types
from lsprotocol.converters import get_converter
from pytest_lsp.client import LanguageClient, register_lsp_features
from pytest_lsp.protocol import LanguageClientProtocol

from tests.server.raw_client import WAIT_S, command
from tests.server.traffic import Traffic

URI = "file:///project/a.py"


class Checked(LanguageClientProtocol):
    """The client's protocol, which checks every message of the server against the specification."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)  # type: ignore[no-untyped-call]
        self.traffic = Traffic()
        self.problems: list[str] = []

    def structure_message(self, data: dict[str, Any]) -> Any:
        """Check a message before it is parsed. Called for every object of a message, from the inside out."""
        if "jsonrpc" in data:
            try:
                self.traffic.received(data)
            except AssertionError as problem:
                self.problems.append(str(problem))
        return super().structure_message(data)

    def _send_data(self, data: Any) -> None:
        self.traffic.sent(json.loads(json.dumps(data, default=self._serialize_message)))
        super()._send_data(data)


class Client(LanguageClient):
    """A client of the server with the scripted engine. At the end no messages may be left but status changes."""

    protocol: Checked

    def __init__(self) -> None:
        super().__init__(protocol_cls=Checked, converter_factory=get_converter)
        self.inbox: dict[str, asyncio.Queue[Any]] = {}
        register_lsp_features(self)
        for method in ("midspan/status", "midspan/frame"):
            self.inbox[method] = asyncio.Queue()
            self.feature(method)(partial(self.inbox[method].put_nowait))

    async def take(self, method: str) -> Any:
        """Take the oldest notification with this method, and return its params."""
        return await asyncio.wait_for(self.inbox[method].get(), WAIT_S)

    def open(self, text: str, uri: str = URI, language: str = "python") -> None:
        """Open a document."""
        item = types.TextDocumentItem(uri=uri, language_id=language, version=1, text=text)
        self.text_document_did_open(types.DidOpenTextDocumentParams(item))

    async def complete(
        self,
        line: int,
        character: int,
        *,
        uri: str = URI,
        invoked: bool = False,
        selected: types.SelectedCompletionInfo | None = None,
    ) -> list[types.InlineCompletionItem]:
        """Request inline completion; null becomes no items."""
        request = self.text_document_inline_completion_async(request_params(line, character, uri, invoked, selected))
        answer = await asyncio.wait_for(request, WAIT_S)
        assert not isinstance(answer, types.InlineCompletionList)
        return list(answer or [])

    async def execute(self, command: str, *arguments: Any) -> Any:
        """Run a command of the server."""
        params = types.ExecuteCommandParams(command, list(arguments))
        return await asyncio.wait_for(self.workspace_execute_command_async(params), WAIT_S)


def request_params(
    line: int,
    character: int,
    uri: str = URI,
    invoked: bool = False,
    selected: types.SelectedCompletionInfo | None = None,
) -> types.InlineCompletionParams:
    """The params of a request for inline completion."""
    kinds = types.InlineCompletionTriggerKind
    context = types.InlineCompletionContext(kinds.Invoked if invoked else kinds.Automatic, selected)
    return types.InlineCompletionParams(context, types.TextDocumentIdentifier(uri), types.Position(line, character))


def capabilities(*encodings: types.PositionEncodingKind) -> types.ClientCapabilities:
    """Capabilities of an editor with inline completion and progress."""
    inline = types.InlineCompletionClientCapabilities(dynamic_registration=True)
    return types.ClientCapabilities(
        text_document=types.TextDocumentClientCapabilities(inline_completion=inline),
        window=types.WindowClientCapabilities(work_done_progress=True),
        general=types.GeneralClientCapabilities(position_encodings=encodings or None),
    )


@asynccontextmanager
async def session(
    state_dir: Path,
    *encodings: types.PositionEncodingKind,
    arguments: tuple[str, ...] = (),
    editor: str = "an editor",
    **options: Any,
) -> AsyncIterator[Client]:
    """A session with a loaded engine; at the end the server is shut down and must exit properly."""
    client = Client()
    await client.start_io(*command(state_dir, *arguments))
    try:
        params = types.InitializeParams(
            capabilities(*encodings),
            client_info=types.ClientInfo(editor),
            initialization_options={"status": True} | options,
        )
        await asyncio.wait_for(client.initialize_session(params), WAIT_S)
        assert (await client.take("midspan/status"))["state"] == "loading"
        assert (await client.take("midspan/status"))["state"] in ("ready", "degraded")
        yield client
        await asyncio.wait_for(client.shutdown_session(), WAIT_S)
        assert client.error is None
        assert client._server is not None
        assert client._server.returncode == 0
        assert client.inbox["midspan/frame"].empty()
        assert not client.messages
        assert not client.log_messages
        assert client.protocol.traffic.waiting == {}
    finally:
        assert client._server is not None
        if client._server.returncode is None:
            client._server.kill()
        await asyncio.wait_for(client.stop(), WAIT_S)  # type: ignore[no-untyped-call]
        assert client.protocol.problems == []
