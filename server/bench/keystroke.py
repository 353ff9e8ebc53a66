"""`midspan bench keystroke`: types recorded files through the real server process over stdio.

Every keystroke is a `didChange` and an `inlineCompletion` whose answer is awaited. The server's own share is the
response time less the engine's time for that request, which the server's telemetry row states. A keystroke is saved
where a suggestion at or above the shipped threshold is exactly the rest of the line: it counts one key instead of many.
The cancel's time runs to the request's answer.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sqlite3
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from lsprotocol import types
from pygls.exceptions import JsonRpcException
from pygls.lsp.client import LanguageClient
from rich.console import Console
from rich.progress import Progress

import midspan.engine
from midspan.server.bench.quality import quantile
from midspan.server.errors import CommandError
from midspan.server.telemetry import FILE_NAME

RECORDED = Path("fixtures/keystroke")
LONG_LINES = 5000
CANCELS = 10
CANCEL_AFTER_S = 0.02
PATIENCE_S = 120.0


class _Client(LanguageClient):
    """pygls's client, which says why the server ended."""

    def __init__(self) -> None:
        super().__init__("midspan-bench", "1")
        self.news: asyncio.Queue[tuple[str, str]] = asyncio.Queue()  # (state, message) of midspan/status
        self.process: asyncio.subprocess.Process | None = None

    async def start_io(self, cmd: str, *args: str, **kwargs: Any) -> None:
        """Start the server."""
        await super().start_io(cmd, *args, **kwargs)
        self.process = self._server

    async def stop(self) -> None:
        """Stop; a server that still runs is killed."""
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
        await LanguageClient.stop(self)

    async def server_exit(self, server: asyncio.subprocess.Process) -> None:
        """The server's last words are its error line."""
        assert server.stderr is not None
        words = (await server.stderr.read()).decode(errors="replace").strip().splitlines()
        self.news.put_nowait(("error", words[-1] if words else f"the server ended with exit code {server.returncode}"))


