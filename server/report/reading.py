"""What the store has, added up by SQLite: a million rows are some thousand cells here.

A cell has what suggestions of one setup, confidence and day have in common; other figures are made of cells.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec

from midspan.server.commands.errors import CommandError
from midspan.server.telemetry.events import Setup
from midspan.server.telemetry.schema import DAY_MS, HORIZONS, INFERRED, NAMES, SCHEMA_VERSION, TOLD, upgrade

BINS = 5
MINUTE_MS = 60_000
OLDEST_VERSION = 1  # of the store; one of before today's is read as if a server had made it one of today
TAKEN = "(accepted_ts IS NOT NULL OR partial_chars > 0)"
CHARS = "iif(accepted_ts IS NULL, partial_chars, chars)"
# SQLite keeps whatever it is given, and adds a word up as nothing: a damaged or foreign row may hold anything.
NUMBERS = ("ts", "confidence", "chars", "latency_ms", "shown", "partial_chars", "setup", "accepted_by")
DAMAGED = (
    " OR ".join(f"typeof({name}) NOT IN ('integer', 'real')" for name in NUMBERS)
    + " OR setup NOT IN (SELECT id FROM setup)"
)
SUMS = {
    "offered": "count(*)",
    "told": f"sum((shown & {TOLD}) != 0)",
    "seen": f"sum((shown & {INFERRED}) != 0)",
    "shown": "sum(shown != 0)",
    "accepted": "count(accepted_ts)",
    "inferred": f"sum(accepted_by = {INFERRED})",
    "in_part": "sum(accepted_ts IS NULL AND partial_chars > 0)",
    "chars": f"sum({CHARS})",
    "sureness": "sum(confidence)",
    "typed": "sum(ended = 'typed')",
    "rejected": "sum(ended = 'rejected')",
    "dismissed": "sum(ended = 'dismissed')",
    **{f"known_{seconds}": f"count(kept_{seconds})" for seconds in HORIZONS},
    **{f"kept_{seconds}": f"total(kept_{seconds})" for seconds in HORIZONS},
    "squares": "total(kept_300 * kept_300)",
    "chars_known": f"total(iif(kept_300 IS NULL, 0, {CHARS}))",
    "chars_kept": f"total(kept_300 * {CHARS})",
}
PHASES = ("context", "queue", "encode", "denoise", "rank", "validate")


@dataclass(frozen=True, slots=True)
class Cell:
    """Sums over suggestions of one setup; `bin` is the fifth of the confidence, `day` the day in local time since 1970.

    `after` says whether they came after the date that the report compares by. `sums` has SUMS by name.
    """

    setup: Setup
    bin: int
    day: int
    after: bool
    sums: dict[str, float]


@dataclass(frozen=True, slots=True)
class Requests:
    """Requests of one setup and one fate: how many, their denoise steps, and milliseconds by phase."""

    setup: Setup
    fate: str
    reason: str
    count: int
    steps: int
    phases: dict[str, float]


@dataclass(frozen=True, slots=True)
class Waits:
    """Suggestions of one setup that took so many milliseconds, and how many of them were taken."""

    setup: Setup
    after: bool
    ms: float
    offered: int
    taken: int


@dataclass(frozen=True, slots=True)
class Read:
    """All that a report is made of. `minutes` counts those in which anything was asked."""

    cells: list[Cell]
    waits: list[Waits]
    requests: list[Requests]
    vetoed: dict[str, int]
    minutes: int


def read(file: Path, since: datetime, date: datetime | None = None) -> Read:
    """What happened since then; `date` parts it in two. Raises CommandError for a store that cannot be read."""
    if not file.is_file():
        raise CommandError(f"{file}: no suggestion was logged there yet; give the --state-dir of your server")
    with opened(file) as store:
        setups = _setups(store)
        bounds = {"since": milliseconds(since), "date": 0 if date is None else milliseconds(date), "east": _east_ms()}
        (damaged,) = store.execute(f"SELECT count(*) FROM completion WHERE {DAMAGED}").fetchone()
        if damaged:
            raise sqlite3.DatabaseError(f"{damaged} rows hold what midspan has not written")
        counted = "SELECT reason, count(*) FROM veto WHERE ts >= :since GROUP BY reason ORDER BY reason"
        active = f"SELECT count(*) FROM (SELECT DISTINCT ts / {MINUTE_MS} FROM request WHERE ts >= :since)"
        return Read(
            cells=list(_cells(store, setups, bounds)),
            waits=list(_waits(store, setups, bounds)),
            requests=list(_requests(store, setups, bounds)),
            vetoed=dict(msgspec.convert(store.execute(counted, bounds).fetchall(), list[tuple[str, int]])),
            minutes=store.execute(active, bounds).fetchone()[0],
        )


@contextmanager
def opened(file: Path) -> Iterator[sqlite3.Connection]:
    """The store, to read, as one of today. Raises CommandError for what cannot be read."""
    try:
        with closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True)) as store:
            (version,) = store.execute("PRAGMA user_version").fetchone()
            if not OLDEST_VERSION <= version <= SCHEMA_VERSION:
                known = f"its schema is version {version}, this midspan knows {SCHEMA_VERSION}"
                raise CommandError(f"{file}: {known}; update midspan")
            if version == SCHEMA_VERSION:
                yield store
                return
            with closing(sqlite3.connect(":memory:")) as copy:
                store.backup(copy)
                upgrade(copy, version)
                yield copy
    except (sqlite3.Error, msgspec.ValidationError) as error:
        raise CommandError(f"{file}: {error}; remove it, or give another --state-dir") from error


def milliseconds(when: datetime) -> int:
    """Since 1970."""
    return int(1000 * when.timestamp())


def _east_ms() -> int:
    """How far local time is ahead of UTC."""
    return 1000 * time.localtime().tm_gmtoff


def _setups(store: sqlite3.Connection) -> dict[int, Setup]:
    rows = store.execute(f"SELECT id, {NAMES} FROM setup").fetchall()
    names = NAMES.split(", ")
    return {id: msgspec.convert(dict(zip(names, values, strict=True)), Setup) for id, *values in rows}


def _cells(store: sqlite3.Connection, setups: dict[int, Setup], bounds: dict[str, int]) -> Iterator[Cell]:
    wanted = (
        f"SELECT setup, min({BINS - 1}, CAST({BINS} * confidence AS INTEGER)) AS bin, (ts + :east) / {DAY_MS} AS day,"
        f" ts >= :date AS after, {', '.join(SUMS.values())} FROM completion WHERE ts >= :since GROUP BY 1, 2, 3, 4"
    )
    for setup, bin, day, after, *sums in store.execute(wanted, bounds):
        yield Cell(setups[setup], bin, day, bool(after), dict(zip(SUMS, sums, strict=True)))


def _waits(store: sqlite3.Connection, setups: dict[int, Setup], bounds: dict[str, int]) -> Iterator[Waits]:
    """To a tenth of a millisecond."""
    wanted = (
        f"SELECT setup, ts >= :date, CAST(10 * latency_ms + 0.5 AS INTEGER) AS tenth, count(*), sum({TAKEN})"
        " FROM completion WHERE ts >= :since GROUP BY 1, 2, 3"
    )
    for setup, after, tenth, offered, taken in store.execute(wanted, bounds):
        yield Waits(setups[setup], bool(after), tenth / 10, offered, taken)


def _requests(store: sqlite3.Connection, setups: dict[int, Setup], bounds: dict[str, int]) -> Iterator[Requests]:
    sums = ", ".join(f"total({phase}_ms)" for phase in PHASES)
    wanted = (
        f"SELECT setup, fate, reason, count(*), sum(steps), {sums} FROM request WHERE ts >= :since"
        " GROUP BY setup, fate, reason"
    )
    for setup, fate, reason, count, steps, *phases in store.execute(wanted, bounds):
        yield Requests(setups[setup], fate, reason, count, steps, dict(zip(PHASES, phases, strict=True)))
