"""`midspan report`: what became of the suggestions, from the telemetry store, which holds no code and no file names.

A suggestion that stays while the user types along counts once. `accepted` counts those taken whole, `acceptance_rate`
is their share of those offered, and `chars_accepted` includes partial acceptances. `confidence` has, for each fifth of
the scale, how many were offered and which share of them was accepted. `vetoed` counts the texts that a validator
objected to, by kind of objection: the parse, an undefined name, a schema, a table. `remedies` counts them by what was
shown in their place: the next candidate, a repair, another engine's text, or nothing.
"""

from __future__ import annotations

import argparse
import html
import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from midspan.server.commands.errors import CommandError
from midspan.server.statistics import quantile
from midspan.server.telemetry import FILE_NAME, SCHEMA_VERSION

GROUPS = ("language", "kind", "trigger", "checkpoint", "engine")
BINS = 5
OLDEST_VERSION = 1  # of the store; a server that runs makes it one of today
STYLE = "body{font:15px sans-serif;max-width:50em;margin:2em auto}td,th{padding:.2em 1em;text-align:left}"


class Row(NamedTuple):
    """One suggestion, as the store has it."""

    language: str
    kind: str
    trigger: str
    checkpoint: str
    confidence: float
    chars: int
    latency_ms: float
    shown: int
    accepted_ts: int | None
    partial_chars: int
    engine: str


def report_command(arguments: argparse.Namespace) -> int:
    """Read, print; with --html also write a page."""
    since = datetime.now(UTC) - arguments.since
    file = arguments.state_dir / FILE_NAME
    found = {"since": since.isoformat(timespec="seconds"), **report(read(file, since))}
    found |= {"vetoed": vetoes(file, since), "remedies": remedies(file, since)}
    if arguments.html is not None:
        try:
            arguments.html.write_text(as_html(found), encoding="utf-8")
        except OSError as error:
            raise CommandError(f"{arguments.html}: {error.strerror}; give a file that can be written") from error
    print(json.dumps(found) if arguments.json else "\n".join(as_text(found)))
    return 0


def read(file: Path, since: datetime) -> list[Row]:
    """The suggestions offered since then. Raises CommandError where there is no store, or one that cannot be read."""
    if not file.is_file():
        raise CommandError(f"{file}: no suggestion was logged there yet; give the --state-dir of your server")
    with _opened(file) as store:
        (version,) = store.execute("PRAGMA user_version").fetchone()
        if not OLDEST_VERSION <= version <= SCHEMA_VERSION:
            known = f"its schema is version {version}, this midspan knows {SCHEMA_VERSION}"
            raise CommandError(f"{file}: {known}; update midspan")
        fields = [f"'' AS {name}" if name == "engine" and version == OLDEST_VERSION else name for name in Row._fields]
        wanted = f"SELECT {', '.join(fields)} FROM completion WHERE ts >= ?"
        # SQLite keeps whatever it is given: a damaged or foreign row may hold anything.
        return msgspec.convert(store.execute(wanted, (_milliseconds(since),)).fetchall(), list[Row])


def vetoes(file: Path, since: datetime) -> dict[str, int]:
    """How many texts validators objected to since then, by kind; none in a store of before there were validators."""
    return _counted(file, since, "reason")


def remedies(file: Path, since: datetime) -> dict[str, int]:
    """The same by what came of their requests; none in a store of before anything came of them."""
    return {remedy: count for remedy, count in _counted(file, since, "remedy").items() if remedy}


def _counted(file: Path, since: datetime, by: str) -> dict[str, int]:
    """Vetoes by a column; none where the store has no such column."""
    with _opened(file) as store:
        if by not in {column[1] for column in store.execute("PRAGMA table_info(veto)")}:
            return {}
        counted = f"SELECT {by}, count(*) FROM veto WHERE ts >= ? GROUP BY {by} ORDER BY {by}"
        return dict(msgspec.convert(store.execute(counted, (_milliseconds(since),)).fetchall(), list[tuple[str, int]]))


@contextmanager
def _opened(file: Path) -> Iterator[sqlite3.Connection]:
    """The store, to read. Raises CommandError for what cannot be read."""
    try:
        with closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True)) as store:
            yield store
    except (sqlite3.Error, msgspec.ValidationError) as error:
        raise CommandError(f"{file}: {error}; remove it, or give another --state-dir") from error


def _milliseconds(since: datetime) -> int:
    return int(1000 * since.timestamp())