class Typist:
    """One client of one server process; documents are ASCII, so that columns are characters."""

    def __init__(self, client: _Client) -> None:
        self._client = client
        self._version = 0
        self.responses: dict[str, float] = {}  # milliseconds by completion id
        self.all_ms: list[float] = []

    def open(self, uri: str, text: str) -> None:
        """Open a document."""
        item = types.TextDocumentItem(uri=uri, language_id="python", version=0, text=text)
        self._client.text_document_did_open(types.DidOpenTextDocumentParams(text_document=item))

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
        """Ask for a completion; its id and text, empty where nothing was offered."""
        began = time.perf_counter()
        answer = await asyncio.wait_for(
            self._client.text_document_inline_completion_async(_params(uri, at)), PATIENCE_S
        )
        elapsed = 1000 * (time.perf_counter() - began)
        self.all_ms.append(elapsed)
        items = answer.items if isinstance(answer, types.InlineCompletionList) else answer or ()
        for item in items:
            assert item.command is not None
            assert item.command.arguments is not None
            id = str(item.command.arguments[0])
            self.responses[id] = elapsed
            return id, str(item.insert_text)
        return "", ""

    async def cancel(self, uri: str, at: types.Position, id: str) -> float | None:
        """Ask, cancel when the engine is at work; milliseconds from the cancel to the answer.

        None where the answer was there before the cancel.
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


@asynccontextmanager
async def typing(serve: Sequence[str]) -> AsyncIterator[Typist]:
    """A typist whose server has loaded its model. Raises CommandError where the server says what keeps it from that."""
    client = _Client()

    def on_status(params: Any) -> None:
        client.news.put_nowait((params.state, params.message))

    client.feature("midspan/status")(on_status)
    client.feature(types.WINDOW_SHOW_MESSAGE)(lambda _: None)
    await client.start_io(*serve)
    assert client.process is not None
    try:
        await _ready(client)
        yield Typist(client)
        await asyncio.wait_for(client.shutdown_async(None), PATIENCE_S)
        client.exit(None)
        await asyncio.wait_for(client.process.wait(), PATIENCE_S)
    finally:
        await client.stop()


async def _ready(client: _Client) -> None:
    # Every fill is offered, so that every request has its telemetry row.
    options = {"status": True, "show_threshold": 0.0, "deadline_ms": 60_000}
    params = types.InitializeParams(capabilities=types.ClientCapabilities(), initialization_options=options)
    asked = asyncio.ensure_future(client.initialize_async(params))
    await asyncio.wait({asked}, timeout=PATIENCE_S)
    if not asked.done():
        asked.cancel()
        raise CommandError(f"the server did not answer within {PATIENCE_S:.0f} s; run midspan doctor")
    if asked.exception() is None:
        client.initialized(types.InitializedParams())
    state, message = "loading", ""
    while state == "loading":
        state, message = await asyncio.wait_for(client.news.get(), PATIENCE_S)
    if state != "ready":
        raise CommandError(message.removeprefix("midspan: "))


def _params(uri: str, at: types.Position) -> types.InlineCompletionParams:
    return types.InlineCompletionParams(
        context=types.InlineCompletionContext(trigger_kind=types.InlineCompletionTriggerKind.Automatic),
        text_document=types.TextDocumentIdentifier(uri=uri),
        position=at,
    )


async def type_file(typist: Typist, uri: str, text: str, limit: int, progress: Progress) -> list[tuple[str, str, str]]:
    """Retype a file's lines from the middle on, `limit` keys at most; (id, suggestion, true rest of line) by key."""
    lines, seen = text.split("\n"), list[tuple[str, str, str]]()
    bar = progress.add_task(uri.rpartition("/")[2], total=limit)
    typist.open(uri, text)
    for row in range(len(lines) // 2, len(lines)):
        line = lines[row]
        indent = len(line) - len(line.lstrip())
        if indent == len(line):
            continue
        typist.replace(uri, row, indent, len(line), "")
        for column in range(indent, len(line)):
            typist.replace(uri, row, column, column, line[column])
            id, suggestion = await typist.complete(uri, types.Position(row, column + 1))
            seen.append((id, suggestion, line[column + 1 :]))
            progress.update(bar, advance=1)
            if len(seen) == limit:
                return seen
    return seen


def saved(seen: Sequence[tuple[str, str, str]], confidence: dict[str, float], threshold: float) -> float:
    """The share of keys that accepting right suggestions would have saved, one key an acceptance."""
    keys, index = 0, 0
    while index < len(seen):
        id, suggestion, rest = seen[index]
        keys += 1
        index += 1
        if rest and suggestion == rest and confidence.get(id, 0.0) >= threshold:
            keys += 1
            index += len(rest)
    return 1 - keys / max(index, keys)


def recorded(folder: Path) -> dict[str, str]:
    """The recorded files by name, and a long one made of them."""
    files = {path.name: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.py"))}
    if not files:
        raise CommandError(f"{folder}: no recorded files; run this from the repository's root")
    body = "\n".join(files.values())
    files["long.py"] = body * (LONG_LINES // body.count("\n") + 1)
    return files


async def measure(files: dict[str, str], serve: Sequence[str], limit: int, threshold: float) -> dict[str, Any]:
    """All figures of one run; `serve` is the server's command line, which a state folder is added to."""
    seen = list[tuple[str, str, str]]()
    with tempfile.TemporaryDirectory(prefix="midspan-bench-") as folder:
        async with typing([*serve, "--state-dir", folder]) as typist:
            with Progress(console=Console(stderr=True)) as progress:
                for name, text in files.items():
                    seen += await type_file(typist, f"file:///bench/{name}", text, limit, progress)
            cancels = []
            for number in range(CANCELS):
                name = list(files)[number % len(files)]
                at = types.Position(len(files[name].split("\n")) // 2, 0)
                cancels.append(await typist.cancel(f"file:///bench/{name}", at, f"cancel-{number}"))
        rows = _rows(Path(folder))
    own = [typist.responses[id] - engine_ms for id, (_, engine_ms) in rows.items() if id in typist.responses]
    if not own:
        raise CommandError("no keystroke got an offer, so the server's share is unknown; give a trained --checkpoint")
    return {
        "keystrokes": len(seen),
        "offered": len(own),
        "response_ms": _percentiles(typist.all_ms),
        "server_ms": _percentiles(own),
        "cancel_ms": _percentiles([ms for ms in cancels if ms is not None]),
        "saved": saved(seen, {id: value for id, (value, _) in rows.items()}, threshold),
        "threshold": threshold,
        "longest_file_lines": max(text.count("\n") for text in files.values()),
    }


def _rows(folder: Path) -> dict[str, tuple[float, float]]:
    """(confidence, the engine's milliseconds) of every offer in the telemetry store, by id."""
    store = sqlite3.connect(folder / FILE_NAME)
    try:
        return {id: (c, ms) for id, c, ms in store.execute("SELECT id, confidence, engine_ms FROM completion")}
    finally:
        store.close()


def _percentiles(values: Sequence[float]) -> dict[str, float] | None:
    if not values:
        return None
    return {name: round(quantile(values, share), 2) for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))}


def keystroke_command(arguments: argparse.Namespace) -> int:
    """Measure and print."""
    files = recorded(RECORDED)
    engine = midspan.engine.load(arguments.checkpoint, arguments.device)
    about = engine.about
    engine.close()
    # A file keeps the server's stderr free of all but its last words.
    log = arguments.log_file or os.devnull
    serve = [sys.executable, "-m", "midspan.server", "serve", "--log-file", str(log)]
    serve += ["--checkpoint", arguments.checkpoint, "--device", arguments.device]
    found = asyncio.run(measure(files, serve, arguments.limit, about.show_threshold))
    found |= {"checkpoint": about.checkpoint, "device": about.device}
    if arguments.json:
        print(json.dumps(found))
        return 0
    for name, value in found.items():
        shown = ", ".join(f"{key} {one}" for key, one in value.items()) if isinstance(value, dict) else value
        print(f"{name.replace('_', ' '):18} {shown}")
    return 0
