"""The rows themselves, as CSV: a line for each suggestion with all that is stored of it but the hash of its file."""

from __future__ import annotations

import csv
from datetime import datetime
from pathlib import Path

from midspan.server.report.reading import milliseconds, opened
from midspan.server.telemetry.schema import HORIZONS

COLUMNS = (
    *(f"completion.{name}" for name in ("id", "ts")),
    *(f"setup.{name}" for name in ("client", "language", "kind", "trigger", "checkpoint", "digest", "engine")),
    *(f"setup.{name}" for name in ("layout", "device")),
    *(f"completion.{name}" for name in ("route", "confidence", "chars", "lines", "latency_ms", "engine_ms", "steps")),
    *(f"completion.{name}" for name in ("shown", "accepted_ts", "accepted_by", "partial_chars", "ended")),
    *(f"completion.kept_{seconds}" for seconds in HORIZONS),
)


def write_csv(store: Path, since: datetime, file: Path) -> int:
    """Write the suggestions since then; returns how many. Raises OSError, or CommandError for a broken store."""
    wanted = (
        f"SELECT {', '.join(COLUMNS)} FROM completion JOIN setup ON setup.id = completion.setup"
        " WHERE completion.ts >= ? ORDER BY completion.ts"
    )
    with opened(store) as rows, file.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(name.partition(".")[2] for name in COLUMNS)
        count = 0
        for row in rows.execute(wanted, (milliseconds(since),)):
            writer.writerow(row)
            count += 1
    return count
