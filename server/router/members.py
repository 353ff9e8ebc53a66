"""The engines that a router has, as the user has configured them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from midspan.engine.api import Engine
from midspan.server.router.asks import Tier
from midspan.server.router.policy import Reading, Source

Skill = Literal["rewrite"]
ANY_LENGTH = 1 << 20


def always_well() -> str | None:
    """The probe of an engine in this process."""
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """An engine by name: how it writes, how far away it is, who named it, and what it can beside filling gaps.

    `connect` gives the engine and `probe` None, or a line that says why it does not answer; both may take long, and
    raise RemoteError. Text of files that `exclude` names (see exclusion.py) never reaches it, nor, with any, snippets
    of other files.
    """

    name: str
    reading: Reading
    tier: Tier
    connect: Callable[[], Engine]
    probe: Callable[[], str | None] = always_well
    by: Source = "midspan"
    skills: frozenset[Skill] = frozenset()
    most_tokens: int = ANY_LENGTH
    exclude: tuple[str, ...] = ()

    @property
    def here(self) -> bool:
        """Whether it is in this process: there at once, and never to be probed."""
        return self.tier == "in_process"
