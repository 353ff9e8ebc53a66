"""What the store has, added up by SQLite: a million rows are some thousand cells here.

A cell has what suggestions of one setup, confidence and day have in common; other figures are made of cells. Where
SQLite would sort a million rows to group them, numbers that name a group are counted here instead, which is quicker.
"""

from __future__ import annotations

import sqlite3
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from operator import itemgetter
from pathlib import Path
from typing import Any, TypeVar, get_args

import msgspec

from midspan.server.commands.errors import CommandError
from midspan.server.telemetry.events import ACTION, Fate, Setup
from midspan.server.telemetry.schema import DAY_MS, HORIZONS, INFERRED, NAMES, SCHEMA_VERSION, upgrade

BINS = 5
MINUTE_MS = 60_000
OLDEST_VERSION = 1  # of the store; one of before today's is read as if a server had made it one of today
TAKEN = "(accepted_ts IS NOT NULL OR partial_chars > 0)"
CHARS = "iif(accepted_ts IS NULL, partial_chars, chars)"
# SQLite keeps whatever it is given, and takes a word for nothing: but words are more than any number.
NUMBERS = ("ts", "confidence", "chars", "latency_ms", "shown", "partial_chars", "setup", "accepted_by")
DAMAGED = "rows hold what midspan has not written"
# Of a row that a server of an earlier version has written into a store of today.
NO_SETUP = 0
# Setups that there can be, and tenths of a millisecond.
SETUPS, TENTHS = 1 << 20, 1 << 24
CHUNK = 20_000
BIN = f"min({BINS - 1}, CAST({BINS} * confidence AS INTEGER))"
DAY = f"(ts + :east) / {DAY_MS}"
# A suggestion's group and flags in one number, from its lowest digit: taken in part, taken, by whom, seen, after, bin.
GROUP = (
    f"(((({DAY} * {SETUPS} + setup) * {BINS} + {BIN}) * 2 + (ts >= :date)) * 4 + shown) * 16"
    " + accepted_by * 4 + (accepted_ts IS NOT NULL) * 2 + (accepted_ts IS NULL AND partial_chars > 0)"
)
WAIT = f"(setup * {TENTHS} + CAST(10 * latency_ms + 0.5 AS INTEGER)) * 2 + {TAKEN}"
COUNTS = ("offered", "shown", "accepted", "inferred", "in_part")
ENDED = ("typed", "rejected", "dismissed")
# A fate as a number: one is sorted sooner than a word.
FATES = get_args(Fate)
FATE = f"CASE fate {' '.join(f'WHEN {chr(39)}{fate}{chr(39)} THEN {number}' for number, fate in enumerate(FATES))} END"
# What is added up of those that were taken, by name.
SUMS = {
    "chars": f"sum({CHARS})",
    **{f"known_{seconds}": f"count(kept_{seconds})" for seconds in HORIZONS},
    **{f"kept_{seconds}": f"total(kept_{seconds})" for seconds in HORIZONS},
    "squares": "total(kept_300 * kept_300)",
    "chars_known": f"total(iif(kept_300 IS NULL, 0, {CHARS}))",
    "chars_kept": f"total(kept_300 * {CHARS})",
}
PHASES = ("context", "queue", "encode", "denoise", "rank", "validate")
Bounds = dict[str, int]
One = TypeVar("One", "Cell", "Waits", "Requests")


class Damaged(Exception):
    """A store that holds what midspan has not written."""


class Setups(dict[int, Setup]):
    """The setups by id; one that is not there is damage."""

    def __missing__(self, id: int) -> Setup:
        raise Damaged(DAMAGED)


@dataclass(frozen=True, slots=True)
class Cell:
    """Sums over suggestions of one setup; `bin` is the fifth of the confidence, `day` the day in local time since 1970.

    `after` says whether they came after the date that the report compares by. `sums` has `offered`, `shown`,
    `accepted`, `inferred` (accepted, as the edits alone tell), `in_part`, and SUMS; a name that is missing is none.
    """

    setup: Setup
    bin: int
    day: int
    after: bool
    sums: dict[str, float]


@dataclass(frozen=True, slots=True)
class Requests:
    """Requests of one setup and one fate: how many, their denoise steps, and milliseconds of the engine's computing."""

    setup: Setup
    fate: str
    count: int
    steps: int
    busy_ms: float


@dataclass(frozen=True, slots=True)
class Waits:
    """Suggestions of one setup that took so many milliseconds, and how many of them were taken."""

    setup: Setup
    ms: float
    offered: int
    taken: int


