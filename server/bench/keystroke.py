"""`midspan bench keystroke`: types recorded files through the real server process over stdio.

Every keystroke is a `didChange` and an `inlineCompletion` whose answer is awaited. Response times run on the pipes,
from the request's first byte to the answer's last, without the client's own time for JSON. The server's share is the
response time less the engine's time for that request, which the telemetry row states. A keystroke is saved if a
suggestion at or above the shipped threshold is exactly the rest of the line: accepting it costs one key. A line is
emptied, and a file is opened and asked about once, before keys count.

`server_long_ms` is the server's share in the longest file, which has --lines lines and gets more keys than the others;
`offered_long` counts them. `start_ms` runs from the process's start to its first answer; `initialize_ms` is that
request alone. `typed_along_ms` is the response time of keys that ran along the suggestion on screen, which needs no
engine; null if none did. A cancel's time runs to the request's answer. `rss_mb` is the server's peak resident memory
in MB of 10^6 bytes, as Linux states it (VmHWM); null on other systems.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sqlite3
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lsprotocol import types
from rich.console import Console
from rich.progress import Progress

from midspan.server.client.typist import Typist, about_of, percentiles, server_command, typing
from midspan.server.commands.errors import CommandError
from midspan.server.telemetry.schema import FILE_NAME

RECORDED = Path("fixtures/keystroke")
LONG = "long.py"
# The factor of its keys over another file's.
LONG_KEYS = 4
CANCELS = 10
# Offer every fill, so that every engine request has its telemetry row.
OPTIONS = {"show_threshold": 0.0, "deadline_ms": 60_000}


async def type_file(typist: Typist, uri: str, text: str, limit: int, progress: Progress) -> list[tuple[str, str, str]]:
    """Retype a file's lines from the middle on, `limit` keys at most; (id, suggestion, true rest of line) by key."""
    lines, seen = text.split("\n"), list[tuple[str, str, str]]()
    bar = progress.add_task(uri.rpartition("/")[2], total=limit)
    await typist.read(uri, text)
    for row in range(len(lines) // 2, len(lines)):
        line = lines[row]
        indent = len(line) - len(line.lstrip())
        if indent == len(line):
            continue
        typist.replace(uri, row, indent, len(line), "")
        await typist.heard()
        for column in range(indent, len(line)):
            typist.replace(uri, row, column, column, line[column])
            id, suggestion = await typist.complete(uri, types.Position(row, column + 1))
            seen.append((id, suggestion, line[column + 1 :]))
            progress.update(bar, advance=1)
            if len(seen) == limit:
                return seen
        progress.refresh()
    return seen


def saved(seen: Sequence[tuple[str, str, str]], confidence: dict[str, float], threshold: float) -> float:
    """The share of keys that accepting right suggestions saves, at one key an acceptance."""
    keys, index = 0, 0
    while index < len(seen):
        id, suggestion, rest = seen[index]
        keys += 1
        index += 1
        if rest and suggestion == rest and confidence.get(id, 0.0) >= threshold:
            keys += 1
            index += len(rest)
    return 1 - keys / max(index, keys)


def recorded(folder: Path, long_lines: int) -> dict[str, str]:
    """The recorded files by name, and a long one made of them."""
    files = {path.name: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.py"))}
    if not files:
        raise CommandError(f"{folder}: no recorded files; run this from the repository's root")
    body = "\n".join(files.values())
    lines = (body + "\n").splitlines(keepends=True)
    repeated = lines * (long_lines // len(lines) + 1)
    files[LONG] = "".join(repeated[:long_lines])
    return files


async def type_all(typist: Typist, files: dict[str, str], limit: int) -> tuple[list[tuple[str, str, str]], set[str]]:
    """Retype all files, see `type_file`; also the ids of what was offered in the long one."""
    seen, of_long = list[tuple[str, str, str]](), set[str]()
    # Drawn between lines: a drawing thread would take a core from the server.
    with Progress(console=Console(stderr=True), auto_refresh=False) as progress:
        for name, text in files.items():
            keys = LONG_KEYS * limit if name == LONG else limit
            typed = await type_file(typist, f"file:///bench/{name}", text, keys, progress)
            seen += typed
            of_long |= {id for id, _, _ in typed} if name == LONG else set()
    return seen, of_long


async def measure(files: dict[str, str], serve: Sequence[str], limit: int, threshold: float) -> dict[str, Any]:
    """All figures of one run; `serve` is the server's command line without its state folder."""
    with tempfile.TemporaryDirectory(prefix="midspan-bench-") as folder:
        async with typing([*serve, "--state-dir", folder], OPTIONS) as typist:
            seen, of_long = await type_all(typist, files, limit)
            cancels = []
            for number in range(CANCELS):
                name = list(files)[number % len(files)]
                at = types.Position(len(files[name].split("\n")) // 2, 0)
                cancels.append(await typist.cancel(f"file:///bench/{name}", at, f"cancel-{number}"))
            rss_mb, start_ms, initialize_ms = typist.peak_rss_mb(), typist.start_ms, typist.initialize_ms
        rows = _rows(Path(folder))
    asked = {id: engine_ms for id, (_, engine_ms) in rows.items() if id in typist.responses}
    own = {id: typist.responses[id] - engine_ms for id, engine_ms in asked.items()}
    if not own:
        raise CommandError("no keystroke got an offer, so the server's share is unknown; give a trained --checkpoint")
    return {
        "keystrokes": len(seen),
        "offered": len(own),
        "response_ms": percentiles(typist.all_ms),
        "from_engine_ms": percentiles([typist.responses[id] for id in asked]),
        "server_ms": percentiles(list(own.values())),
        "server_long_ms": percentiles([ms for id, ms in own.items() if id in of_long]),
        "offered_long": len(of_long & own.keys()),
        "typed_along": len(typist.typed_along_ms),
        "typed_along_ms": percentiles(typist.typed_along_ms),
        "cancel_ms": percentiles([ms for ms in cancels if ms is not None]),
        "saved": saved(seen, {id: value for id, (value, _) in rows.items()}, threshold),
        "threshold": threshold,
        "rss_mb": rss_mb,
        "start_ms": round(start_ms, 1),
        "initialize_ms": round(initialize_ms, 1),
        "longest_file_lines": max(text.count("\n") for text in files.values()),
    }


def _rows(folder: Path) -> dict[str, tuple[float, float]]:
    """(confidence, the engine's milliseconds) of every offer in the telemetry store, by id."""
    store = sqlite3.connect(folder / FILE_NAME)
    try:
        return {id: (c, ms) for id, c, ms in store.execute("SELECT id, confidence, engine_ms FROM completion")}
    finally:
        store.close()


def keystroke_command(arguments: argparse.Namespace) -> int:
    """Measure and print."""
    files = recorded(RECORDED, arguments.lines)
    about = about_of(arguments.checkpoint, arguments.device)
    serve = server_command(arguments.checkpoint, arguments.device, arguments.log_file)
    found = asyncio.run(measure(files, serve, arguments.limit, about.show_threshold))
    found |= {"checkpoint": about.checkpoint, "device": about.device}
    if arguments.json:
        print(json.dumps(found))
        return 0
    for name, value in found.items():
        shown = ", ".join(f"{key} {one}" for key, one in value.items()) if isinstance(value, dict) else value
        print(f"{name.replace('_', ' '):18} {shown}")
    return 0
