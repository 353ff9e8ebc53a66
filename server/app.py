"""The language server: every handler, in protocol order; slow work is never in them."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Annotated, BinaryIO

import msgspec
from lsprotocol import types
from pygls.exceptions import FeatureRequestError, JsonRpcInvalidParams
from pygls.lsp.server import LanguageServer

import midspan
from midspan.engine.api import Budget, Fill, Frame
from midspan.server.asks import Asks, Engine
from midspan.server.completion import DID_ACCEPT, Question, answer, question
from midspan.server.documents import Documents, Encoding, Range
from midspan.server.excluded import is_excluded
from midspan.server.judge import load_judged
from midspan.server.languages import is_on, off_because
from midspan.server.logs import log_to
from midspan.server.preview import Preview
from midspan.server.protocol import Protocol, strict_converter
from midspan.server.replaced import Replaced
from midspan.server.settings import (
    ServeOptions,
    Settings,
    SettingsError,
    changed_settings,
    read_settings,
    section_of,
)
from midspan.server.status import State, Status
from midspan.server.telemetry import Telemetry
from midspan.server.trouble import failed_request
from midspan.server.upkeep import follow_settings
from midspan.server.wire import take_stdio

__all__ = ["ServeOptions", "Server", "build", "serve"]

log = logging.getLogger(__name__)

Load = Callable[[str, str], Engine]
CANDIDATES_WHEN_INVOKED = 3
OFFERS_REMEMBERED = 1000
CLOSE_S = 5.0


class _Command(msgspec.Struct, frozen=True):
    command: str
    arguments: list[object] = []


class _Item(msgspec.Struct, frozen=True):
    command: _Command | None = None


class _Shown(msgspec.Struct, frozen=True):
    item: _Item


class _PartiallyAccepted(msgspec.Struct, frozen=True, rename="camel"):
    item: _Item
    accepted_length: Annotated[int, msgspec.Meta(ge=0, le=2**31)]


class Server(LanguageServer):
    """pygls's server with this product's state; all of it belongs to the event loop's thread."""

    protocol: Protocol

    def __init__(self, options: ServeOptions, load: Load) -> None:
        super().__init__("midspan", midspan.__version__, protocol_cls=Protocol, converter_factory=strict_converter)
        self.options = options
        self.settings = Settings()
        self.settings_error: SettingsError | None = None
        self.first_options: object = None
        self.status = Status(self._send_status)
        self.replaced: Replaced | None = None
        self.stuck = False
        self.documents = Documents()
        self.asks = Asks()
        self.engine: Engine | None = None
        self.telemetry: Telemetry | None = None
        self.offered: deque[str] = deque(maxlen=OFFERS_REMEMBERED)
        self._load = load
        self._loading: Future[Engine] | None = None
        self._said: set[str] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def encoding(self) -> Encoding:
        """The encoding of positions that the client and this server agreed on."""
        return types.PositionEncodingKind(self.workspace.position_encoding).value

    @property
    def loading(self) -> bool:
        """Whether a thread is still loading the engine."""
        return self._loading is not None and not self._loading.done()

    async def run(self, stdin: BinaryIO, stdout: BinaryIO) -> int:
        """Serve one client; the process's exit code."""
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(_log_stray)
        try:
            return await self.protocol.serve(stdin, stdout)
        except BrokenPipeError:
            log.error("the client no longer reads; stopping")
            return 1
        finally:
            await self._close()

    async def _close(self) -> None:
        if self._loading is not None and self._loading.done() and self._loading.exception() is None:
            # An engine that hangs must not keep the process.
            closing = threading.Thread(target=self._loading.result().close, daemon=True)
            closing.start()
            await asyncio.to_thread(closing.join, CLOSE_S)
            self.stuck = closing.is_alive()
        if self.telemetry is not None:
            await asyncio.to_thread(self.telemetry.close)

    async def load(self) -> Engine:
        """The engine, loaded on a thread of its own. Raises what loading raises."""
        self.replaced = Replaced(self.options.checkpoint)
        self._loading = ThreadPoolExecutor(1, "midspan-load").submit(
            self._load, self.options.checkpoint, self.options.device
        )
        return await asyncio.shield(asyncio.wrap_future(self._loading))

    def log_once(self, message: str) -> None:
        """Write into the log why nothing comes, unless it has been written before."""
        if message not in self._said:
            self._said.add(message)
            log.info("%s", message)

    def say_once(self, message: str) -> None:
        """Show the user what is wrong, unless it has been said before."""
        if message not in self._said:
            self._said.add(message)
            self.window_show_message(
                types.ShowMessageParams(type=types.MessageType.Error, message=f"midspan: {message}")
            )

    def degrade(self, of: str, message: str) -> None:
        """Say once, and in the status for as long as it lasts, what does not work while the rest goes on."""
        self.status.trouble(of, message)
        self.say_once(message)

    def degrade_from_thread(self, of: str, message: str) -> None:
        """The same from any thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.degrade, of, message)

    def _send_status(self, state: State, message: str) -> None:
        self.protocol.notify("midspan/status", {"state": state, "message": message})

    def lose(self, method: str, params: object) -> None:
        """A notification could not be understood: a document that it was about is left alone from here on."""
        document = params.get("textDocument") if isinstance(params, dict) else None
        uri = document.get("uri") if isinstance(document, dict) else None
        if method in (types.TEXT_DOCUMENT_DID_CHANGE, types.TEXT_DOCUMENT_DID_OPEN) and isinstance(uri, str):
            self.asks.supersede(uri)
            self.documents.lose(uri)

    def report_server_error(self, error: Exception, source: object) -> None:
        """Errors in notifications are said, as nobody is answered; a request's error is in its response."""
        if source is not FeatureRequestError:
            traceback = (getattr(error, "data", None) or {}).get("traceback", [])
            log.error("a notification failed: %s\n%s", error, "".join(traceback))
            self.say_once("a message from the editor could not be handled; open its file again if nothing is offered")


