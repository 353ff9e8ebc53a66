"""What a probe of a remote server found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from midspan.engine.remote.address import Kind

# The whole of a probe ends within so many seconds.
PROBE_S = 3.0
State = Literal["ready", "loading", "refused"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """A server's state, with one line on what is wrong unless it is `ready`, and what it can do for a gap.

    `infill`: it can be asked for a gap at all; `pins`: text on both sides is held while it denoises; `logprobs`: its
    fills have a confidence of their own; `structured`: it takes a grammar or a schema. `model` is the one that answers,
    empty where it does not say. `latency_ms` is that of the quickest answer, 0 without one.
    """

    kind: Kind
    address: str
    state: State
    problem: str = ""
    model: str = ""
    infill: bool = False
    pins: bool = False
    logprobs: bool = False
    structured: bool = False
    latency_ms: float = 0.0