@dataclass(frozen=True, slots=True)
class Actions:
    """Code actions, as suggestions: an offer is an edit that was made. `undone` counts those by their name."""

    cells: list[Cell]
    waits: list[Waits]
    requests: list[Requests]
    undone: dict[str, int]


@dataclass(frozen=True, slots=True)
class Read:
    """All that a report is made of; code actions stand apart.

    `sureness` has the sum of the confidences by their fifth, `phases_ms` the mean of those requests that brought a
    suggestion. `minutes` counts those in which anything was asked, code actions too.
    """

    actions: Actions
    cells: list[Cell]
    waits: list[Waits]
    requests: list[Requests]
    failures: dict[str, int]
    sureness: dict[int, float]
    ended: dict[str, int]
    phases_ms: dict[str, float]
    vetoed: dict[str, int]
    remedies: dict[str, int]
    minutes: int


def read(file: Path, since: datetime, date: datetime | None = None) -> Read:
    """What happened since then; `date` parts it in two. Raises CommandError for a store that cannot be read."""
    if not file.is_file():
        raise CommandError(f"{file}: no suggestion was logged there yet; give the --state-dir of your server")
    bounds = {"since": milliseconds(since), "date": 0 if date is None else milliseconds(date), "east": _east_ms()}
    # SQLite lets go of the interpreter while it works: what it adds up alone goes on beside what is counted here.
    with ThreadPoolExecutor(1) as beside:
        others = beside.submit(_others, file, bounds)
        with opened(file) as store:
            cells, waits = _counted(store, _setups(store), bounds)
        found = others.result()
    (suggested, acted), (waited, waited_for) = _parted(cells), _parted(waits)
    asked, asked_to_act = _parted(found.pop("requests"))
    actions = Actions(acted, waited_for, asked_to_act, found.pop("undone"))
    return Read(actions=actions, cells=suggested, waits=waited, requests=asked, **found)


def _parted(ones: Iterable[One]) -> tuple[list[One], list[One]]:
    """Those of suggestions, and those of code actions."""
    parts: tuple[list[One], list[One]] = [], []
    for one in ones:
        parts[one.setup.trigger == ACTION].append(one)
    return parts


def _others(file: Path, bounds: Bounds) -> dict[str, Any]:
    """All but the suggestions by group. Raises CommandError for a store that cannot be read."""
    active = f"SELECT count(*) FROM (SELECT DISTINCT ts / {MINUTE_MS} FROM request WHERE ts >= :since)"
    with opened(file) as store:
        setups = _setups(store)
        # As numbers: SQLite finds them sooner than by a query within the query.
        acts = ", ".join(str(id) for id, setup in setups.items() if setup.trigger == ACTION)
        return {
            "requests": _requests(store, setups, bounds),
            "failures": _by_reason(store, f"request WHERE fate = 'failed' AND setup NOT IN ({acts}) AND", bounds),
            "phases_ms": _phases(store, bounds, acts),
            "undone": _undone(store, setups, bounds),
            "vetoed": _by_reason(store, "veto WHERE", bounds),
            "remedies": _by_reason(store, "veto WHERE remedy <> '' AND", bounds, "remedy"),
            "minutes": store.execute(active, bounds).fetchone()[0],
            **_flat(store, bounds, acts),
        }


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
    except (sqlite3.Error, msgspec.ValidationError, Damaged) as error:
        raise CommandError(f"{file}: {error}; remove it, or give another --state-dir") from error


def milliseconds(when: datetime) -> int:
    """Since 1970."""
    return int(1000 * when.timestamp())


def _east_ms() -> int:
    """How far local time is ahead of UTC."""
    return 1000 * time.localtime().tm_gmtoff


def _setups(store: sqlite3.Connection) -> Mapping[int, Setup]:
    rows = store.execute(f"SELECT id, {NAMES} FROM setup").fetchall()
    names = NAMES.split(", ")
    return Setups(
        {NO_SETUP: Setup(**dict.fromkeys(("language", "kind", "trigger", "checkpoint"), "unknown"))}
        | {id: msgspec.convert(dict(zip(names, values, strict=True)), Setup) for id, *values in rows}
    )


def _flat(store: sqlite3.Connection, bounds: Bounds, acts: str) -> dict[str, Any]:
    """What is added up over all suggestions. Raises Damaged where one of them holds a word for a number."""
    # Below each bound: a comparison is sooner made than a fifth is computed.
    sums = [f"total(iif(confidence < {bin / BINS}, confidence, 0))" for bin in range(1, BINS)] + ["total(confidence)"]
    sums += [f"sum(ended = '{how}')" for how in ENDED] + [f"max({name})" for name in NUMBERS]
    wanted = f"SELECT {', '.join(sums)} FROM completion WHERE ts >= :since AND setup NOT IN ({acts})"
    found = store.execute(wanted, bounds).fetchone()
    if any(isinstance(value, str | bytes) for value in found):
        raise Damaged(DAMAGED)
    ended = dict(zip(ENDED, (value or 0 for value in found[BINS:]), strict=False))
    below = (0.0, *found[:BINS])
    return {"sureness": {bin: below[bin + 1] - below[bin] for bin in range(BINS)}, "ended": ended}


