"""What the store is told: one struct an event, without code and, but for the URI that is hashed, without file names."""

from __future__ import annotations

import msgspec


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """One completion that was offered; `latency_ms` is request to answer, `engine_ms` the engine's part of it.

    `engine` and `route` say who answered and why, where the router had a choice.
    """

    id: str
    uri: str
    language: str
    kind: str
    trigger: str
    confidence: float
    chars: int
    lines: int
    latency_ms: float
    engine_ms: float
    steps: int
    checkpoint: str
    engine: str = ""
    route: str = ""


class Veto(msgspec.Struct, frozen=True, kw_only=True):
    """One text that a validator objected to: `reason` is a validator's kind of objection, `kind` the gap's."""

    reason: str
    language: str
    kind: str
    trigger: str
    checkpoint: str
