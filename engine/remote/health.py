"""What a probe of a remote server found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from midspan.engine.remote.address import Kind

# The whole of a probe ends within so many seconds.
PROBE_S = 3.0
State = Literal["ready", "loading", "refused"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Can:
    """What a server can do for a gap, and the model that answers, empty where it does not say.

    `infill`: it can be asked for a gap at all; `pins`: text on both sides is held while it denoises; `logprobs`: its
    fills have a confidence of their own; `structured`: it takes a grammar or a schema.
    """

    model: str = ""
    infill: bool = False
    pins: bool = False
    logprobs: bool = False
    structured: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Health(Can):
    """A server's state, with one line on what is wrong unless it is `ready`, and what it can do.

    `latency_ms` is how long it took to say so, 0 where it did not. `status` is that of a refusal, as of RemoteError.
    """

    kind: Kind
    address: str
    state: State
    problem: str = ""
    status: int = 0
    latency_ms: float = 0.0
