"""The language server: every handler, in protocol order; slow work is never in them."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Annotated, BinaryIO

import msgspec
from lsprotocol import types
from pygls.exceptions import FeatureRequestError, JsonRpcInvalidParams
from pygls.lsp.server import LanguageServer

import midspan
import midspan.engine
from midspan.engine.api import Budget, CheckpointError, DeviceError, Fill, Frame
from midspan.server.asks import Asks, Engine
from midspan.server.completion import DID_ACCEPT, Question, answer, question
from midspan.server.documents import Documents, Encoding, Range
from midspan.server.preview import Preview
from midspan.server.progress import Progress
from midspan.server.protocol import Protocol, strict_converter
from midspan.server.settings import ServeOptions, Settings, SettingsError, read_settings
from midspan.server.telemetry import Telemetry
from midspan.server.wire import take_stdio

__all__ = ["ServeOptions", "Server", "build", "serve"]

log = logging.getLogger(__name__)

Load = Callable[[str, str], Engine]
CANDIDATES_WHEN_INVOKED = 3
OFFERS_REMEMBERED = 1000


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
        self.documents = Documents()
        self.asks = Asks()
        self.engine: Engine | None = None
        self.telemetry: Telemetry | None = None
        self.offered: deque[str] = deque(maxlen=OFFERS_REMEMBERED)
        self._load = load
        self._loading: Future[Engine] | None = None
        self._said: set[str] = set()

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
        asyncio.get_running_loop().set_exception_handler(_log_stray)
        try:
            return await self.protocol.serve(stdin, stdout)
        except BrokenPipeError:
            log.error("the client no longer reads; stopping")
            return 1
        finally:
            if self._loading is not None and self._loading.done() and self._loading.exception() is None:
                await asyncio.to_thread(self._loading.result().close)
            if self.telemetry is not None:
                await asyncio.to_thread(self.telemetry.close)

    async def load(self) -> Engine:
        """The engine, loaded on a thread of its own. Raises what loading raises."""
        self._loading = ThreadPoolExecutor(1, "midspan-load").submit(
            self._load, self.options.checkpoint, self.options.device
        )
        return await asyncio.shield(asyncio.wrap_future(self._loading))

    def say_once(self, message: str) -> None:
        """Show the user what is wrong, unless it has been said before."""
        if message not in self._said:
            self._said.add(message)
            self.window_show_message(
                types.ShowMessageParams(type=types.MessageType.Error, message=f"midspan: {message}")
            )

    def tell(self, state: str, message: str) -> None:
        """Send `midspan/status` to a client that asked for it."""
        if self.settings.status:
            self.protocol.notify("midspan/status", {"state": state, "message": message})

    def report_server_error(self, error: Exception, source: object) -> None:
        """Errors in notifications are said, as nobody is answered; a request's error is in its response."""
        if source is not FeatureRequestError:
            traceback = (getattr(error, "data", None) or {}).get("traceback", [])
            log.error("a notification failed: %s\n%s", error, "".join(traceback))
            self.say_once("a message from the editor could not be handled; the log says why")


def serve(options: ServeOptions, load: Load = midspan.engine.load) -> int:
    """Serve LSP over standard input and output until the client says `exit`; the process's exit code.

    Raises OSError when the log file cannot be written.
    """
    _log_to(options)
    stdin, stdout = take_stdio()
    server = build(options, load)
    code = asyncio.run(server.run(stdin, stdout))
    if server.loading:
        # The interpreter cannot end while a thread is inside torch's import: it aborts.
        logging.shutdown()
        os._exit(code)
    return code


def build(options: ServeOptions, load: Load = midspan.engine.load) -> Server:
    """The server with all its handlers; nothing is loaded before the client has sent `initialized`."""
    server = Server(options, load)
    feature = server.feature
    feature(types.INITIALIZE)(initialize)
    feature(types.INITIALIZED)(initialized)
    feature(types.TEXT_DOCUMENT_DID_OPEN)(did_open)
    feature(types.TEXT_DOCUMENT_DID_CHANGE)(did_change)
    feature(types.TEXT_DOCUMENT_DID_CLOSE)(did_close)
    feature(types.TEXT_DOCUMENT_INLINE_COMPLETION, types.InlineCompletionOptions())(inline_completion)
    feature("textDocument/didShowCompletion")(did_show)
    feature("textDocument/didPartiallyAcceptCompletion")(did_partially_accept)
    server.command(DID_ACCEPT)(did_accept)
    return server


def initialize(server: Server, params: types.InitializeParams) -> None:
    """Read the settings; the engine waits for `initialized`, so that this is answered at once."""
    try:
        server.settings = read_settings(params.initialization_options)
    except SettingsError as error:
        server.settings_error = error


async def initialized(server: Server, _: types.InitializedParams) -> None:
    """Open the telemetry and load the engine."""
    if server.settings_error is not None:
        log.error("%s", server.settings_error)
        server.say_once(str(server.settings_error))
    if not server.settings.enable:
        return
    if server.settings.telemetry:
        loop = asyncio.get_running_loop()
        server.telemetry = Telemetry(
            server.options.state_dir, lambda message: loop.call_soon_threadsafe(server.say_once, message)
        )
    progress = Progress(server, "midspan: loading the model")
    server.tell("loading", f"loading {server.options.checkpoint}")
    try:
        engine = await server.load()
    except (CheckpointError, DeviceError) as error:
        _load_failed(server, progress, str(error))
    except Exception as error:  # atop a handler
        log.exception("the engine could not be loaded")
        _load_failed(server, progress, f"loading failed ({type(error).__name__}); run `midspan doctor`")
    else:
        # What torch has left in memory stays; going through it again would halt typing for tens of milliseconds.
        gc.freeze()
        server.engine = engine
        progress.end("ready")
        server.tell("ready", f"{engine.about.checkpoint} on {engine.about.device}")


def _load_failed(server: Server, progress: Progress, message: str) -> None:
    log.error("%s", message)
    progress.end("failed")
    server.tell("error", message)
    server.say_once(message)


def did_open(server: Server, params: types.DidOpenTextDocumentParams) -> None:
    """A document's text is the client's from here on."""
    server.asks.supersede(params.text_document.uri)
    document = params.text_document
    server.documents.open(document.uri, document.language_id, document.version, document.text)


def did_change(server: Server, params: types.DidChangeTextDocumentParams) -> None:
    """Apply the edits; a question about the old text is out of date."""
    server.asks.supersede(params.text_document.uri)
    changes = [(_span(change), change.text) for change in params.content_changes]
    server.documents.change(params.text_document.uri, params.text_document.version, changes, server.encoding)


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
    if engine is None or document is None or document.language_id not in engine.about.languages:
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

    try:
        return await server.asks.ask(asked.uri, engine, asked.hole, budget, on_frame if preview else None)
    except Exception:  # atop a handler
        log.exception("the engine failed on a request")
        server.say_once("the engine failed on a request; the log says why")
        return None
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


def _log_to(options: ServeOptions) -> None:
    """Log to the file or to stderr. pygls logs whole messages below ERROR: never those."""
    where = logging.StreamHandler() if options.log_file is None else logging.FileHandler(options.log_file, delay=False)
    logging.basicConfig(
        handlers=[where], level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True
    )
    logging.getLogger("pygls").setLevel(logging.ERROR)


def _log_stray(_: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    # asyncio's own words quote what a task returned: code.
    error = context.get("exception")
    log.error("an error outside any request", exc_info=error if isinstance(error, BaseException) else None)
