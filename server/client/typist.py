"""A client that types through the real server process over stdio, key by key, and times every answer."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from lsprotocol import types
from pygls.exceptions import JsonRpcException
from pygls.io_ import run_async
from pygls.lsp.client import LanguageClient

import midspan.engine
from midspan.engine.api import About
from midspan.server.client.pipes import Pipes
from midspan.server.commands.errors import CommandError
from midspan.server.statistics import quantile

CANCEL_AFTER_S = 0.02
PATIENCE_S = 120.0


class _Client(LanguageClient):
    """pygls's client, extended by why the server ended."""

    def __init__(self) -> None:
        super().__init__("midspan-bench", "1")
        self.news: asyncio.Queue[tuple[str, str]] = asyncio.Queue()  # (state, message) of midspan/status
        self.process: asyncio.subprocess.Process | None = None

    async def start_io(self, cmd: str, *args: str, **kwargs: Any) -> None:
        """Start the server behind timed pipes."""
        pipe = asyncio.subprocess.PIPE
        self._server = self.process = server = await asyncio.create_subprocess_exec(
            cmd, *args, stdin=pipe, stdout=pipe, stderr=pipe, **kwargs
        )
        assert server.stdout is not None
        assert server.stdin is not None
        self.pipes = Pipes(server.stdout, server.stdin)
        self.protocol.set_writer(self.pipes)
        reading = run_async(self._stop_event, self.pipes, self.protocol, error_handler=self.report_server_error)
        ending = self._server_exit()  # type: ignore[no-untyped-call]
        self._async_tasks.extend([asyncio.create_task(reading), asyncio.create_task(ending)])

    async def ask(self, params: types.InlineCompletionParams) -> tuple[Any, float]:
        """A request's answer, and the milliseconds that it took on the pipes."""
        took = list[float]()
        answer = self.protocol.send_request(types.TEXT_DOCUMENT_INLINE_COMPLETION, params)
        sent = self.pipes.sent
        # Called before anything else is read.
        answer.add_done_callback(lambda _: took.append(1000 * (self.pipes.came - sent)))
        return await asyncio.wait_for(asyncio.wrap_future(answer), PATIENCE_S), took[0]

    async def stop(self) -> None:
        """Stop; a server that still runs is killed."""
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
        await LanguageClient.stop(self)

    async def server_exit(self, server: asyncio.subprocess.Process) -> None:
        """Keep the server's last line: it is its error."""
        assert server.stderr is not None
        words = (await server.stderr.read()).decode(errors="replace").strip().splitlines()
        self.news.put_nowait(("error", words[-1] if words else f"the server ended with exit code {server.returncode}"))


def about_of(checkpoint: str, device: str) -> About:
    """A loaded engine's own description. Raises CheckpointError or DeviceError."""
    engine = midspan.engine.load(checkpoint, device)
    engine.close()
    return engine.about


def reads_workspace(about: About) -> bool:
    """Whether an engine uses other files than the gap's."""
    return about.reads_other_lines or about.context_tokens > 0