def serve(options: ServeOptions, load: Load = load_judged) -> int:
    """Serve LSP over standard input and output until the client says `exit`; the process's exit code.

    Raises OSError when the log file cannot be written.
    """
    server = build(options, load)
    log_to(options.log_file, lambda message: server.degrade_from_thread("log", message))
    stdin, stdout = take_stdio()
    code = asyncio.run(server.run(stdin, stdout))
    if server.loading or server.stuck:
        # The interpreter cannot end while a thread is inside torch's import: it aborts. Nor while an engine hangs.
        logging.shutdown()
        os._exit(code)
    return code


def build(options: ServeOptions, load: Load = load_judged) -> Server:
    """The server with all its handlers; nothing is loaded before the client has sent `initialized`."""
    server = Server(options, load)
    feature = server.feature
    feature(types.INITIALIZE)(initialize)
    feature(types.INITIALIZED)(initialized)
    feature(types.TEXT_DOCUMENT_DID_OPEN)(did_open)
    feature(types.TEXT_DOCUMENT_DID_CHANGE)(did_change)
    feature(types.TEXT_DOCUMENT_DID_CLOSE)(did_close)
    feature(types.TEXT_DOCUMENT_INLINE_COMPLETION, types.InlineCompletionOptions())(inline_completion)
    feature(types.WORKSPACE_DID_CHANGE_CONFIGURATION)(did_change_configuration)
    feature("textDocument/didShowCompletion")(did_show)
    feature("textDocument/didPartiallyAcceptCompletion")(did_partially_accept)
    server.command(DID_ACCEPT)(did_accept)
    return server


def initialize(server: Server, params: types.InitializeParams) -> None:
    """Read the settings; the engine waits for `initialized`, so that this is answered at once."""
    try:
        server.settings = read_settings(params.initialization_options)
        server.first_options = params.initialization_options
    except SettingsError as error:
        server.settings_error = error


async def initialized(server: Server, _: types.InitializedParams) -> None:
    """Begin, with what the settings say."""
    if server.settings_error is not None:
        log.error("%s", server.settings_error)
        server.degrade("settings", str(server.settings_error))
    await follow_settings(server)


async def did_change_configuration(server: Server, params: types.DidChangeConfigurationParams) -> None:
    """New settings over the first ones; a client that sends none of ours is asked for them, where it can be."""
    section = section_of(params.settings)
    workspace = server.client_capabilities.workspace
    if section is None and workspace is not None and workspace.configuration:
        ours = types.ConfigurationParams([types.ConfigurationItem(section="midspan")])
        section = ((await server.workspace_configuration_async(ours)) or [None])[0]
    elif section is None:
        return
    try:
        server.settings = changed_settings(server.first_options, section)
    except SettingsError as error:
        log.error("%s", error)
        server.degrade("settings", str(error))
        return
    server.status.well("settings")
    await follow_settings(server)


def did_open(server: Server, params: types.DidOpenTextDocumentParams) -> None:
    """A document's text is the client's from here on."""
    server.asks.supersede(params.text_document.uri)
    document = params.text_document
    server.documents.open(document.uri, document.language_id, document.version, document.text)


