"""What the record costs: `benchmarks/record_store.py [--seconds 60] [--rows 1000000]`.

First 10,000 completions a minute are logged as a server does: each is a request's row, a suggestion's row, and three
keys along it with an acceptance that the edits tell, or four keys past it. What an answer and a key pay is timed: p50,
p99 and worst in microseconds, and how long the store's thread takes to be done after the last one. Then
`midspan report` runs on a store of so many suggestions and as many requests, as a process of its own, for each form.
Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from midspan.server.statistics import quantile
from midspan.server.suggestions import Offered
from midspan.server.telemetry.aftermath import Aftermath
from midspan.server.telemetry.events import Asked, Offer
from midspan.server.telemetry.schema import DAY_MS, FILE_NAME, HORIZONS, now_ms, open_store, setup_of
from midspan.server.telemetry.store import Telemetry
from midspan.server.text.documents import Documents

A_MINUTE = 10_000
TEXT = "total = sum(values) / len(values)"
URI = "file:///project/plan.py"
LINES = 2000
MONTH_MS = 29 * DAY_MS
REPEATS = 3
SETUP: dict[str, Any] = {"language": "python", "kind": "line", "trigger": "automatic", "checkpoint": "embedded"}
PAGE = "FILE"
FORMS = {"text": (), "json": ("--json",), "html": ("--html", PAGE), "metrics": ("--prometheus",)}


class Typing:
    """One person's document, with suggestions, and what each of them and each key cost."""

    def __init__(self, store: Telemetry) -> None:
        self._store = store
        self.answers_us, self.keys_us = list[float](), list[float]()
        self._documents = Documents()
        self._aftermath = Aftermath(lambda: store, lambda seconds, call: None)
        self._document = self._documents.open(URI, "plaintext", 1, "\n" * LINES)

    def complete(self, number: int) -> None:
        """One completion: asked for and offered; every other one is typed along and taken, the others are rejected."""
        id, line = f"{number:032x}", number % LINES
        asked = Asked(**SETUP, fate="produced", id=id, latency_ms=20.0)
        offer = Offer(
            **SETUP, id=id, uri=URI, confidence=0.5, chars=len(TEXT), lines=1, latency_ms=20.0, engine_ms=15.0, steps=4
        )
        began = time.perf_counter()
        self._store.asked(asked)
        self._store.offered(offer)
        self._aftermath.offered(self._document, (line, 0), (line, 0), [Offered(id=id, text=TEXT)])
        self.answers_us.append(1e6 * (time.perf_counter() - began))
        keys = [TEXT[0], TEXT[1], TEXT[2], TEXT[3:]] if number % 2 else ["z", "z", "z", "z"]
        column = 0
        for key in keys:
            self._edit(((line, column), (line, column)), key)
            column += len(key)
        self._documents.change(URI, 1, [(((line, 0), (line, column)), "")], "utf-32")

    def _edit(self, span: tuple[tuple[int, int], tuple[int, int]], text: str) -> None:
        """What the record adds to one key; what the edit costs without it is not counted."""
        began = time.perf_counter()
        self._aftermath.edit(self._document, span, text)
        followed = time.perf_counter()
        self._documents.change(URI, 1, [(span, text)], "utf-32")
        changed = time.perf_counter()
        self._aftermath.settle(URI, 1)
        self.keys_us.append(1e6 * (time.perf_counter() - changed + followed - began))


def spread(values: list[float]) -> dict[str, float]:
    """p50, p99 and the worst."""
    return {"p50": round(quantile(values, 0.5), 1), "p99": round(quantile(values, 0.99), 1), "max": round(max(values))}