class Typist:
    """One client of one server process; columns are code points."""

    def __init__(self, client: _Client) -> None:
        self._client = client
        self._version = 0
        self._folder: types.WorkspaceFolder | None = None
        self.start_ms = self.initialize_ms = 0.0  # from the process's start to its first answer; of `initialize`
        self.responses: dict[str, float] = {}  # milliseconds by completion id, of its first answer
        self.typed_along_ms: list[float] = []  # of answers under an id that was there before: from memory
        self.all_ms: list[float] = []

    @property
    def process(self) -> int:
        """The server's process id."""
        assert self._client.process is not None
        return self._client.process.pid

    def open(self, uri: str, text: str, language: str = "python") -> None:
        """Open a document."""
        item = types.TextDocumentItem(uri=uri, language_id=language, version=0, text=text)
        self._client.text_document_did_open(types.DidOpenTextDocumentParams(text_document=item))

    async def read(self, uri: str, text: str) -> None:
        """Open a document and wait for its first answer, which is not counted."""
        self.open(uri, text)
        await self._client.ask(_params(uri, types.Position(0, 0)))

    async def heard(self) -> None:
        """Wait until the server has handled all that was sent, by a request that it does not know."""
        await _refused(self._client)

    async def open_folder(self, folder: Path) -> None:
        """Replace the open folder, and wait until the server has read its files.

        Raises CommandError if the server says why it cannot.
        """
        removed = [self._folder] if self._folder is not None else []
        self._folder = types.WorkspaceFolder(uri=folder.as_uri(), name=folder.name)
        event = types.WorkspaceFoldersChangeEvent(added=[self._folder], removed=removed)
        self._client.workspace_did_change_workspace_folders(types.DidChangeWorkspaceFoldersParams(event=event))
        state = message = ""
        while "workspace read" not in message:
            async with asyncio.timeout(PATIENCE_S):
                state, message = await self._client.news.get()
            if state == "error":
                raise CommandError(message.removeprefix("midspan: "))

    def close(self, uri: str) -> None:
        """Close a document."""
        document = types.TextDocumentIdentifier(uri=uri)
        self._client.text_document_did_close(types.DidCloseTextDocumentParams(text_document=document))

    def replace(self, uri: str, row: int, start: int, end: int, text: str) -> None:
        """Replace columns of one line."""
        self._version += 1
        span = types.Range(types.Position(row, start), types.Position(row, end))
        self._client.text_document_did_change(
            types.DidChangeTextDocumentParams(
                text_document=types.VersionedTextDocumentIdentifier(uri=uri, version=self._version),
                content_changes=[types.TextDocumentContentChangePartial(range=span, text=text)],
            )
        )

    async def complete(self, uri: str, at: types.Position) -> tuple[str, str]:
        """Ask for a completion; its id and text, empty if nothing was offered."""
        item = await self.ask(uri, at)
        return ("", "") if item is None else (identify(item), str(item.insert_text))

    async def ask(self, uri: str, at: types.Position, *, invoked: bool = False) -> types.InlineCompletionItem | None:
        """Ask for a completion, as a key does or explicitly; the first item, or None if nothing was offered."""
        answer, elapsed = await self._client.ask(_params(uri, at, invoked=invoked))
        self.all_ms.append(elapsed)
        items = answer.items if isinstance(answer, types.InlineCompletionList) else answer or ()
        if not items:
            return None
        if (id := identify(items[0])) in self.responses:
            self.typed_along_ms.append(elapsed)
        else:
            self.responses[id] = elapsed
        return items[0]

    def say_shown(self, item: types.InlineCompletionItem) -> None:
        """Tell the server that the item is on screen."""
        self._client.protocol.notify("textDocument/didShowCompletion", {"item": item})

    def say_part(self, item: types.InlineCompletionItem, length: int) -> None:
        """Tell the server that so many UTF-16 units from the item's beginning stand now."""
        told = {"item": item, "acceptedLength": length}
        self._client.protocol.notify("textDocument/didPartiallyAcceptCompletion", told)

    async def say_accepted(self, item: types.InlineCompletionItem) -> None:
        """Run the item's command, as a client does when the item is taken."""
        assert item.command is not None
        params = types.ExecuteCommandParams(item.command.command, item.command.arguments)
        await asyncio.wait_for(self._client.workspace_execute_command_async(params), PATIENCE_S)

    def trouble(self) -> str | None:
        """What the server says does not work, in its newest status since the last call; None if all is well."""
        state, message = "ready", ""
        while not self._client.news.empty():
            state, message = self._client.news.get_nowait()
        return message if state in ("degraded", "error") else None

    async def actions(self, uri: str, span: types.Range) -> list[str]:
        """The titles of the code actions that are offered for a span."""
        params = types.CodeActionParams(
            text_document=types.TextDocumentIdentifier(uri=uri),
            range=span,
            context=types.CodeActionContext(diagnostics=[]),
        )
        found = await asyncio.wait_for(self._client.text_document_code_action_async(params), PATIENCE_S)
        return [one.title for one in found or ()]

    async def cancel(self, uri: str, at: types.Position, id: str) -> float | None:
        """Ask, then cancel while the engine works; milliseconds from the cancel to the answer.

        None if the answer came before the cancel.
        """
        future = asyncio.wrap_future(
            self._client.protocol.send_request("textDocument/inlineCompletion", _params(uri, at), msg_id=id)
        )
        await asyncio.wait({future}, timeout=CANCEL_AFTER_S)
        began = time.perf_counter()
        if not future.done():
            self._client.cancel_request(types.CancelParams(id=id))
        try:
            await asyncio.wait_for(future, PATIENCE_S)
        except JsonRpcException as error:
            if error.code != types.LSPErrorCodes.RequestCancelled:
                raise CommandError(f"a cancelled request was answered with error {error.code}; report this") from error
            return 1000 * (time.perf_counter() - began)
        return None

    def peak_rss_mb(self) -> float | None:
        """The server's peak resident memory so far, see `peak_rss_mb`."""
        assert self._client.process is not None
        return peak_rss_mb(self._client.process.pid)