def did_change(server: Server, params: types.DidChangeTextDocumentParams) -> None:
    """Apply the edits, in the order in which they come; a question about the old text is out of date."""
    uri, version = params.text_document.uri, params.text_document.version
    server.asks.supersede(uri)
    before = server.documents.version(uri)
    if before is None:
        log.warning("ignored a change of a file that is not open")
        server.say_once("the editor changed a file that it had not opened; close the file and open it again")
        return
    if version <= before:
        log.warning("a document went from version %d to %d", before, version)
    changes = [(_span(change), change.text) for change in params.content_changes]
    server.documents.change(uri, version, changes, server.encoding)


def did_close(server: Server, params: types.DidCloseTextDocumentParams) -> None:
    """Forget the document."""
    server.asks.supersede(params.text_document.uri)
    server.documents.close(params.text_document.uri)


def _span(change: types.TextDocumentContentChangeEvent) -> Range | None:
    if isinstance(change, types.TextDocumentContentChangeWholeDocument):
        return None
    start, end = change.range.start, change.range.end
    return (start.line, start.character), (end.line, end.character)


async def inline_completion(
    server: Server, params: types.InlineCompletionParams
) -> list[types.InlineCompletionItem] | None:
    """Null before the engine is loaded, for what it does not know, and when a newer request came; else a list."""
    engine, document = server.engine, server.documents.get(params.text_document.uri)
    if engine is None or document is None:
        return None
    if not is_on(document.language_id, engine.about.languages, server.settings.languages):
        server.log_once(off_because(document.language_id, engine.about.checkpoint, engine.about.languages))
        return None
    if not server.settings.enable or is_excluded(document.uri, server.settings.exclude):
        return None
    asked = question(document, params, server.encoding)
    if asked is None:
        return None
    fill = await _fill(server, engine, asked)
    if fill is None:
        return None
    threshold = server.settings.show_threshold
    if threshold is None:
        threshold = engine.about.show_threshold
    items = []
    for item, offer in answer(asked, fill, threshold, engine.about.checkpoint):
        items.append(item)
        server.offered.append(offer.id)
        if server.telemetry is not None:
            server.telemetry.offered(offer)
    # An empty list takes old ghost text away; Neovim lets it stand after null.
    return items


async def _fill(server: Server, engine: Engine, asked: Question) -> Fill | None:
    """The engine's fill; None when the question went out of date or the engine failed, which the user is told."""
    budget = Budget(
        steps=server.settings.steps,
        candidates=CANDIDATES_WHEN_INVOKED if asked.invoked else 1,
        deadline_s=server.settings.deadline_ms / 1000,
    )
    loop = asyncio.get_running_loop()
    preview = Preview(server.protocol.notify, asked) if server.settings.preview else None

    def on_frame(frame: Frame) -> None:
        if preview is not None:
            loop.call_soon_threadsafe(preview.show, frame)

    if server.replaced is not None and (replaced := server.replaced.message()) is not None:
        server.degrade("checkpoint", replaced)
    try:
        with server.status.work():
            fill = await server.asks.ask(asked.uri, engine, asked.hole, budget, on_frame if preview else None)
    except Exception as error:  # atop a handler
        log.exception("the engine failed on a request")
        server.degrade("engine", failed_request(error))
        return None
    else:
        server.status.well("engine")
        return fill
    finally:
        if preview is not None:
            preview.end()


def did_show(server: Server, params: object) -> None:
    """The client has shown an item."""
    id = _id_of(msgspec.convert(params, _Shown).item)
    if server.telemetry is not None and id in server.offered:
        server.telemetry.shown(id)


def did_partially_accept(server: Server, params: object) -> None:
    """The user has taken the first part of an item."""
    event = msgspec.convert(params, _PartiallyAccepted)
    id = _id_of(event.item)
    if server.telemetry is not None and id in server.offered:
        server.telemetry.partially_accepted(id, event.accepted_length)


def did_accept(server: Server, id: str = "") -> None:
    """The user has taken an item; clients run this as the item's command."""
    if id not in server.offered:
        raise JsonRpcInvalidParams(f"{DID_ACCEPT}: no completion was offered under {id!r}; pass the item's argument")
    if server.telemetry is not None:
        server.telemetry.accepted(id)


def _id_of(item: _Item) -> str:
    """The item's id; empty for another server's item."""
    if item.command is None or item.command.command != DID_ACCEPT or not item.command.arguments:
        return ""
    return str(item.command.arguments[0])


def _log_stray(_: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    # asyncio's own words quote what a task returned: code.
    error = context.get("exception")
    log.error("an error outside any request", exc_info=error if isinstance(error, BaseException) else None)
