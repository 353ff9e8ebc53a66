"""What the store is told: one struct an event, without code and, but for the URI that is hashed, without file names."""

from __future__ import annotations

from typing import Literal

import msgspec

# What became of a request. `late`: nothing within the deadline; `below`: the best was not sure enough; `vetoed`: a
# validator objected to all; `nothing_new`: what came stands there already, or is not worth a key; `held_back`: no
# engine was asked; `superseded`: the text changed, or something newer was asked; `cancelled`: the client withdrew it.
Fate = Literal[
    "produced", "empty", "late", "below", "vetoed", "nothing_new", "held_back", "superseded", "cancelled", "failed"
]
# How a suggestion ended. `part`: taken in part; `typed`: typed by keys to its end; `rejected`: something else was typed
# in its place; `dismissed`: the text was changed elsewhere, or its file closed; `undone`: the edit of a code action was
# taken back within a minute.
Ended = Literal["accepted", "part", "typed", "rejected", "dismissed", "undone"]
# The `trigger` of a code action, whose `kind` is its name.
ACTION = "action"


class Setup(msgspec.Struct, frozen=True, kw_only=True):
    """Who asked, and what answered: `kind` is the gap's, `digest` and `layout` the checkpoint's.

    `engine` says who answered where the router had a choice.
    """

    language: str
    kind: str
    trigger: str
    checkpoint: str
    client: str = ""
    digest: str = ""
    engine: str = ""
    layout: str = ""
    device: str = ""


class Offer(Setup, frozen=True, kw_only=True):
    """One completion that was offered; `latency_ms` is request to answer, `engine_ms` the engine's part of it.

    `route` says why this engine answered, where the router had a choice.
    """

    id: str
    uri: str
    confidence: float
    chars: int
    lines: int
    latency_ms: float
    engine_ms: float
    steps: int
    route: str = ""


class Asked(Setup, frozen=True, kw_only=True):
    """One request and its fate; `reason` has a word on it, never of anybody's code. `id` is that of the first offer.

    `latency_ms` is request to answer. Its parts: the text that goes to the engine (`context_ms`), waiting for the next
    key and for the engine, the engine's three phases, and validators.
    """

    fate: Fate
    reason: str = ""
    id: str | None = None
    confidence: float = 0.0
    candidates: int = 0
    steps: int = 0
    latency_ms: float = 0.0
    context_ms: float = 0.0
    queue_ms: float = 0.0
    encode_ms: float = 0.0
    denoise_ms: float = 0.0
    rank_ms: float = 0.0
    validate_ms: float = 0.0


class Veto(msgspec.Struct, frozen=True, kw_only=True):
    """One text that a validator objected to: `reason` is a validator's kind of objection, `kind` the gap's.

    `remedy` is what came of the request: repaired, next candidate, other engine or nothing; empty where the best text
    passed.
    """

    reason: str
    language: str
    kind: str
    trigger: str
    checkpoint: str
    remedy: str = ""
