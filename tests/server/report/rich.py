"""A store of a month of one person's work: several languages, checkpoints and fates."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from midspan.server.telemetry.events import Asked, Fate, Offer, Setup, Veto
from midspan.server.telemetry.schema import DAY_MS, FILE_NAME, HORIZONS
from midspan.server.telemetry.store import Telemetry

LANGUAGES = ("python", "typescript", "go", "rust", "markdown", "css")
KINDS = ("rest_of_line", "line", "block")
FATES: tuple[Fate, ...] = ("produced", "empty", "below", "superseded", "superseded", "cancelled", "failed", "vetoed")


def setup_of(chance: random.Random) -> Setup:
    """Somebody who asks, and what answers."""
    return Setup(
        language=chance.choice(LANGUAGES),
        kind=chance.choice(KINDS),
        trigger=chance.choice(("automatic", "automatic", "invoked")),
        checkpoint=chance.choice(("embedded", "/models/a-folder-with-a-long-name/Qwen2.5-Coder-0.5B")),
        client=chance.choice(("Neovim", "Visual Studio Code")),
        digest="0123456789abcdef",
        engine=chance.choice(("", "qwen")),
        layout="filler",
        device="cpu",
    )


def fields(setup: Setup) -> dict[str, Any]:
    return {name: getattr(setup, name) for name in Setup.__struct_fields__}


def make_rich_store(state_dir: Path, count: int = 400, days: int = 28) -> None:
    """Make it; always the same but for the time."""
    chance, troubles = random.Random(1), list[str | None]()
    store = Telemetry(state_dir, troubles.append)
    for number in range(count):
        setup, fate, id, sure = setup_of(chance), chance.choice(FATES), f"id{number}", chance.random()
        reason = {"failed": "RemoteError", "vetoed": "name"}.get(fate, "")
        store.asked(
            Asked(
                **fields(setup), fate=fate, reason=reason, id=id if fate == "produced" else None, confidence=sure,
                candidates=1, steps=4, latency_ms=40.0, context_ms=1.0, queue_ms=9.0, encode_ms=10.0, denoise_ms=15.0,
                rank_ms=4.0, validate_ms=1.0,
            )
        )  # fmt: skip
        store.offered(
            Offer(
                **fields(setup), id=id, uri="file:///secret/plan.py", confidence=sure, chars=chance.randrange(3, 60),
                lines=1, latency_ms=20 + 100 * chance.random(), engine_ms=15.0, steps=4,
            )
        )  # fmt: skip
        store.seen(id)
        if chance.random() < sure * 0.6:
            store.taken(id)
            for seconds in HORIZONS:
                store.kept(id, seconds, 1 - chance.random() * seconds / 1000)
        if number % 50 == 0:
            store.vetoed(
                Veto(reason="name", language="python", kind="line", trigger="automatic", checkpoint="embedded")
            )
    store.close()
    assert troubles == []
    with closing(sqlite3.connect(state_dir / FILE_NAME)) as rows, rows:
        for table in ("completion", "request"):
            rows.execute(f"UPDATE {table} SET ts = ts - (rowid % ?) * ?", (days, DAY_MS))
