"""Which engines may answer a request, and in which order: hard filters first, then the policy's order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from midspan.server.router.asks import AUTO, TIERS, Ask
from midspan.server.router.policy import Key, Policy
from midspan.server.router.seats import Seat
from midspan.server.workspace.exclusion import is_matched


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An engine as it was looked at for a request; `out` is the filter that held it back, empty for none."""

    name: str
    p90_s: float
    out: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Every candidate, those that may be asked in their order, and why the first of these is the first."""

    candidates: tuple[Candidate, ...]
    order: tuple[Seat, ...]
    reason: str


def choose(ask: Ask, seats: Sequence[Seat], policy: Policy, now: float) -> Choice:
    """Filter and order; no engine is asked by it."""
    looked = [(seat, p90_of(seat, ask, policy), filtered(seat, ask, policy, now)) for seat in seats]
    candidates = tuple(Candidate(name=seat.member.name, p90_s=p90, out=out) for seat, p90, out in looked)
    free = [(seat, p90) for seat, p90, out in looked if not out]
    if not free:
        return Choice(candidates=candidates, order=(), reason=_none(ask, candidates))
    keys = policy.automatic if ask.automatic else policy.explicit
    free.sort(key=lambda one: [_sort_value(key, one[0], one[1], ask, policy) for key in keys])
    left_s = ask.deadline_s
    fitting = [one for one in free if left_s is None or one[1] <= left_s]
    rest = [] if len(fitting) == len(free) or ask.wish.tried else [one for one in free if one not in fitting]
    order = tuple(seat for seat, _ in (*fitting, *sorted(rest, key=lambda one: one[1])))
    if not order:
        return Choice(candidates=candidates, order=(), reason=f"none is expected within {1000 * (left_s or 0):.0f} ms")
    return Choice(candidates=candidates, order=order, reason=_why(order, ask, policy, fits=bool(fitting)))


def p90_of(seat: Seat, ask: Ask, policy: Policy) -> float:
    """What nine of ten answers stay below, in seconds: as measured, or as the policy takes it."""
    known = seat.latencies.p90(ask.chars)
    return policy.prior_ms[seat.member.tier] / 1000 if known is None else known


def filtered(seat: Seat, ask: Ask, policy: Policy, now: float) -> str:
    """Why an engine may not be asked, by the first filter that holds it back; empty if it may."""
    member = seat.member
    if ask.wish.engine not in (AUTO, member.name):
        return f"engine: {ask.wish.engine} is chosen"
    if member.name in ask.wish.tried:
        return "tried: its text was held back"
    if member.by not in policy.trust:
        return f"trust: named by {member.by}"
    if TIERS.index(member.tier) > TIERS.index(ask.tier):
        return f"privacy: {member.tier}, and nothing beyond {ask.tier} may see this text"
    if member.exclude and ask.wish.uri and is_matched(ask.wish.uri, member.exclude):
        return "exclusion: its pattern names this file"
    return _incapable(seat, ask, policy, now) or _unwell(seat, ask, now)


def _incapable(seat: Seat, ask: Ask, policy: Policy, now: float) -> str:
    member = seat.member
    if ask.task == "rewrite" and "rewrite" not in member.skills:
        return "capability: rewrites no part of a draft"
    if refused := seat.cannot(ask.task, now):
        return f"capability: {refused}"
    if policy.most_tokens[ask.task] > member.most_tokens:
        return f"capability: writes {member.most_tokens} tokens at most"
    return ""


def _unwell(seat: Seat, ask: Ask, now: float) -> str:
    if reason := seat.unwell(now):
        return f"circuit: {reason}"
    return f"rollback: {seat.fallen}" if ask.automatic and seat.fallen else ""


def _sort_value(key: Key, seat: Seat, p90: float, ask: Ask, policy: Policy) -> float:
    member = seat.member
    if key == "trained":
        languages = seat.engine.about.languages if seat.engine is not None else ()
        return float(bool(languages) and ask.language not in languages)
    if key == "quality":
        return -policy.quality.get(member.name, 0.0)
    if key == "cost":
        return policy.cost.get(member.name, policy.cost.get(member.tier, 0.0))
    return p90 if key == "p90" else float(_rank(seat, ask, policy))


def _rank(seat: Seat, ask: Ask, policy: Policy) -> int:
    preferred = policy.prefer[ask.task]
    names = (seat.member.name, seat.member.reading)
    return next((place for place, one in enumerate(preferred) if one in names), len(preferred))


def _why(order: Sequence[Seat], ask: Ask, policy: Policy, *, fits: bool) -> str:
    first = order[0].member
    if ask.wish.engine != AUTO:
        return f"{first.name} is chosen by name"
    if len(order) == 1:
        return f"{first.name} is the only one left"
    if not fits:
        return f"none is expected within {1000 * (ask.deadline_s or 0):.0f} ms; {first.name} is the quickest"
    keys = policy.automatic if ask.automatic else policy.explicit
    return f"{first.name} ({first.reading}) is first for {ask.task} by {', '.join(keys)}, and in time"


def _none(ask: Ask, candidates: Sequence[Candidate]) -> str:
    if ask.wish.engine != AUTO and all(one.name != ask.wish.engine for one in candidates):
        return f"no engine is named {ask.wish.engine}; midspan backends lists those that are"
    return "no engine may be asked: " + "; ".join(f"{one.name} ({one.out})" for one in candidates)
