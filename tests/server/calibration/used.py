"""A store of somebody who takes suggestions by a curve: of those of some confidence a share that is known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from midspan.server.telemetry.events import Asked, Offer, Setup
from midspan.server.telemetry.store import Telemetry

CONFIDENCES = (0.55, 0.65, 0.75, 0.85, 0.95)


def make_used(
    state_dir: Path, digest: str, share: Callable[[float], float], each: int = 50, language: str = "python"
) -> None:
    """So many suggestions of each confidence were seen, and their share taken; others were seen by nobody."""
    troubles = list[str | None]()
    store = Telemetry(state_dir, troubles.append)
    setup: dict[str, Any] = {
        "language": language,
        "kind": "line",
        "trigger": "automatic",
        "checkpoint": "embedded",
        "digest": digest,
    }
    for confidence in CONFIDENCES:
        taken = round(each * share(confidence))
        for number in range(each + 5):
            id = f"{digest}-{language}-{confidence}-{number}"
            store.offered(_offer(Setup(**setup), id, confidence))
            if number < each:
                store.seen(id)
            if number < taken:
                store.taken(id)
    for number in range(10):
        store.asked(Asked(**setup, fate="below", confidence=0.3 + number / 110))
        store.asked(Asked(**setup, fate="superseded", confidence=0.35))
        # Nobody learns from what was asked for, nor from another checkpoint.
        store.offered(_offer(Setup(**setup | {"trigger": "invoked"}), f"{digest}-{language}-invoked-{number}", 0.2))
        store.taken(f"{digest}-{language}-invoked-{number}")
        store.offered(_offer(Setup(**setup | {"digest": "another"}), f"{digest}-{language}-another-{number}", 0.9))
        store.seen(f"{digest}-{language}-another-{number}")
    store.close()
    assert troubles == []


def _offer(setup: Setup, id: str, confidence: float) -> Offer:
    fields = {name: getattr(setup, name) for name in Setup.__struct_fields__}
    return Offer(
        **fields, id=id, uri="file:///plan.py", confidence=confidence, chars=9, lines=1, latency_ms=20.0,
        engine_ms=15.0, steps=4,
    )  # fmt: skip
