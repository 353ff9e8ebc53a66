"""The router's policy: data, with its default in full. A configuration file names what it changes (docs/router.md)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec

from midspan.server.router.asks import Task, Tier

Source = Literal["midspan", "configuration", "editor"]
Key = Literal["trained", "prefer", "quality", "cost", "p90"]
Failing = Literal["failed", "invalid", "empty"]
Reading = Literal["diffusion", "autoregressive"]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Count = Annotated[int, msgspec.Meta(ge=1, le=100_000)]
Seconds = Annotated[float, msgspec.Meta(ge=0.001, le=86_400)]
Number = Annotated[float, msgspec.Meta(ge=0, le=1_000_000)]

PREFER: dict[Task, tuple[str, ...]] = {
    "within_line": ("diffusion", "autoregressive"),
    "line_end": ("autoregressive", "diffusion"),
    "lines_between": ("diffusion", "autoregressive"),
    "lines_at_end": ("autoregressive", "diffusion"),
    "schema": ("autoregressive", "diffusion"),
    "rewrite": ("diffusion",),
    "batch": ("diffusion", "autoregressive"),
}
COST: dict[str, Number] = {"in_process": 0.0, "loopback": 1.0, "private": 2.0, "public": 10.0}
PRIOR_MS: dict[Tier, Number] = {"in_process": 100.0, "loopback": 300.0, "private": 400.0, "public": 600.0}
MOST_TOKENS: dict[Task, Count] = {
    "within_line": 32,
    "line_end": 64,
    "lines_between": 256,
    "lines_at_end": 256,
    "schema": 256,
    "rewrite": 256,
    "batch": 256,
}


class Hedge(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """When a second engine is asked, too: past the first one's p90, with this share of the deadline left."""

    on: bool = True
    left: Share = 1 / 3


class Breaker(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """After how many failures in a row an engine is left alone, and for how long; each failed probe doubles that."""

    failures: Count = 3
    first_s: Seconds = 30.0
    most_s: Seconds = 300.0


class Floors(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Below which share of its last `over` fills, valid or kept ones, an engine leaves automatic use."""

    over: Count = 50
    validated: Share = 0.7
    kept: Share = 0.01


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How engines are chosen; every key of it may be changed.

    `both_readings`: whether the local checkpoint, if it denoises canvases, takes part read left to right, too.
    `trust`: who may name an engine. `privacy`: the most public engine that may see any text. `prefer`: by task, names
    or readings, the best first. `automatic` and `explicit`: what candidates are ordered by. `quality` (more is
    better) by an engine's name; `cost` (less is better) by a name or a tier; `prior_ms`: what p90 is taken for, by
    tier, until an engine has answered. `most_tokens`: the longest answer that a task needs. `fall_back`: after what
    another engine is asked.
    """

    both_readings: bool = False
    trust: tuple[Source, ...] = ("midspan", "configuration", "editor")
    privacy: Tier = "public"
    prefer: dict[Task, tuple[str, ...]] = msgspec.field(default_factory=lambda: dict(PREFER))
    automatic: tuple[Key, ...] = ("trained", "prefer", "cost", "p90")
    explicit: tuple[Key, ...] = ("trained", "quality", "prefer", "cost", "p90")
    quality: dict[str, Number] = {}
    cost: dict[str, Number] = msgspec.field(default_factory=lambda: dict(COST))
    prior_ms: dict[Tier, Number] = msgspec.field(default_factory=lambda: dict(PRIOR_MS))
    most_tokens: dict[Task, Count] = msgspec.field(default_factory=lambda: dict(MOST_TOKENS))
    hedge: Hedge = Hedge()
    fall_back: tuple[Failing, ...] = ("failed", "invalid")
    circuit: Breaker = Breaker()
    floors: Floors = Floors()


DEFAULT = Policy()


def policy_of(given: Mapping[str, object]) -> Policy:
    """The default with what is given over it, tables key by key. Raises msgspec.ValidationError, which names it."""
    merged = {
        key: {**before, **value} if isinstance(before := _plain(key), dict) and isinstance(value, dict) else value
        for key, value in given.items()
    }
    return msgspec.convert(merged, Policy)


def _plain(key: str) -> object:
    return msgspec.to_builtins(getattr(DEFAULT, key, None))
