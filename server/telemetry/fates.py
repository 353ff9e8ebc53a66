"""What became of a request, as one row."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from midspan.engine.api import Fill
from midspan.server.completion import Source
from midspan.server.telemetry.events import Asked, Fate, Setup
from midspan.server.validation.splice import Objection


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """A request: who asked and what answers, when it began (`time.perf_counter`), and how long other text took."""

    setup: Setup
    began: float
    context_ms: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A fill, whose it is, when it came (`time.perf_counter`), and the first offer that was made of it, if any."""

    fill: Fill
    source: Source
    at: float
    id: str | None


def fate_of(fill: Fill, threshold: float, objections: Sequence[Objection], *, offered: bool) -> tuple[Fate, str]:
    """What became of a fill, and a word on it; `threshold` is the confidence that was needed."""
    if offered:
        return "produced", ""
    if objections:
        return "vetoed", objections[0].kind
    if not fill.candidates:
        return ("late", "") if fill.stopped == "deadline" else ("empty", "")
    return ("below", "") if fill.confidence < threshold else ("nothing_new", "")


def ended_row(asking: Asking, fate: Fate, reason: str = "") -> Asked:
    """The row of a request that ends now, without a fill."""
    latency_ms = 1000 * (time.perf_counter() - asking.began)
    return Asked(
        **msgspec.structs.asdict(asking.setup),
        fate=fate,
        reason=reason,
        latency_ms=latency_ms,
        context_ms=asking.context_ms,
        queue_ms=latency_ms - asking.context_ms,
    )


def answered_row(asking: Asking, answered: Answered, fate: Fate, reason: str) -> Asked:
    """The row of a request that is answered now."""
    now, fill, latency = time.perf_counter(), answered.fill, answered.fill.latency
    waited_ms = 1000 * (answered.at - asking.began) - asking.context_ms
    return Asked(
        **msgspec.structs.asdict(asking.setup),
        fate=fate,
        reason=reason,
        id=answered.id,
        confidence=fill.confidence,
        candidates=len(fill.candidates),
        steps=fill.steps,
        latency_ms=1000 * (now - asking.began),
        context_ms=asking.context_ms,
        # A fill that was begun ahead has worked before it was asked for.
        queue_ms=max(0.0, waited_ms - latency.encode - latency.denoise - latency.rank),
        encode_ms=latency.encode,
        denoise_ms=latency.denoise,
        rank_ms=latency.rank,
        validate_ms=1000 * (now - answered.at),
    )
