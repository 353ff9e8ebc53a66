"""The router over the engine of this process and those that the user has configured."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import get_args

import midspan.engine
from midspan.engine.api import About, Budget, CheckpointError, Engine, Fill, Hole, OnFrame
from midspan.server.backends.configured import Configured
from midspan.server.commands.errors import CommandError
from midspan.server.postprocess.trim import trim
from midspan.server.router.members import Member
from midspan.server.router.policy import Policy, Reading
from midspan.server.router.router import Means, Router
from midspan.server.text.syntax_check import SyntaxJudge

PLAIN_WORD = "x"
# Layouts that are read from left to right; every other one denoises canvases.
CAUSAL_LAYOUTS = ("fim", "marks")


def router_over(engine: Engine | None, configured: Configured, means: Means | None = None) -> Router:
    """A router over the local checkpoint, if it did load, and all that is configured; there must be one of either.

    Those elsewhere are connected in the background, and nothing of theirs is imported without any.
    """
    members = [] if engine is None else local_members(engine, configured.policy)
    if configured.backends:
        from midspan.server.backends.remotes import member_of

        members += [member_of(backend, by) for backend, by in configured.backends]
    return Router(members, configured.policy, means=means, validate=Parses())


def router_elsewhere(name: str, configured: Configured, means: Means) -> Router | None:
    """A router over the configured engine of this name alone, by the rules that it has among several; None without one.

    It is connected by then. Raises CommandError if it does not answer.
    """
    found = next(((backend, by) for backend, by in configured.backends if backend.name == name), None)
    if found is None:
        return None
    from midspan.server.backends.remotes import member_of

    # What it would tell is raised.
    means = replace(means, tell=lambda _: None)
    router = Router([member_of(*found)], configured.policy, means=means)
    if trouble := router.troubles():
        router.close()
        raise CommandError(trouble[0])
    return router


def local_members(engine: Engine, policy: Policy) -> list[Member]:
    """The local checkpoint under the name of how it writes, and its other reading if the policy adds that."""
    own: Reading = "autoregressive" if engine.about.layout in CAUSAL_LAYOUTS else "diffusion"
    members = [_here(own, engine)]
    if own == "diffusion" and policy.both_readings:
        members.append(_here("autoregressive", midspan.engine.without_canvases(engine)))
    return members


def engine_named(name: str, local: Callable[[], Engine], configured: Configured, option: str = "--engine") -> Engine:
    """The one engine of a name: a reading of the local checkpoint, which is loaded then, or one that is configured.

    `option` is where the name was given. Raises CommandError for a name that nobody has, and what loading raises.
    """
    if name in get_args(Reading):
        return _reading(name, local(), option)
    if (backend := configured.named(name)) is None:
        known = ", ".join((*get_args(Reading), *(one.name for one, _ in configured.backends)))
        raise CommandError(f"{option} {name}: no engine has this name; give one of {known}")
    from midspan.server.backends.remotes import member_of

    return member_of(backend, "configuration").connect()


def _reading(name: str, engine: Engine, option: str) -> Engine:
    own = "autoregressive" if engine.about.layout in CAUSAL_LAYOUTS else "diffusion"
    if name == own:
        return engine
    try:
        if own == "autoregressive":
            fix = "leave --engine out" if option == "--engine" else "name the engine autoregressive"
            raise CommandError(f"{engine.about.checkpoint} is written from left to right only; {fix}")
        return Lent(midspan.engine.without_canvases(engine), engine)
    except (CommandError, CheckpointError):
        engine.close()
        raise


@dataclass(frozen=True, slots=True)
class Lent:
    """An engine that is closed with the one that it came from."""

    engine: Engine
    owner: Engine

    @property
    def about(self) -> About:
        """What is loaded."""
        return self.engine.about

    def fill(
        self, hole: Hole, budget: Budget, *, stop: threading.Event | None = None, on_frame: OnFrame | None = None
    ) -> Future[Fill]:
        """Begin a fill."""
        return self.engine.fill(hole, budget, stop=stop, on_frame=on_frame)

    def close(self) -> None:
        """End the worker."""
        self.owner.close()


def _here(reading: Reading, engine: Engine) -> Member:
    return Member(
        name=reading,
        reading=reading,
        tier="in_process",
        connect=lambda: engine,
        skills=frozenset(("rewrite",)) if reading == "diffusion" else frozenset(),
    )


class Parses:
    """The router's validation: what would break the syntax of the text around it is not shown.

    Where even a plain word stands in an error, as between unfinished lines, nothing is held against a fill.
    """

    def __init__(self) -> None:
        self._judge = SyntaxJudge()
        self._one_at_a_time = threading.Lock()

    def __call__(self, hole: Hole, fill: Fill) -> str | None:
        """Why the best candidate may not be shown; None if it may."""
        if hole.strength is not None:
            return None
        # What is offered is trimmed: a bracket that stands behind the gap already breaks nothing.
        if (text := trim(hole, fill.text)) is None:
            return None
        with self._one_at_a_time:
            breaks = bool(self._judge(hole, text)) and not self._judge(hole, PLAIN_WORD)
        return "it breaks the syntax" if breaks else None
