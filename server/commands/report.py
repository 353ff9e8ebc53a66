"""`midspan report`: what became of the suggestions, from the telemetry store, which holds no code and no file names."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from midspan.server.commands.errors import CommandError
from midspan.server.report.compare import by_date, by_group
from midspan.server.report.figures import Figures, report
from midspan.server.report.page import as_html
from midspan.server.report.prometheus import as_metrics
from midspan.server.report.reading import Read, read
from midspan.server.report.rows import write_csv
from midspan.server.report.terminal import as_text
from midspan.server.telemetry.schema import FILE_NAME


def report_command(arguments: argparse.Namespace) -> int:
    """Read, print; with --html also write a page, with --csv rows."""
    now = datetime.now(UTC)
    since = now - arguments.since
    if arguments.before is not None and not since < arguments.before < now:
        raise CommandError(f"--before {arguments.before:%Y-%m-%d}: not within the report's time; give a longer --since")
    file = arguments.state_dir / FILE_NAME
    rows = read(file, since, arguments.before)
    times = {"since": since.isoformat(timespec="seconds"), "until": now.isoformat(timespec="seconds")}
    found = {**times, **report(rows), **_comparisons(arguments, rows)}
    if arguments.html is not None:
        _written(arguments.html, lambda path: path.write_text(as_html(found), encoding="utf-8"))
    if arguments.csv is not None:
        _written(arguments.csv, lambda path: write_csv(file, since, path))
    if arguments.json:
        print(json.dumps(found))
    else:
        print("\n".join(as_metrics(rows, found) if arguments.prometheus else as_text(found)))
    return 0


def _comparisons(arguments: argparse.Namespace, rows: Read) -> Figures:
    """What was asked to be compared, if anything was."""
    found = []
    if arguments.before is not None:
        found.append(by_date(rows.cells, f"{arguments.before:%Y-%m-%d}"))
    if arguments.compare is not None:
        found.append(by_group(rows.cells, arguments.compare))
    return {"comparisons": found} if found else {}


def _written(path: Path, write: Callable[[Path], object]) -> None:
    try:
        write(path)
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}; give a file that can be written") from error