def peak_rss_mb(process: int) -> float | None:
    """The peak resident memory of a running process in MB of 10^6 bytes (Linux's VmHWM); None on other systems."""
    if sys.platform != "linux":
        return None
    status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    (kib,) = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
    return round(int(kib) * 1024 / 1e6, 1)


def identify(item: types.InlineCompletionItem) -> str:
    """The server's own id of an item."""
    assert item.command is not None
    assert item.command.arguments is not None
    return str(item.command.arguments[0])


@asynccontextmanager
async def typing(serve: Sequence[str], options: Mapping[str, object]) -> AsyncIterator[Typist]:
    """A typist whose server has loaded its model; `options` are initializationOptions.

    Raises CommandError if the server says why it cannot load.
    """
    client = _Client()

    def on_status(params: Any) -> None:
        client.news.put_nowait((params.state, params.message))

    began = time.perf_counter()
    client.feature("midspan/status")(on_status)
    client.feature(types.WINDOW_SHOW_MESSAGE)(lambda _: None)
    await client.start_io(*serve)
    assert client.process is not None
    try:
        typist = Typist(client)
        typist.start_ms = await _listening(client, began)
        typist.initialize_ms = await _ready(client, options)
        yield typist
        await asyncio.wait_for(client.shutdown_async(None), PATIENCE_S)
        client.exit(None)
        await asyncio.wait_for(client.process.wait(), PATIENCE_S)
    finally:
        await client.stop()


async def _listening(client: _Client, began: float) -> float:
    """Milliseconds until the server answers: an error, as nothing may be asked before `initialize`."""
    await _refused(client)
    return 1000 * (time.perf_counter() - began)


async def _refused(client: _Client) -> None:
    """Send a request that no server knows, and wait for the error. Raises CommandError if none comes."""
    asked = asyncio.wrap_future(client.protocol.send_request("midspan/unknown", None))
    await asyncio.wait({asked}, timeout=PATIENCE_S)
    if not asked.done():
        asked.cancel()
        raise CommandError(f"the server did not answer within {PATIENCE_S:.0f} s; run midspan doctor")
    asked.exception()


async def _ready(client: _Client, options: Mapping[str, object]) -> float:
    """Wait for the model; returns the milliseconds that `initialize` took."""
    encodings = types.GeneralClientCapabilities(position_encodings=[types.PositionEncodingKind.Utf32])
    params = types.InitializeParams(
        capabilities=types.ClientCapabilities(general=encodings),
        # What is measured is this machine's model, whatever engines the user has configured.
        initialization_options={"privacy": "in_process", **options, "status": True},
    )
    began = time.perf_counter()
    asked = asyncio.ensure_future(client.initialize_async(params))
    await asyncio.wait({asked}, timeout=PATIENCE_S)
    took = 1000 * (time.perf_counter() - began)
    if asked.done() and asked.exception() is None:
        client.initialized(types.InitializedParams())
    state, message = "loading", ""
    while state == "loading":
        # Tens of gigabytes take as long as the disk does; a server that ends says so.
        state, message = await client.news.get()
    if state != "ready":
        raise CommandError(message.removeprefix("midspan: "))
    return took


def _params(uri: str, at: types.Position, *, invoked: bool = False) -> types.InlineCompletionParams:
    kinds = types.InlineCompletionTriggerKind
    return types.InlineCompletionParams(
        context=types.InlineCompletionContext(trigger_kind=kinds.Invoked if invoked else kinds.Automatic),
        text_document=types.TextDocumentIdentifier(uri=uri),
        position=at,
    )


def server_command(checkpoint: str, device: str, log_file: Path | None) -> list[str]:
    """The server's command line without its state folder; with a log file, stderr has its last line alone."""
    log = str(log_file or os.devnull)
    serve = [sys.executable, "-m", "midspan.server", "serve", "--log-file", log]
    return [*serve, "--checkpoint", checkpoint, "--device", device]


def percentiles(values: Sequence[float]) -> dict[str, float] | None:
    """p50, p95 and p99 of milliseconds; None for none."""
    if not values:
        return None
    return {name: round(quantile(values, share), 2) for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))}
