"""What the router is asked: a hole's task and limits, and who asks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from midspan.engine.api import Budget, Hole

# How far a text travels, the most private first.
Tier = Literal["in_process", "loopback", "private", "public"]
TIERS: tuple[Tier, ...] = get_args(Tier)
# `midspan batch` asks in the background.
Origin = Literal["typing", "invoked", "action", "background"]
# Gaps by whether they have text behind them: on the line, or anywhere in the file for several lines.
Task = Literal["within_line", "line_end", "lines_between", "lines_at_end", "schema", "rewrite", "batch"]
TASKS: tuple[Task, ...] = get_args(Task)
AUTO = "auto"
MANY_LINES = ("block", "span")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a hole does not say: who asks, for which document, and how public an engine may see it.

    `engine` is a name, or AUTO. `schema` says that the gap's text must satisfy one. `own_threshold`: where a sure fill
    is wanted, the own threshold of an engine elsewhere says how sure; for the one here the budget does. `tried` names
    engines that have had their turn for this gap: another one is asked only if it can be in time. `once`: one engine is
    asked, without a hedge or a fallback, as the gap had its answer before.
    """

    origin: Origin = "typing"
    uri: str = ""
    tier: Tier = "public"
    engine: str = AUTO
    schema: bool = False
    own_threshold: bool = True
    tried: tuple[str, ...] = ()
    once: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request, as the router decides about it; `chars` is its prompt's length in characters."""

    task: Task
    wish: Wish
    tier: Tier
    language: str
    chars: int
    deadline_s: float | None

    @property
    def automatic(self) -> bool:
        """Whether nobody has asked for it."""
        return self.wish.origin in ("typing", "background")


def ask_of(hole: Hole, budget: Budget, wish: Wish, most_public: Tier) -> Ask:
    """The request for a hole; no engine beyond `most_public` may see it, whatever is wished."""
    chars = len(hole.prefix) + len(hole.suffix) + sum(map(len, hole.context))
    return Ask(
        task=task_of(hole, wish),
        wish=wish,
        tier=min(wish.tier, most_public, key=TIERS.index),
        language=hole.language,
        chars=chars,
        deadline_s=budget.deadline_s,
    )


def task_of(hole: Hole, wish: Wish) -> Task:
    """What kind of work a hole is."""
    if hole.keeps_draft:
        return "rewrite"
    if wish.origin == "background":
        return "batch"
    if wish.schema:
        return "schema"
    if hole.kind in MANY_LINES:
        return "lines_between" if hole.suffix.strip() else "lines_at_end"
    return "within_line" if hole.suffix.partition("\n")[0].strip() else "line_end"
