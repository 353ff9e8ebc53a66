"""`midspan bench keystroke`: types recorded files through the real server process over stdio.

Every keystroke is a `didChange` and an `inlineCompletion` whose answer is awaited. The server's own share is the
response time less the engine's time for that request, which the server's telemetry row states. A keystroke is saved
where a suggestion at or above the shipped threshold is exactly the rest of the line: it counts one key instead of many.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sqlite3
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lsprotocol import types
from pygls.exceptions import JsonRpcException
from pygls.lsp.client import LanguageClient
from rich.console import Console
from rich.progress import Progress

from midspan.server.bench.quality import quantile
from midspan.server.errors import CommandError
from midspan.server.telemetry import FILE_NAME

RECORDED = Path("fixtures/keystroke")
LONG_LINES = 5000
CANCELS = 10
PATIENCE_S = 120.0


class Typist:
    """One client of one server process, typing into one document at a time."""

    def __init__(self, state_dir: Path) -> None:
        self._client = LanguageClient("midspan-bench", "1")
        self._state_dir = state_dir
        self._ready = asyncio.Event()
        self._said = ""
        self.responses: dict[str, float] = {}  # milliseconds by completion id
        self.all_ms: list[float] = []

    async def start(self, checkpoint: str, device: str) -> None:
        """Start the server and wait until its model is loaded. Raises CommandError when it cannot be."""
        client = self._client

        def on_status(params: Any) -> None:
            if params.state in ("ready", "error"):
                self._said = params.message if params.state == "error" else ""
                self._ready.set()

        def on_message(params: types.ShowMessageParams) -> None:
            print(params.message, file=sys.stderr)

        client.feature("midspan/status")(on_status)
        client.feature(types.WINDOW_SHOW_MESSAGE)(on_message)
        options = ["--checkpoint", checkpoint, "--device", device, "--state-dir", str(self._state_dir)]
        log = ["--log-file", str(self._state_dir / "server.log")]
        await client.start_io(sys.executable, "-m", "midspan.server", "serve", *options, *log)
        await client.initialize_async(
            types.InitializeParams(
                capabilities=types.ClientCapabilities(),
                # Every fill is offered, so that every request has its telemetry row.
                initialization_options={"status": True, "show_threshold": 0.0, "deadline_ms": 60_000},
            )
        )
        client.initialized(types.InitializedParams())
        await asyncio.wait_for(self._ready.wait(), PATIENCE_S)
        if self._said:
            raise CommandError(self._said)

    def open(self, uri: str, text: str) -> None:
        """Open a document."""
        item = types.TextDocumentItem(uri=uri, language_id="python", version=0, text=text)
        self._client.text_document_did_open(types.DidOpenTextDocumentParams(text_document=item))

    def change(self, uri: str, version: int, at: types.Position, text: str) -> None:
        """Insert text."""
        self._client.text_document_did_change(
            types.DidChangeTextDocumentParams(
                text_document=types.VersionedTextDocumentIdentifier(uri=uri, version=version),
                content_changes=[
                    types.TextDocumentContentChangePartial(range=types.Range(start=at, end=at), text=text)
                ],
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

    async def cancel(self, uri: str, at: types.Position, id: str) -> float:
        """Ask, cancel at once; milliseconds from the cancel to the answer."""
        future = self._client.protocol.send_request("textDocument/inlineCompletion", _params(uri, at), msg_id=id)
        began = time.perf_counter()
        self._client.cancel_request(types.CancelParams(id=id))
        try:
            await asyncio.wait_for(asyncio.wrap_future(future), PATIENCE_S)
        except JsonRpcException:
            return 1000 * (time.perf_counter() - began)
        raise CommandError("the server answered a request that was cancelled; report this")

    async def stop(self) -> None:
        """Shut the server down in order."""
        await asyncio.wait_for(self._client.shutdown_async(None), PATIENCE_S)
        self._client.exit(None)
        await self._client.stop()


def _params(uri: str, at: types.Position) -> types.InlineCompletionParams:
    return types.InlineCompletionParams(
        context=types.InlineCompletionContext(trigger_kind=types.InlineCompletionTriggerKind.Automatic),
        text_document=types.TextDocumentIdentifier(uri=uri),
        position=at,
    )


async def type_file(typist: Typist, name: str, text: str, limit: int, progress: Progress) -> list[tuple[str, str, str]]:
    """Type `limit` keys of a file's middle lines; (id, suggestion, true rest of the line) for every keystroke."""
    lines = text.split("\n")
    row, typed, seen = len(lines) // 2, 0, list[tuple[str, str, str]]()
    uri, version = f"file:///bench/{name}", 0
    bar = progress.add_task(name, total=limit)
    while row < len(lines) and not lines[row].strip():
        row += 1
    before, after = lines[:row], lines[row + 1 :]
    indent = len(lines[row]) - len(lines[row].lstrip())
    typist.open(uri, "\n".join([*before, lines[row][:indent], *after]))
    while typed < limit and row < len(lines):
        line = lines[row]
        for column in range(indent, len(line)):
            if typed == limit:
                break
            version += 1
            typist.change(uri, version, types.Position(line=row, character=column), line[column])
            id, suggestion = await typist.complete(uri, types.Position(line=row, character=column + 1))
            seen.append((id, suggestion, line[column + 1 :]))
            typed += 1
            progress.update(bar, advance=1)
        # The next line is there already, so it is emptied by opening the document anew.
        row += 1
        while row < len(lines) and not lines[row].strip():
            row += 1
        if row < len(lines):
            indent = len(lines[row]) - len(lines[row].lstrip())
            typist.open(uri, "\n".join([*lines[:row], lines[row][:indent], *lines[row + 1 :]]))
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


