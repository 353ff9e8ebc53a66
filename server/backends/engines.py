"""The router over the engine of this process and those that the user has configured."""

from __future__ import annotations

import threading

from midspan.engine.api import Engine, Fill, Hole
from midspan.server.backends.configured import Configured
from midspan.server.router.members import Member
from midspan.server.router.policy import Reading
from midspan.server.router.router import Means, Router
from midspan.server.text.syntax_check import SyntaxJudge

# Layouts that are read from left to right; every other one denoises canvases.
CAUSAL_LAYOUTS = ("fim", "marks")


def router_over(engine: Engine, configured: Configured, means: Means | None = None) -> Router:
    """A router; those elsewhere are connected in the background, and nothing of theirs is imported without any."""
    members = [local_member(engine)]
    if configured.backends:
        from midspan.server.backends.remotes import member_of

        members += [member_of(backend, by) for backend, by in configured.backends]
    return Router(members, configured.policy, means=means, validate=Parses())


def local_member(engine: Engine) -> Member:
    """The local checkpoint, under the name of how it writes."""
    reading: Reading = "autoregressive" if engine.about.layout in CAUSAL_LAYOUTS else "diffusion"
    return Member(
        name=reading,
        reading=reading,
        tier="in_process",
        connect=lambda: engine,
        skills=frozenset(("rewrite",)) if reading == "diffusion" else frozenset(),
    )


class Parses:
    """The router's validation: what would break the syntax of the text around it is not shown."""

    def __init__(self) -> None:
        self._judge = SyntaxJudge()
        self._one_at_a_time = threading.Lock()

    def __call__(self, hole: Hole, fill: Fill) -> str | None:
        """Why the best candidate may not be shown; None if it may."""
        if hole.strength is not None:
            return None
        with self._one_at_a_time:
            spans = self._judge(hole, fill.text)
        return "it breaks the syntax" if spans else None
