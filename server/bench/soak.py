"""`midspan bench soak`: the server's memory over hours of typing, in time-lapse, through the real process.

It opens a folder of Python files, midspan's own, unless told otherwise or the checkpoint has no use for one. A minute
of typing is KEYS_A_MINUTE keys without pauses, each a `didChange` and an awaited `inlineCompletion`. Every
CANCEL_EVERY keys a request is cancelled while the engine works; every KEYS_A_DOCUMENT keys another document is opened.
The first tenth of the keys is the warm-up. `growth` compares the median resident memory of the last tenth with that of
the second, as a fraction; `rss_mb` has the medians of all ten, in MB of 10^6 bytes, as Linux states them (VmRSS).
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from lsprotocol import types
from rich.console import Console
from rich.progress import Progress

from midspan.server.bench.keystroke import RECORDED, recorded
from midspan.server.client.typist import Typist, about_of, percentiles, reads_workspace, server_command, typing
from midspan.server.commands.errors import CommandError

KEYS_A_MINUTE = 200
KEYS_A_DOCUMENT = 400
CANCEL_EVERY = 50
LONG_LINES = 5_000  # of one file of three
PARTS = 10
SOURCES = Path(__file__).parents[1]


async def keys(typist: Typist, files: Sequence[str], folder: str) -> AsyncIterator[None]:
    """Type without end, document after document of a folder (its URI); yields after every key's answer."""
    for number in itertools.count():
        uri, text = f"{folder}/{number}.py", files[number % len(files)]
        typist.open(uri, text)
        lines = text.split("\n")
        places = ((row, column) for row in itertools.count() for column in range(len(lines[row % len(lines)])))
        for typed, (row, column) in enumerate(itertools.islice(places, KEYS_A_DOCUMENT), 1):
            row %= len(lines)
            if not column:
                typist.replace(uri, row, 0, len(lines[row]), "")
            typist.replace(uri, row, column, column, lines[row][column])
            at = types.Position(row, column + 1)
            if typed % CANCEL_EVERY:
                await typist.complete(uri, at)
            else:
                await typist.cancel(uri, at, f"cancel-{number}-{typed}")
            yield
        typist.close(uri)


async def soak(
    files: Sequence[str], serve: Sequence[str], minutes: float, *, workspace: bool = False
) -> dict[str, Any]:
    """All figures of one run; `serve` is the server's command line without its state folder."""
    count = max(PARTS, round(minutes * KEYS_A_MINUTE))
    rss: list[float] = []
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="midspan-soak-") as folder:
        package = Path(folder, "soak")
        shutil.copytree(SOURCES, package, ignore=shutil.ignore_patterns("__pycache__"))
        async with typing([*serve, "--state-dir", str(Path(folder, "state"))], {}) as typist:
            if workspace:
                await typist.open_folder(package)
            with Progress(console=Console(stderr=True)) as progress:
                bar = progress.add_task("typing", total=count)
                async for _ in keys(typist, files, package.as_uri()):
                    rss.append(resident_mb(typist.process))
                    progress.update(bar, advance=1)
                    if len(rss) == count:
                        break
    parts = [median(rss[count * part // PARTS : count * (part + 1) // PARTS]) for part in range(PARTS)]
    return {
        "minutes": minutes,
        "keystrokes": count,
        "workspace": workspace,
        "wall_s": round(time.perf_counter() - began, 1),
        "response_ms": percentiles(typist.all_ms),
        "warm_rss_mb": round(parts[1], 1),
        "end_rss_mb": round(parts[-1], 1),
        "growth": round(parts[-1] / parts[1] - 1, 5),
        "rss_mb": [round(part, 1) for part in parts],
    }


def resident_mb(process: int) -> float:
    """A running process's resident memory now, in MB of 10^6 bytes."""
    status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    (kib,) = [line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:")]
    return int(kib) * 1024 / 1e6


def soak_command(arguments: argparse.Namespace) -> int:
    """Measure and print."""
    if sys.platform != "linux":
        raise CommandError("bench soak reads the server's memory as Linux states it; run it on Linux")
    serve = server_command(arguments.checkpoint, arguments.device, arguments.log_file)
    files = list(recorded(RECORDED, LONG_LINES).values())
    about = about_of(arguments.checkpoint, arguments.device)
    reads = arguments.workspace and reads_workspace(about)
    found = asyncio.run(soak(files, serve, arguments.minutes, workspace=reads))
    found |= {"checkpoint": arguments.checkpoint, "device": arguments.device}
    if arguments.json:
        print(json.dumps(found))
        return 0
    for name, value in found.items():
        shown = ", ".join(f"{key} {one}" for key, one in value.items()) if isinstance(value, dict) else value
        print(f"{name.replace('_', ' '):18} {shown}")
    print(f"memory grew by {100 * found['growth']:.2f} % after the warm-up")
    return 0