def report(rows: Sequence[Row]) -> dict[str, Any]:
    """All figures, in total and by language, kind of gap, trigger and checkpoint."""
    by: dict[str, dict[str, Any]] = {}
    for name in GROUPS:
        parts = defaultdict[str, list[Row]](list)
        for row in rows:
            # Where the router had no choice, no engine is named.
            if (key := getattr(row, name)) or name != "engine":
                parts[key].append(row)
        by[name] = {key: figures(part) for key, part in sorted(parts.items())}
    return {**figures(rows), "confidence": list(_bins(rows)), "by": by}


def figures(rows: Sequence[Row]) -> dict[str, Any]:
    """The figures of some suggestions; rate and latency are None for none."""
    accepted = [row for row in rows if row.accepted_ts is not None]
    part = [row for row in rows if row.accepted_ts is None and row.partial_chars]
    waits = [row.latency_ms for row in rows]
    return {
        "offered": len(rows),
        "shown": sum(bool(row.shown) for row in rows),
        "accepted": len(accepted),
        "accepted_in_part": len(part),
        "acceptance_rate": len(accepted) / len(rows) if rows else None,
        "chars_accepted": sum(row.chars for row in accepted) + sum(row.partial_chars for row in part),
        "latency_ms": {"p50": round(quantile(waits, 0.5), 1), "p95": round(quantile(waits, 0.95), 1)} if rows else None,
    }


def _bins(rows: Iterable[Row]) -> Iterator[dict[str, Any]]:
    parts = defaultdict[int, list[Row]](list)
    for row in rows:
        parts[min(BINS - 1, int(BINS * row.confidence))].append(row)
    for number, part in sorted(parts.items()):
        taken = sum(row.accepted_ts is not None for row in part) / len(part)
        yield {"from": number / BINS, "to": (number + 1) / BINS, "offered": len(part), "accepted": taken}


def _lines(found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Name and value of each figure, for a person."""
    rate, waits = found["acceptance_rate"], found["latency_ms"]
    yield "offered", str(found["offered"])
    yield "accepted", str(found["accepted"]) + ("" if rate is None else f" ({100 * rate:.1f} %)")
    yield "accepted in part", str(found["accepted_in_part"])
    yield "characters accepted", str(found["chars_accepted"])
    if waits is not None:
        yield "request to answer", f"p50 {waits['p50']:.0f} ms, p95 {waits['p95']:.0f} ms"


def as_text(found: dict[str, Any]) -> Iterator[str]:
    """One figure a line, then a line for each language, kind of gap, trigger and checkpoint."""
    yield f"{'since':20} {found['since']}"
    for name, value in _lines(found):
        yield f"{name:20} {value}"
    if found["vetoed"]:
        yield f"{'vetoed':20} {_counts(found['vetoed'])}"
    if found["remedies"]:
        yield f"{'in their place':20} {_counts(found['remedies'])}"
    for group, parts in found["by"].items():
        for key, part in parts.items():
            yield f"{group:20} {key}: " + ", ".join(f"{name} {value}" for name, value in _lines(part))
    for one in found["confidence"]:
        span = f"{one['from']:.1f} to {one['to']:.1f}"
        yield f"{'confidence':20} {span}: offered {one['offered']}, {100 * one['accepted']:.1f} % accepted"


def _counts(by_kind: dict[str, int]) -> str:
    return ", ".join(f"{kind} {count}" for kind, count in by_kind.items())


def as_html(found: dict[str, Any]) -> str:
    """A self-contained page."""
    names = [name for name, _ in _lines(found)]
    lines = [("all", found), *((key, part) for parts in found["by"].values() for key, part in parts.items())]
    head = "".join(f"<th>{html.escape(name)}</th>" for name in ("", *names))
    body = "".join(
        f"<tr><th>{html.escape(key)}</th>"
        + "".join(f"<td>{html.escape(value)}</td>" for _, value in _lines(part))
        + "</tr>\n"
        for key, part in lines
    )
    title = f"midspan since {html.escape(found['since'])}"
    return (
        f'<!doctype html>\n<meta charset="utf-8">\n<title>{title}</title>\n<style>{STYLE}</style>\n'
        f"<h1>{title}</h1>\n<table>\n<tr>{head}</tr>\n{body}</table>\n"
        f"<p>vetoed by validators: {html.escape(_counts(found['vetoed']) or 'none')}</p>\n"
    )
