"""Kills what writes the record, at random moments under load: `benchmarks/kills.py [--kills 1000] [--servers 2]`.

A round starts a process that writes events by the server's own store, as fast as acceptances are acknowledged, and says
of each that it was. It is killed at a random moment, perhaps while it opens the store or makes its tables. Then the
store must open, be sound, and hold each acknowledged acceptance with its request. `--servers` of them share a store,
and after STORE_ROUNDS rounds a new one begins. Prints one JSON object; exits 1 if anything is missing.

`benchmarks/kill.py` kills real servers, which take seconds to load, as they answer.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from midspan.server.telemetry.events import Asked, Offer, Veto
from midspan.server.telemetry.schema import FILE_NAME
from midspan.server.telemetry.store import Telemetry

STORE_ROUNDS = 25
# The latest moment of a kill, in seconds since the process has begun: it opens the store in some 20 ms.
LATEST_S = 0.2
# Acceptances that wait for their acknowledgement at a time.
WAITING = 4
# A round that takes this long hangs.
ROUND_S = 60.0
BEGUN = b"begun\n"
SETUP: dict[str, Any] = {"language": "python", "kind": "line", "trigger": "automatic", "checkpoint": "embedded"}


def write(state_dir: Path, name: str) -> None:
    """Write until the process is killed: a line for each acceptance that is stored goes to standard output."""
    os.write(1, BEGUN)
    store, free = Telemetry(state_dir, lambda trouble: None), threading.Semaphore(WAITING)

    def acknowledge(id: str, stored: Future[bool]) -> None:
        if stored.result():
            os.write(1, f"{id}\n".encode())
        free.release()

    for number in count():
        free.acquire()
        id = f"{name}-{number}"
        store.asked(Asked(**SETUP, fate="produced", id=id, latency_ms=20.0))
        store.offered(
            Offer(**SETUP, id=id, uri=id, confidence=0.5, chars=9, lines=1, latency_ms=20.0, engine_ms=15.0, steps=4)
        )
        store.vetoed(Veto(**SETUP, reason="name"))
        store.shown(id)
        store.partially_accepted(id, 3)
        store.accepted(id).add_done_callback(partial(acknowledge, id))
        store.kept(id, 15, 0.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What came of one kill: the acceptances that were acknowledged, those that are lost, and how the store is."""

    acknowledged: list[str]
    lost: set[str]
    opens: bool
    ended_early: bool


def kill_once(state_dir: Path, number: int) -> Round:
    """Start a process, kill it, look at the store."""
    command = [sys.executable, __file__, "--write", str(state_dir), "--name", str(number)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    timer = threading.Timer(ROUND_S, process.kill)
    timer.start()
    assert process.stdout is not None
    with process.stdout as said:
        begun = said.readline()
        time.sleep(LATEST_S * random.Random(number).random())
        alive = process.poll() is None
        process.kill()
        # A line that the kill has cut short was not said.
        acknowledged = [line.decode().strip() for line in said.readlines() if line.endswith(b"\n")]
    timer.cancel()
    process.wait()
    return Round(
        acknowledged=acknowledged,
        opens=opens(state_dir),
        lost=lost(state_dir, acknowledged),
        ended_early=not alive or begun != BEGUN,
    )


def opens(state_dir: Path) -> bool:
    """Whether a server that starts now opens the store, and it is sound."""
    troubles = list[str | None]()
    Telemetry(state_dir, troubles.append).close()
    with closing(sqlite3.connect(state_dir / FILE_NAME)) as store:
        return not troubles and store.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def lost(state_dir: Path, ids: Iterable[str]) -> set[str]:
    """Which of these acceptances the store lacks, or lacks the row of their request."""
    wanted = (
        "SELECT completion.id FROM completion JOIN request ON request.id = completion.id WHERE accepted_ts IS NOT NULL"
    )
    with closing(sqlite3.connect(state_dir / FILE_NAME)) as store:
        return set(ids) - {id for (id,) in store.execute(wanted)}


def kill(folder: Path, kills: int, servers: int = 2) -> dict[str, int]:
    """So many rounds, `servers` at a time, on one store after another: what was acknowledged, and what went wrong."""
    rounds, gone, stores = list[Round](), set[str](), 0
    for first in range(0, kills, STORE_ROUNDS):
        state_dir, numbers = folder / f"store{first}", range(first, min(kills, first + STORE_ROUNDS))
        with ThreadPoolExecutor(servers) as threads:
            done = list(threads.map(partial(kill_once, state_dir), numbers))
        # What a later kill has lost of an earlier round is lost, too.
        gone |= lost(state_dir, [id for one in done for id in one.acknowledged]).union(*(one.lost for one in done))
        rounds += done
        stores += 1
    return {
        "kills": len(rounds),
        "stores": stores,
        "before_any": sum(not one.acknowledged for one in rounds),
        "acknowledged": sum(len(one.acknowledged) for one in rounds),
        "lost": len(gone),
        "not_opened": sum(not one.opens for one in rounds),
        "ended_early": sum(one.ended_early for one in rounds),
    }


def main(argv: list[str] | None = None) -> int:
    """Read the command line, run the rounds, print."""
    parser = argparse.ArgumentParser(description="kills what writes the record, at random moments under load")
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--servers", type=int, default=2, help="how many share a store at a time")
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--name", help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.write is not None:
        write(arguments.write, arguments.name)
    with TemporaryDirectory() as folder:
        found = kill(Path(folder), arguments.kills, arguments.servers)
    sys.stdout.write(json.dumps(found) + "\n")
    return 1 if found["lost"] or found["not_opened"] or found["ended_early"] else 0


if __name__ == "__main__":
    sys.exit(main())
