"""One client's session: the server's state, and the verbs that change it. Handlers (app.py) call these verbs."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import BinaryIO

from lsprotocol import types
from pygls.exceptions import FeatureRequestError, JsonRpcException
from pygls.lsp.server import LanguageServer

import midspan
from midspan.engine.api import CheckpointError, Engine, OnProgress
from midspan.server.backends.configured import as_it_is, both
from midspan.server.backends.engines import router_over
from midspan.server.checkpoint_watch import CheckpointWatch, digest_of
from midspan.server.commands.errors import CommandError
from midspan.server.context.context import Context
from midspan.server.engine_errors import NOT_LOADED, EngineFailed, failed_request
from midspan.server.lsp.decisions import Decisions
from midspan.server.lsp.jsonrpc import NO_VERSION, Protocol, strict_converter
from midspan.server.lsp.logs import log_stray
from midspan.server.lsp.scheduling import wake_soon
from midspan.server.lsp.status import State, Status
from midspan.server.lsp.trigger_kinds import TriggerKinds
from midspan.server.requests import Requests
from midspan.server.router.asks import Origin, Wish
from midspan.server.router.records import Record
from midspan.server.router.router import Means, Router
from midspan.server.settings import ServeOptions, Settings, changed_settings, configured_in, read_settings
from midspan.server.suggestions import OfferedIds, Suggestions
from midspan.server.telemetry.aftermath import Aftermath
from midspan.server.telemetry.store import Telemetry
from midspan.server.text.documents import Document, Documents, Encoding
from midspan.server.text.line_index import Range
from midspan.server.text.reparse import Reparse
from midspan.server.validation.schema_files import has_schema
from midspan.server.validation.splice import Files

log = logging.getLogger(__name__)

Load = Callable[[str, str, OnProgress], Engine]
CLOSE_S = 5.0
WATCHED = "midspan-files"
LOST_FILE = "the editor changed a file that it had not opened; close the file and open it again"


class Session(LanguageServer):
    """pygls's server with midspan's state. The event loop's thread owns all of it; only its own methods assign it."""

    protocol: Protocol

    def __init__(self, options: ServeOptions, load: Load) -> None:
        super().__init__("midspan", midspan.__version__, protocol_cls=Protocol, converter_factory=strict_converter)
        self.options = options
        self.first = read_settings(None)
        self.settings: Settings = self.first.settings
        self.settings_news = 0  # how often the client has said that settings changed
        self.client_name = ""
        self.trigger_kinds = TriggerKinds()
        self.lone_root: str | None = None  # the folder of a client that began without workspace folders
        self.watched: tuple[str, ...] = ()  # globs of files that the client watches
        self.status = Status(self._send_status)
        self.stuck = False  # the engine was still being loaded at the end, or did not close in time
        self.documents = Documents()
        self.context = Context(self.documents, tell=self.status.add, warn=self.warn_of_indexer)
        self.requests = Requests()
        self.reparse = Reparse(self.documents, lambda: self.requests.busy)
        self.engine: Router | None = None
        self.elsewhere: Router | None = None  # without the local checkpoint, which did not load
        self.configured = options.configured  # the engines that the user has named
        self.misconfigured = options.misconfigured
        self.following = set[asyncio.Task[None]]()  # of engines that come and go
        self.telemetry: Telemetry | None = None
        self.suggestions = Suggestions()
        self.aftermath = Aftermath(lambda: self.telemetry, self._later)
        self.decisions = Decisions()
        self.offered = OfferedIds()
        self._load = load
        self._loading: Future[Engine] | None = None
        self._digest: Future[str] | None = None
        self._checkpoint_watch: CheckpointWatch | None = None
        self._said: set[str] = set()
        self._answered_by = ""
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def encoding(self) -> Encoding:
        """The position encoding that client and server agreed on."""
        return types.PositionEncodingKind(self.workspace.position_encoding).value

    @property
    def digest(self) -> str:
        """What tells the loaded checkpoint from another of its name; empty where it has no files of its own here."""
        return self._digest.result() if self._digest is not None and self._digest.done() else ""

    @property
    def loading(self) -> bool:
        """Whether a thread is still loading the engine."""
        return self._loading is not None and not self._loading.done()

    async def run(self, stdin: BinaryIO, stdout: BinaryIO) -> int:
        """Serve one client; returns the process's exit code."""
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(log_stray)
        log.info("keystrokes %s", "get a core at once" if wake_soon() else "wait for a core as others do")
        self.reparse.start()
        try:
            return await self.protocol.serve(stdin, stdout)
        finally:
            await self._close()

    async def _close(self) -> None:
        self.reparse.stop()
        self.requests.supersede_all()
        # An engine that is loaded by now begins nothing any more.
        self.protocol.stop_work()
        await self.context.close()
        if self.loading:
            self.stuck = True
        elif (engine := self.engine or self.elsewhere or self._loaded()) is not None:
            # An engine that hangs must not keep the process.
            closing = threading.Thread(target=engine.close, daemon=True)
            closing.start()
            await asyncio.to_thread(closing.join, CLOSE_S)
            self.stuck = closing.is_alive()
        if self.telemetry is not None:
            await asyncio.to_thread(self.telemetry.close)
        await self.protocol.answer_kept()

    def _loaded(self) -> Engine | None:
        """An engine that was loaded too late to be used."""
        loading = self._loading
        if loading is None or loading.cancelled() or loading.exception() is not None:
            return None
        return loading.result()

    # What the client says of itself.

    def introduce(self, params: types.InitializeParams) -> None:
        """Keep the client's name and its `initializationOptions`."""
        self.lone_root = None if params.workspace_folders else params.root_uri
        self.client_name = "" if params.client_info is None else params.client_info.name
        self.trigger_kinds.meet(params)
        self.first = read_settings(params.initialization_options)
        self.settings = self.first.settings
        try:
            self.configured = both(self.options.configured, configured_in(params.initialization_options))
        except CommandError as error:
            self.misconfigured = str(error)

    def watch(self, globs: tuple[str, ...]) -> None:
        """Have the client, which can, tell when a file changes that one of the globs names."""
        self.context.background.watched = bool(globs)
        if globs == self.watched:
            return
        method, register = types.WORKSPACE_DID_CHANGE_WATCHED_FILES, self.client_register_capability
        if self.watched:
            self.client_unregister_capability(types.UnregistrationParams([types.Unregistration(WATCHED, method)]))
        self.watched = globs
        if globs:
            watchers = [types.FileSystemWatcher(glob_pattern=glob) for glob in globs]
            options = types.DidChangeWatchedFilesRegistrationOptions(watchers=watchers)
            register(types.RegistrationParams([types.Registration(WATCHED, method, options)]))

    def change_folders(self, removed: Sequence[types.WorkspaceFolder]) -> None:
        """The client has opened or closed folders; pygls has the new list."""
        if any(folder.uri == self.lone_root for folder in removed):
            self.lone_root = None

    # Documents.

    def open(self, document: types.TextDocumentItem) -> None:
        """The client owns a document's text from here on."""
        self.requests.supersede(document.uri)
        self.suggestions.forget(document.uri)
        self.aftermath.opened(self.documents.open(document.uri, document.language_id, document.version, document.text))
        self.context.opened(document.uri)
        self.reparse.edited(document.uri)

    def change(self, uri: str, version: int, changes: Sequence[tuple[Range | None, str]]) -> None:
        """Apply edits in order. A pending request about the old text is out of date."""
        self.requests.supersede(uri)
        before = self.documents.version(uri)
        if before is None:
            log.warning("ignored a change of a file that is not open")
            self.say_once(LOST_FILE)
            return
        if version == NO_VERSION:
            version = before + 1
        elif version <= before:
            log.warning("a document went from version %d to %d", before, version)

        def follow(document: Document, span: Range, text: str) -> None:
            self.suggestions.follow(document, span, text)
            self.aftermath.edit(document, span, text)
            self.context.changed(uri, [(span, text)])

        self.documents.change(uri, version, changes, self.encoding, follow)
        self.aftermath.settle(uri, max(1, version - before))
        self.reparse.edited(uri)

    def close(self, uri: str) -> None:
        """Forget a document."""
        self.requests.supersede(uri)
        self.suggestions.forget(uri)
        self.aftermath.closed(uri)
        self.documents.close(uri)
        self.context.closed(uri)

    def lose(self, method: str, params: object) -> None:
        """A notification could not be understood: its document is left alone from here on."""
        document = params.get("textDocument") if isinstance(params, dict) else None
        uri = document.get("uri") if isinstance(document, dict) else None
        if method in (types.TEXT_DOCUMENT_DID_CHANGE, types.TEXT_DOCUMENT_DID_OPEN) and isinstance(uri, str):
            self.requests.supersede(uri)
            self.suggestions.forget(uri)
            self.aftermath.lose(uri)
            self.documents.lose(uri)

    # Settings, telemetry, engine.

    def hear_of_settings(self) -> None:
        """The client says that settings changed; answers to earlier questions are out of date."""
        self.settings_news += 1

    def use_settings(self, section: object, where: str) -> None:
        """Lay the client's section over the first options; suggestions made under other settings are forgotten."""
        reading = changed_settings(self.settings, self.first.options, section, where)
        self.settings = reading.settings
        if reading.problem is None:
            self.status.well("settings")
        else:
            # The problem names the client's own keys: for the user, not for the log.
            log.error("settings of %s cannot be used; the editor shows which", where)
            self.degrade("settings", reading.problem)
        self.suggestions.clear()

    async def use_telemetry(self, *, wanted: bool) -> None:
        """Open or close the store; what is older than the settings say is deleted."""
        days = self.settings.telemetry_days
        if wanted and self.telemetry is None:
            self.telemetry = Telemetry(self.options.state_dir, partial(self._from_thread, self._hear_of_store), days)
        elif wanted and self.telemetry is not None:
            self.telemetry.keep(days)
        elif not wanted and self.telemetry is not None:
            closing, self.telemetry = self.telemetry, None
            self.aftermath.clear()
            self.status.well("telemetry")
            await asyncio.to_thread(closing.close)

    async def load(self, progress: OnProgress) -> Engine:
        """Load the engine on a thread of its own, which tells `progress`. Raises what loading raises."""
        if self.options.refused is not None:
            raise CheckpointError(self.options.refused)
        self._checkpoint_watch = CheckpointWatch(self.options.checkpoint)
        loader = ThreadPoolExecutor(1, "midspan-load")
        self._loading = loader.submit(self._load, self.options.checkpoint, self.options.device, progress)
        self._digest = loader.submit(digest_of, self.options.checkpoint)
        # Cancelling this does not end the thread, and the thread then tells the closed loop nothing.
        return await asyncio.wrap_future(self._loading)

    def use_engine(self, engine: Engine, on_change: Callable[[], object] = lambda: None) -> None:
        """Answer from this engine, and from those that the user has configured; `on_change` hears of theirs."""
        means = Means(tell=partial(self.degrade_from_thread, "backends"), changed=partial(self._from_thread, on_change))
        try:
            self.engine = router_over(engine, self.configured, means)
        except CheckpointError as error:
            # The policy wants a reading of it that it has not.
            self.degrade("backends", str(error))
            self.engine = router_over(engine, as_it_is(self.configured), means)
        about = engine.about
        self.status.ready(f"{about.checkpoint} on {about.device}, trained on {', '.join(about.languages)}")

    def use_elsewhere(self, problem: str, on_change: Callable[[], object]) -> None:
        """Answer from the engines elsewhere alone, once one is connected: the local checkpoint did not load."""
        self._checkpoint_watch = None
        self.status.error(f"{NOT_LOADED}: {problem}; no engine elsewhere answers yet")
        self.say_once(f"{NOT_LOADED}: {problem}; engines elsewhere are asked")

        def follow() -> None:
            if self.engine is None and self.elsewhere is not None and self.elsewhere.connected:
                self.engine = self.elsewhere
                self.status.trouble("checkpoint", f"{NOT_LOADED}: {problem}; engines elsewhere answer")
                self.status.ready("engines elsewhere answer")
            on_change()

        means = Means(tell=partial(self.degrade_from_thread, "backends"), changed=partial(self._from_thread, follow))
        self.elsewhere = router_over(None, self.configured, means)

    @property
    def files(self) -> Files:
        """What validators may read."""
        return Files(folders=self.context.roots, schemas=self.settings.schemas)

    def wish(self, origin: Origin, uri: str) -> Wish:
        """What is wished by one who asks about a document: nothing beyond what the settings allow."""
        settings, document = self.settings, self.documents.get(uri)
        return Wish(
            origin=origin,
            uri=uri,
            tier=settings.privacy,
            engine=settings.engine,
            schema=document is not None and has_schema(document, self.files),
            own_threshold=settings.show_threshold is None,
        )

    def asking(self, engine: Router, origin: Origin, uri: str) -> Engine:
        """The engine, for one who asks about a document."""
        return engine.wishing(self.wish(origin, uri))

    def note_answer(self, route: Record) -> None:
        """Say in the status who has answered, where that is another engine than before."""
        if route.answered_by and route.answered_by != self._answered_by:
            self._answered_by = route.answered_by
            self.status.answered(f"answered last: {route.answered_by} ({route.choice.reason})")

    @contextmanager
    def engine_at_work(self) -> Iterator[None]:
        """Stands around a request to the engine, atop a handler: the status says that it works, or what failed.

        Raises EngineFailed for whatever went wrong.
        """
        if self._checkpoint_watch is not None and (replaced := self._checkpoint_watch.message()) is not None:
            self.degrade("checkpoint", replaced)
        try:
            with self.status.work():
                yield
        except Exception as error:  # atop a handler
            log.exception("the engine failed on a request")
            self.degrade("engine", failed_request(error))
            raise EngineFailed(failed_request(error)) from error
        self.status.well("engine")

    # What the user is told.

    def warn_of_indexer(self, problem: str | None, lasting: bool) -> None:
        """Say in the status that nothing comes from other files, and to the user as well if that lasts."""
        if problem is None:
            self.status.well("indexer")
        elif lasting:
            self.degrade("indexer", problem)
        else:
            self.status.trouble("indexer", problem)

    def log_once(self, message: str) -> None:
        """Log why nothing comes, unless the log says so already."""
        if message not in self._said:
            self._said.add(message)
            log.info("%s", message)

    def say_once(self, message: str) -> None:
        """Show the user what is wrong, unless it has been shown before."""
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
        """`degrade` from any thread."""
        self._from_thread(self.degrade, of, message)

    def _hear_of_store(self, message: str | None) -> None:
        if message is None:
            self.status.well("telemetry")
        else:
            self.degrade("telemetry", message)

    def _from_thread(self, call: Callable[..., object], *arguments: object) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(call, *arguments)

    def _later(self, seconds: float, call: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_later(seconds, call)

    def _send_status(self, state: State, message: str) -> None:
        self.protocol.notify("midspan/status", {"state": state, "message": message})

    def report_server_error(self, error: Exception, source: object) -> None:
        """Say what went wrong in a notification, which has no answer; a request's error is in its response."""
        if source is not FeatureRequestError:
            traceback = (getattr(error, "data", None) or {}).get("traceback", [])
            # What the error says may quote the message; before the colon stands its kind.
            kind = error.message.partition(":")[0] if isinstance(error, JsonRpcException) else type(error).__name__
            log.error("a notification failed: %s\n%s", kind, "".join(traceback))
            self.say_once("a message from the editor could not be handled; open its file again if nothing is offered")