def _counted(store: sqlite3.Connection, setups: Mapping[int, Setup], bounds: Bounds) -> tuple[list[Cell], list[Waits]]:
    """The suggestions by group, and by how long they took, from one pass over them."""
    groups, waits = Counter[int](), Counter[int]()
    rows = store.execute(f"SELECT {GROUP}, {WAIT} FROM completion WHERE ts >= :since", bounds)
    while chunk := rows.fetchmany(CHUNK):
        groups.update(map(itemgetter(0), chunk))
        waits.update(map(itemgetter(1), chunk))
    return _cells(store, setups, bounds, groups), list(_waits(setups, waits))


def _cells(store: sqlite3.Connection, setups: Mapping[int, Setup], bounds: Bounds, groups: Counter[int]) -> list[Cell]:
    cells = defaultdict[int, dict[str, float]](lambda: dict.fromkeys(COUNTS, 0.0))
    for number, count in groups.items():
        sums, flags = cells[number >> 6], number & 0b111111
        sums["offered"] += count
        sums["shown"] += count * (flags >> 4 > 0)
        sums["accepted"] += count * (flags & 0b10 > 0)
        sums["inferred"] += count * (flags >> 2 & 0b11 == INFERRED)
        sums["in_part"] += count * (flags & 1)
    wanted = (
        f"SELECT ({GROUP}) >> 6, {', '.join(SUMS.values())} FROM completion WHERE ts >= :since AND {TAKEN} GROUP BY 1"
    )
    for group, *values in store.execute(wanted, bounds):
        cells[group].update(zip(SUMS, values, strict=True))
    found = []
    for group, sums in cells.items():
        rest, bin = divmod(group >> 1, BINS)
        day, setup = divmod(rest, SETUPS)
        found.append(Cell(setups[setup], bin, day, bool(group & 1), sums))
    return found


def _waits(setups: Mapping[int, Setup], counted: Counter[int]) -> Iterator[Waits]:
    """To a tenth of a millisecond."""
    for group in {number >> 1 for number in counted}:
        taken = counted[group << 1 | 1]
        setup, tenth = divmod(group, TENTHS)
        yield Waits(setups[setup], tenth / 10, counted[group << 1] + taken, taken)


def _requests(store: sqlite3.Connection, setups: Mapping[int, Setup], bounds: Bounds) -> list[Requests]:
    wanted = (
        f"SELECT setup * {len(FATES)} + {FATE}, count(*), sum(steps), total(encode_ms + denoise_ms + rank_ms)"
        " FROM request WHERE ts >= :since GROUP BY 1"
    )
    found = []
    for group, *values in store.execute(wanted, bounds):
        if group is None:
            raise Damaged(DAMAGED)
        setup, fate = divmod(group, len(FATES))
        found.append(Requests(setups[setup], FATES[fate], *values))
    return found


def _phases(store: sqlite3.Connection, bounds: Bounds, acts: str) -> dict[str, float]:
    means = ", ".join(f"avg({phase}_ms)" for phase in PHASES)
    wanted = f"SELECT {means} FROM request WHERE ts >= :since AND fate = 'produced' AND setup NOT IN ({acts})"
    found = store.execute(wanted, bounds).fetchone()
    return {} if found[0] is None else dict(zip(PHASES, found, strict=True))


def _undone(store: sqlite3.Connection, setups: Mapping[int, Setup], bounds: Bounds) -> dict[str, int]:
    """How many code actions were undone within a minute, by their name."""
    counted = Counter[str]()
    wanted = "SELECT setup, count(*) FROM completion WHERE ts >= :since AND ended = 'undone' GROUP BY 1"
    for setup, count in store.execute(wanted, bounds):
        counted[setups[setup].kind] += count
    return dict(counted)


def _by_reason(store: sqlite3.Connection, of: str, bounds: Bounds, name: str = "reason") -> dict[str, int]:
    """How many rows each reason has, or each value of another column."""
    rows = store.execute(f"SELECT {name}, count(*) FROM {of} ts >= :since GROUP BY 1 ORDER BY 1", bounds).fetchall()
    return dict(msgspec.convert(rows, list[tuple[str, int]]))