def log_for(state_dir: Path, seconds: float) -> dict[str, Any]:
    """Log A_MINUTE for so many seconds at an even pace."""
    troubles = list[str | None]()
    store = Telemetry(state_dir, troubles.append)
    typing, began = Typing(store), time.perf_counter()
    count = round(A_MINUTE * seconds / 60)
    for number in range(count):
        wait_s = began + number * 60 / A_MINUTE - time.perf_counter()
        if wait_s > 0:
            time.sleep(wait_s)
        typing.complete(number)
    ended = time.perf_counter()
    store.close()
    with closing(sqlite3.connect(state_dir / FILE_NAME)) as rows:
        (stored,) = rows.execute("SELECT count(*) FROM completion WHERE accepted_ts NOT NULL").fetchone()
    return {
        "completions": count,
        "stored_and_taken": stored,
        "troubles": troubles,
        "seconds": round(ended - began, 1),
        "answer_us": spread(typing.answers_us),
        "key_us": spread(typing.keys_us),
        "behind_ms": round(1000 * (time.perf_counter() - ended), 1),
    }


def make_store(state_dir: Path, rows: int) -> None:
    """So many suggestions and requests over a month, in 48 setups."""
    store, _ = open_store(state_dir / FILE_NAME)
    with closing(store), store:
        setups = [
            setup_of(store, ("Neovim", language, kind, trigger, "embedded", "00ff", engine, "filler", "cpu"))
            for language in ("python", "typescript", "go", "rust")
            for kind in ("rest_of_line", "line", "block")
            for trigger in ("automatic", "invoked")
            for engine in ("", "qwen")
        ]
        begun = now_ms() - MONTH_MS
        numbers = "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < ? - 1)"
        kept = ", ".join("iif(i % 3 = 0, (i % 97) / 96.0, NULL)" for _ in HORIZONS)
        names = "id, ts, uri_hash, language, kind, trigger, confidence, chars, lines, latency_ms, engine_ms, steps, "
        names += "checkpoint, shown, accepted_ts, partial_chars, engine, route, setup, accepted_by, ended, "
        names += ", ".join(f"kept_{seconds}" for seconds in HORIZONS)
        store.execute(
            f"{numbers} INSERT INTO completion ({names}) SELECT printf('%032x', i * 2654435761 % 4294967296 * ? + i),"
            f" ? + i * ? / ?, '00', 'python', 'line', 'automatic', (i * 7919 % 1000) / 1000.0, 5 + i % 60, 1,"
            f" 10 + (i * 104729 % 9000) / 50.0, 15.0, 4, 'embedded', 2, iif(i % 3 = 0, 1, NULL), iif(i % 7 = 1, 4, 0),"
            f" '', '', ? + i % ?, 2, 'rejected', {kept} FROM n",
            (rows, rows, begun, MONTH_MS, rows, setups[0], len(setups)),
        )
        store.execute(
            f"{numbers} INSERT INTO request SELECT ? + i * ? / ?, ? + i % ?,"
            " CASE i % 4 WHEN 0 THEN 'produced' WHEN 1 THEN 'empty' ELSE 'superseded' END, '', NULL, 0.5, 1, 4, 20.0,"
            " 1.0, 4.0, 5.0, 8.0, 1.0, 1.0 FROM n",
            (rows, begun, MONTH_MS, rows, setups[0], len(setups)),
        )


def report_on(state_dir: Path) -> dict[str, Any]:
    """Seconds of the whole command, the best of a few, by form; and the page's size."""
    page = state_dir / "page.html"
    found = dict[str, Any]()
    for name, form in FORMS.items():
        argv, times = [str(page) if one == PAGE else one for one in form], list[float]()
        for _ in range(REPEATS):
            began = time.perf_counter()
            command = [sys.executable, "-m", "midspan.server", "report", "--state-dir", str(state_dir), *argv]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            times.append(time.perf_counter() - began)
        found[f"{name}_s"] = round(min(times), 2)
    return found | {"page_bytes": page.stat().st_size, "store_mb": round((state_dir / FILE_NAME).stat().st_size / 1e6)}


def main(argv: list[str] | None = None) -> int:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description="what the record costs a keystroke, and the report on a large store")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rows", type=int, default=1_000_000)
    arguments = parser.parse_args(argv)
    with TemporaryDirectory() as folder:
        logged, large = Path(folder) / "logged", Path(folder) / "large"
        found = {"logging": log_for(logged, arguments.seconds)}
        large.mkdir()
        make_store(large, arguments.rows)
        found["report"] = {"rows": arguments.rows, **report_on(large)}
    sys.stdout.write(json.dumps(found) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
