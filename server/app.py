"""The language server: every handler, in protocol order; slow work is never in them."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import BinaryIO

from lsprotocol import types
from pygls.exceptions import FeatureRequestError
from pygls.lsp.server import LanguageServer

import midspan
import midspan.engine
from midspan.engine.api import OnProgress
from midspan.server.checkpoint_watch import Replaced
from midspan.server.client_events import OfferedIds, accepted, partially_accepted, shown
from midspan.server.code_actions import register_rewriting
from midspan.server.completion import DID_ACCEPT
from midspan.server.context.context import Context
from midspan.server.context.diagnostics import DIAGNOSTICS, diagnosed
from midspan.server.inline_completion import items_for, plan_ahead
from midspan.server.lifecycle import begin, follow_change
from midspan.server.lsp.jsonrpc import NO_VERSION, Protocol, strict_converter
from midspan.server.lsp.logs import log_to
from midspan.server.lsp.scheduling import wake_soon
from midspan.server.lsp.status import State, Status
from midspan.server.lsp.stdio import take_stdio
from midspan.server.lsp.trigger_kinds import TriggerKinds
from midspan.server.requests import Asks, Engine
from midspan.server.settings import ServeOptions, read_settings
from midspan.server.suggestions import Suggestions
from midspan.server.telemetry import Telemetry
from midspan.server.text.documents import Document, Documents, Encoding, Range
from midspan.server.text.reparse import Idle
from midspan.server.text.syntax_check import load_judged
from midspan.server.upkeep import follow_folders, follow_rules, watch_rules

__all__ = ["ServeOptions", "Server", "build", "serve"]

log = logging.getLogger(__name__)

Load = Callable[[str, str, OnProgress], Engine]
CLOSE_S = 5.0
# So long the engine's thread may keep the event loop from the interpreter; Python's own 5 ms are felt in an answer.
SWITCH_S = 0.0005


class Server(LanguageServer):
    """pygls's server with this product's state; all of it belongs to the event loop's thread."""

    protocol: Protocol

    def __init__(self, options: ServeOptions, load: Load) -> None:
        super().__init__("midspan", midspan.__version__, protocol_cls=Protocol, converter_factory=strict_converter)
        self.options = options
        self.first = read_settings(None)
        self.settings = self.first.settings
        self.news = 0  # how often the client has said that settings changed
        self.client_name = ""
        self.trigger_kinds = TriggerKinds()
        self.folders_changed = False
        self.status = Status(self._send_status)
        self.replaced: Replaced | None = None
        self.stuck = False
        self.documents = Documents()
        self.context = Context(self.documents, tell=self.status.add)
        self.asks = Asks()
        self.idle = Idle(self.documents, lambda: self.asks.busy)
        self.engine: Engine | None = None
        self.telemetry: Telemetry | None = None
        self.suggestions = Suggestions()
        self.offered = OfferedIds()
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
        log.info("keystrokes %s", "get a core at once" if wake_soon() else "wait for a core as others do")
        self.idle.start()
        try:
            return await self.protocol.serve(stdin, stdout)
        except BrokenPipeError:
            log.error("the client no longer reads; stopping")
            return 1
        finally:
            await self._close()

    async def _close(self) -> None:
        self.idle.stop()
        self.asks.supersede_all()
        await self.context.close()
        if self._loading is not None and self._loading.done() and self._loading.exception() is None:
            # An engine that hangs must not keep the process.
            closing = threading.Thread(target=self._loading.result().close, daemon=True)
            closing.start()
            await asyncio.to_thread(closing.join, CLOSE_S)
            self.stuck = closing.is_alive()
        if self.telemetry is not None:
            await asyncio.to_thread(self.telemetry.close)

    async def load(self, progress: OnProgress) -> Engine:
        """The engine, loaded on a thread of its own, which tells `progress`. Raises what loading raises."""
        self.replaced = Replaced(self.options.checkpoint)
        self._loading = ThreadPoolExecutor(1, "midspan-load").submit(
            self._load, self.options.checkpoint, self.options.device, progress
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
            self.suggestions.forget(uri)
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
    midspan.engine.prepare()
    server = build(options, load)
    log_to(options.log_file, lambda message: server.degrade_from_thread("log", message), debug=options.debug)
    sys.setswitchinterval(SWITCH_S)
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
    feature(types.TEXT_DOCUMENT_DID_SAVE)(did_save)
    feature(types.TEXT_DOCUMENT_DID_CLOSE)(did_close)
    feature(types.TEXT_DOCUMENT_INLINE_COMPLETION, types.InlineCompletionOptions())(inline_completion)
    feature(types.WORKSPACE_DID_CHANGE_CONFIGURATION)(did_change_configuration)
    feature(types.WORKSPACE_DID_CHANGE_WORKSPACE_FOLDERS)(did_change_workspace_folders)
    feature(types.WORKSPACE_DID_CHANGE_WATCHED_FILES)(did_change_watched_files)
    feature(DIAGNOSTICS)(did_diagnose)
    feature("textDocument/didShowCompletion")(did_show)
    feature("textDocument/didPartiallyAcceptCompletion")(did_partially_accept)
    server.command(DID_ACCEPT)(did_accept)
    register_rewriting(server)
    return server


def initialize(server: Server, params: types.InitializeParams) -> None:
    """Read the settings; the engine waits for `initialized`, so that this is answered at once."""
    server.client_name = "" if params.client_info is None else params.client_info.name
    server.trigger_kinds.meet(params)
    server.first = read_settings(params.initialization_options)
    server.settings = server.first.settings


async def initialized(server: Server, _: types.InitializedParams) -> None:
    """Begin, with what the settings say."""
    server.protocol.warm()
    watch_rules(server)
    await begin(server)


async def did_change_configuration(server: Server, params: types.DidChangeConfigurationParams) -> None:
    """New settings over the first ones."""
    await follow_change(server, params.settings)


async def did_change_workspace_folders(server: Server, _: types.DidChangeWorkspaceFoldersParams) -> None:
    """Folders were opened or closed, as pygls has noted: their files come into the prompts, or leave them."""
    server.folders_changed = True
    await follow_folders(server)


def did_change_watched_files(server: Server, params: types.DidChangeWatchedFilesParams) -> None:
    """Files have changed on disk; git's rules count at once."""
    follow_rules(server, [change.uri for change in params.changes])


def did_open(server: Server, params: types.DidOpenTextDocumentParams) -> None:
    """A document's text is the client's from here on."""
    document = params.text_document
    server.asks.supersede(document.uri)
    server.suggestions.forget(document.uri)
    server.documents.open(document.uri, document.language_id, document.version, document.text)
    server.context.opened(document.uri)
    server.idle.edited(document.uri)


def did_change(server: Server, params: types.DidChangeTextDocumentParams) -> None:
    """Apply the edits, in the order in which they come; a question about the old text is out of date."""
    uri, version = params.text_document.uri, params.text_document.version
    server.asks.supersede(uri)
    before = server.documents.version(uri)
    if before is None:
        log.warning("ignored a change of a file that is not open")
        server.say_once("the editor changed a file that it had not opened; close the file and open it again")
        return
    if version == NO_VERSION:
        version = before + 1
    elif version <= before:
        log.warning("a document went from version %d to %d", before, version)

    def follow(document: Document, span: Range, text: str) -> None:
        server.suggestions.follow(document, span, text)
        server.context.changed(uri, [(span, text)])

    changes = [(_span(change), change.text) for change in params.content_changes]
    server.documents.change(uri, version, changes, server.encoding, follow)
    server.idle.edited(uri)
    plan_ahead(server, uri)


def did_save(server: Server, params: types.DidSaveTextDocumentParams) -> None:
    """A document was saved; git's rules count at once."""
    follow_rules(server, [params.text_document.uri])


def did_close(server: Server, params: types.DidCloseTextDocumentParams) -> None:
    """Forget the document."""
    server.asks.supersede(params.text_document.uri)
    server.suggestions.forget(params.text_document.uri)
    server.documents.close(params.text_document.uri)
    server.context.closed(params.text_document.uri)


def _span(change: types.TextDocumentContentChangeEvent) -> Range | None:
    if isinstance(change, types.TextDocumentContentChangeWholeDocument):
        return None
    start, end = change.range.start, change.range.end
    return (start.line, start.character), (end.line, end.character)


async def inline_completion(
    server: Server, params: types.InlineCompletionParams
) -> list[types.InlineCompletionItem] | None:
    """Null before the engine is loaded, for what it does not know, and when a newer request came; else a list."""
    return await items_for(server, params)


def did_diagnose(server: Server, params: object) -> None:
    """The client passes on what other servers find wrong in a document."""
    diagnosed(server, params)


def did_show(server: Server, params: object) -> None:
    """The client has shown an item."""
    shown(server, params)


def did_partially_accept(server: Server, params: object) -> None:
    """The user has taken the first part of an item."""
    partially_accepted(server, params)


def did_accept(server: Server, id: str = "") -> None:
    """The user has taken an item; clients run this as the item's command."""
    accepted(server, id)


def _log_stray(_: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    # asyncio's own words quote what a task returned: code.
    error = context.get("exception")
    log.error("an error outside any request", exc_info=error if isinstance(error, BaseException) else None)
