"""`midspan backends`: the engines on other servers that the user has configured, and those that could be."""

from __future__ import annotations

import argparse
import json
import sqlite3
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from midspan.engine.api import RemoteError
from midspan.server.backends.configured import Configured, configured_file, read_configured
from midspan.server.backends.find import HOST, PORTS, Found, find, lines_to_add, same_place
from midspan.server.commands.errors import CommandError
from midspan.server.statistics import quantile
from midspan.server.telemetry.schema import FILE_NAME, SCHEMA_VERSION

if TYPE_CHECKING:
    from midspan.engine.remote import Remote

CAN = ("infill", "pins", "logprobs", "structured")
# What the router of a server that begins now would do; see docs/router.md.
CIRCUITS = {"closed": "closed: it is asked", "open": "open: it is left alone, and asked how it is now and then"}
# Of the last answers of each engine.
LAST = 1000
PROBES = 5


def backends_command(arguments: argparse.Namespace, environment: Mapping[str, str]) -> int:
    """Print every engine; with --probe ask each how it is, and exit 1 where one is not ready."""
    file = configured_file(environment)
    configured = read_configured(file)
    rows = rows_of(configured, took(arguments.state_dir / FILE_NAME), probes=PROBES if arguments.probe else 0)
    if arguments.json:
        print(json.dumps({"file": str(file), "backends": rows}))
    elif rows:
        print("\n\n".join(map(as_text, rows)))
    else:
        print(f"none configured in {file}; midspan backends find looks for servers on this machine")
    return 1 if any(row["state"] not in (None, "ready") for row in rows) else 0


def find_command(arguments: argparse.Namespace, environment: Mapping[str, str]) -> int:
    """Print what listens here, as lines to add to the configuration file."""
    configured = [backend for backend, _ in read_configured(configured_file(environment)).backends]
    known = {same_place(one.address) for one in configured}
    ports = arguments.ports or PORTS
    found = find(ports)
    new = [one for one in found if one.address not in known]
    if arguments.json:
        print(json.dumps([{"kind": one.kind, "address": one.address, "models": one.models} for one in found]))
    elif new:
        lines = [*lines_to_add(new, (one.name for one in configured))][:-1]
        file = configured_file(environment)
        print("\n".join([f"# add to {file}, then restart midspan in editors that are open:", "", *lines]))
    else:
        print(nothing_new(found, ports))
    return 0


def nothing_new(found: Sequence[Found], ports: Sequence[int]) -> str:
    """Why there are no lines to add."""
    if found:
        return "all that was found is configured: " + ", ".join(one.address for one in found)
    return f"no model server answers at {HOST} on the ports {', '.join(map(str, ports))}; start one, or give --ports"


def rows_of(configured: Configured, fills: Mapping[str, Mapping[str, Any]], *, probes: int) -> list[dict[str, Any]]:
    """What is known of each engine. `state`, what it can and its circuit are None unless it is probed.

    The circuit is what a server would have that began now: each keeps its own, and nobody else sees that.
    """
    if not configured.backends:
        return []
    from midspan.server.backends.remotes import healths_of, reading_of, remote_of

    remotes = [remote_of(backend) for backend, _ in configured.backends]
    with ThreadPoolExecutor(len(remotes)) as threads:
        all_healths = list(threads.map(partial(healths_of, times=probes), remotes))
    rows = []
    for (backend, by), remote, healths in zip(configured.backends, remotes, all_healths, strict=True):
        row: dict[str, Any] = {name: getattr(backend, name) for name in ("name", "kind", "address", "model")}
        row |= {"tier": remote.tier, "reading": reading_of(backend), "by": by, "key": _key(remote, probed=bool(probes))}
        row |= {"can": None, "state": None, "problem": "", "circuit": None, "probe_ms": None, "probe_p90_ms": None}
        if healths:
            health, took_ms = healths[-1], [one.latency_ms for one in healths]
            row |= {"state": health.state, "problem": health.problem, "model": health.model or backend.model}
            row |= {"circuit": "closed" if health.state == "ready" and health.infill else "open"}
            row |= {"probe_ms": quantile(took_ms, 0.5), "probe_p90_ms": quantile(took_ms, 0.9)}
            row["can"] = {name: getattr(health, name) for name in CAN}
        rows.append(row | {"fills": fills.get(backend.name)})
    return rows


def _key(remote: Remote, *, probed: bool) -> str | None:
    """Whether a key is there, never the key itself; None where none is named. A keyring is read for a probe alone."""
    name = remote.key_variable or remote.key_place
    if remote.keyring and not probed:
        return f"looked for in {name} when it is asked"
    try:
        return (f"in {name}" if remote.key else f"{name} is not set") if name else None
    except RemoteError as error:
        return str(error)


def took(store: Path) -> dict[str, dict[str, Any]]:
    """How long each engine has taken for what was offered lately, by the telemetry; empty without any."""
    times = defaultdict[str, list[float]](list)
    for name, ms in _read(store, "SELECT engine, engine_ms FROM completion WHERE engine != '' ORDER BY ts DESC"):
        if len(times[name]) < LAST and isinstance(ms, float):
            times[name].append(ms)
    return {
        name: {"n": len(some), "p50_ms": quantile(some, 0.5), "p90_ms": quantile(some, 0.9)}
        for name, some in times.items()
        if some
    }


def answered_last(store: Path) -> str:
    """Who has answered last where there was a choice, and why that one."""
    rows = _read(store, "SELECT engine, route FROM completion WHERE engine != '' ORDER BY ts DESC LIMIT 1")
    return f"{rows[0][0]} ({rows[0][1]})" if rows else "nobody yet"


def _read(store: Path, wanted: str) -> list[tuple[Any, ...]]:
    """Rows of the store; none where there is no store of today's schema."""
    if not store.is_file():
        return []
    try:
        with closing(sqlite3.connect(f"{store.resolve().as_uri()}?mode=ro", uri=True)) as opened:
            if opened.execute("PRAGMA user_version").fetchone() != (SCHEMA_VERSION,):
                return []
            return opened.execute(wanted).fetchall()
    except sqlite3.Error as error:
        raise CommandError(f"{store}: {error}; remove it, or give another --state-dir") from error


def as_text(row: Mapping[str, Any]) -> str:
    """An engine, one fact a line."""
    facts = {"address": f"{row['address']} ({row['tier']})", "kind": f"{row['kind']}, {row['reading']}"}
    facts["model"] = row["model"] or "the server's"
    if row["key"] is not None:
        facts["key"] = row["key"]
    if row["state"] is not None:
        asked = f"asked in {row['probe_ms']:.0f} ms, p90 {row['probe_p90_ms']:.0f} ms"
        facts["state"] = row["problem"] or f"{row['state']}, {asked}"
        facts["circuit"] = CIRCUITS[row["circuit"]]
        facts["can"] = ", ".join(name for name in CAN if row["can"][name]) or "nothing that is known"
    if (fills := row["fills"]) is not None:
        facts["fills"] = f"p50 {fills['p50_ms']:.0f} ms, p90 {fills['p90_ms']:.0f} ms, of the last {fills['n']}"
    return "\n".join([row["name"], *(f"  {name:8} {value}" for name, value in facts.items())])