def recorded() -> dict[str, str]:
    """The recorded files by name, and a long one made of them."""
    files = {path.name: path.read_text(encoding="utf-8") for path in sorted(RECORDED.glob("*.py"))}
    if not files:
        raise CommandError(f"{RECORDED}: no recorded files; run this from the repository's root")
    body = "\n".join(files.values())
    files["long.py"] = body * (LONG_LINES // body.count("\n") + 1)
    return files


async def measure(files: dict[str, str], checkpoint: str, device: str, limit: int, threshold: float) -> dict[str, Any]:
    """All figures of one run."""
    seen = list[tuple[str, str, str]]()
    with tempfile.TemporaryDirectory(prefix="midspan-bench-") as folder:
        typist = Typist(Path(folder))
        await typist.start(checkpoint, device)
        with Progress(console=Console(stderr=True)) as progress:
            for name, text in files.items():
                seen += await type_file(typist, name, text, limit, progress)
        at = types.Position(line=len(files["words.py"].split("\n")) // 2, character=0)
        cancels = [await typist.cancel("file:///bench/words.py", at, f"cancel-{n}") for n in range(CANCELS)]
        await typist.stop()
        rows = _rows(Path(folder))
    own = [typist.responses[id] - engine_ms for id, (_, engine_ms) in rows.items() if id in typist.responses]
    if not own:
        raise CommandError("no keystroke got an offer, so nothing can be said of the server's share")
    confidence = {id: value for id, (value, _) in rows.items()}
    return {
        "keystrokes": len(seen),
        "offered": len(own),
        "response_ms": _percentiles(typist.all_ms),
        "server_ms": _percentiles(own),
        "cancel_ms": _percentiles(cancels),
        "saved": saved(seen, confidence, threshold),
        "threshold": threshold,
        "long_file_lines": files["long.py"].count("\n"),
        "checkpoint": checkpoint,
        "device": device,
    }


def _rows(folder: Path) -> dict[str, tuple[float, float]]:
    """(confidence, the engine's milliseconds) of every offer in the telemetry store, by id."""
    store = sqlite3.connect(folder / FILE_NAME)
    try:
        return {id: (c, ms) for id, c, ms in store.execute("SELECT id, confidence, engine_ms FROM completion")}
    finally:
        store.close()


def _percentiles(values: Sequence[float]) -> dict[str, float]:
    return {name: round(quantile(values, share), 2) for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))}


def keystroke_command(arguments: argparse.Namespace) -> int:
    """Measure and print."""
    from midspan.engine import load

    engine = load(arguments.checkpoint, arguments.device)
    threshold = engine.about.show_threshold
    engine.close()
    found = asyncio.run(measure(recorded(), arguments.checkpoint, arguments.device, arguments.limit, threshold))
    if arguments.json:
        print(json.dumps(found))
        return 0
    for name, value in found.items():
        shown = ", ".join(f"{key} {one}" for key, one in value.items()) if isinstance(value, dict) else value
        print(f"{name.replace('_', ' '):16} {shown}")
    return 0
