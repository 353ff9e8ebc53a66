"""The figures of `midspan bench load`, and their words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from midspan.server.bench.load_requests import Asked, Tally
from midspan.server.bench.replay import RULES
from midspan.server.client.typist import percentiles

RULE = RULES["exact"]
# From here on a machine is too busy with people to press their keys in time.
LATE_MS = 50.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """What is known of a backend's work in a run; None for what nobody told.

    `forwards` are the network's passes, and `forwards_by` says who counted. `busy_s` are seconds of requests at work,
    `slots` how many it works on at once, `queue_ms` the mean wait of a request as the server states it.
    """

    forwards: float | None = None
    forwards_by: str = ""
    busy_s: float | None = None
    slots: float | None = None
    queue_ms: float | None = None


def here(tally: Tally) -> Device:
    """The engine of this process: one request at a time, all seen; its passes for prompts and scores are no steps."""
    return Device(
        forwards=float(sum(one.forwards for one in tally.asked)),
        forwards_by="steps of the engine",
        busy_s=sum(one.work_s or 0.0 for one in tally.asked),
        slots=1.0,
    )


def elsewhere(tally: Tally, before: Mapping[str, float], after: Mapping[str, float], *, token_by_token: bool) -> Device:
    """A server, by what it had counted before and after; of one that writes token by token, pieces are passes."""
    grown = {key: after[key] - before[key] for key in after.keys() & before.keys()}
    forwards, by = grown.get("forwards"), "metrics of the server"
    if forwards is None and token_by_token:
        forwards, by = float(sum(one.forwards for one in tally.asked)), "pieces that came"
    begun = grown.get("begun")
    return Device(
        forwards=forwards,
        forwards_by=by if forwards is not None else "",
        busy_s=grown.get("busy_s"),
        slots=after.get("slots"),
        queue_ms=1000 * grown["queue_s"] / begun if begun and "queue_s" in grown else None,
    )


def figures(tally: Tally, device: Device, price_per_hour: float | None) -> dict[str, Any]:
    """What `--json` prints of a run; shares are of the requests that had ended by then, or of seconds."""
    seconds, end = tally.seconds, tally.ended
    over = [one for one in tally.asked if 0.0 < one.ended <= end]
    flight_s = sum(min(one.ended or end, end) - one.began for one in tally.asked)
    done = [one for one in over if one.outcome in ("answered", "empty")]
    accepted, at_work = len(tally.useful_ms), None if device.busy_s is None else device.busy_s / seconds
    queues = [1000 * one.queue_s for one in done if one.queue_s is not None]
    return {
        "seconds": round(seconds, 2),
        "lines": tally.lines,
        "keys": tally.keys,
        "requests": len(over),
        "first_useful_ms": percentiles(tally.useful_ms),
        "answer_ms": percentiles([1000 * (one.ended - one.began) for one in done]),
        "queue_ms": percentiles(queues),
        "server_queue_mean_ms": device.queue_ms,
        "cancelled": _share(over, "cancelled"),
        "cancelled_time": _time_share(over, "cancelled"),
        "late": _share(over, "late"),
        "errors": dict(Counter(one.error for one in over if one.error)),
        "shown": tally.shown,
        "accepted": accepted,
        "rule": RULE,
        "completions_per_s": len(done) / seconds,
        "in_flight": flight_s / seconds,
        "at_work": at_work,
        "slots": device.slots,
        "utilisation": at_work / device.slots if at_work is not None and device.slots else None,
        "forwards": device.forwards,
        "forwards_by": device.forwards_by,
        "device_s_per_accepted": seconds / accepted if accepted else None,
        "busy_s_per_accepted": device.busy_s / accepted if accepted and device.busy_s is not None else None,
        "forwards_per_accepted": device.forwards / accepted if accepted and device.forwards is not None else None,
        "price_per_hour": price_per_hour,
        "price_per_accepted": seconds / 3600 * price_per_hour / accepted if accepted and price_per_hour else None,
        "late_keys_ms": percentiles(tally.late_ms),
    }


def _share(over: Sequence[Asked], outcome: str) -> float | None:
    return sum(one.outcome == outcome for one in over) / len(over) if over else None


def _time_share(over: Sequence[Asked], outcome: str) -> float | None:
    """The share of the seconds that requests were under way."""
    total = sum(one.ended - one.began for one in over)
    return sum(one.ended - one.began for one in over if one.outcome == outcome) / total if total else None


def lines(found: Mapping[str, Any]) -> Iterator[str]:
    """The figures for a person."""
    run = f"{found['users']} people, {found['texts']} texts, {found['seconds']:.1f} s"
    yield f"{found['backend']} ({found['checkpoint']}): {run}{', interrupted' if found['interrupted'] else ''}"
    yield f"{found['keys']} keys in {found['lines']} lines; {found['requests']} requests, {found['shown']} shown"
    yield f"accepted {found['accepted']}: {RULE}"
    yield f"time to a useful edit, from the key before it: {_times(found['first_useful_ms'])}"
    yield f"time to an answer, whatever it is worth: {_times(found['answer_ms'])}"
    mean = found["server_queue_mean_ms"]
    told = "" if mean is None else f"; {mean:.1f} ms on average as the server states it"
    yield f"queueing, with the way there and back: {_times(found['queue_ms'])}{told}"
    late, cancelled, time = (_percent(found[key]) for key in ("late", "cancelled", "cancelled_time"))
    yield f"cancelled {cancelled} of requests, {time} of the time they took; {late} had nothing by the deadline"
    errors = ", ".join(f"{kind}: {count}" for kind, count in sorted(found["errors"].items()))
    yield f"errors: {errors or 'none'}"
    yield f"completions a second {found['completions_per_s']:.2f}; {found['in_flight']:.2f} requests under way at once"
    yield _work(found)
    yield from _cost(found)
    if (keys := found["late_keys_ms"]) is not None and keys["p95"] > LATE_MS:
        yield (
            f"keys came late by p95 {keys['p95']:.0f} ms: this machine is too busy for so many people, and all times "
            "above hold that; give fewer, or use several machines"
        )


def _work(found: Mapping[str, Any]) -> str:
    at_work, slots = found["at_work"], found["slots"]
    if at_work is None:
        return "utilisation: the server does not tell; start it with its metrics on"
    share = "" if found["utilisation"] is None else f", {_percent(found['utilisation'])} of {slots:g} at once"
    return f"utilisation: {at_work:.2f} requests at work on average{share}"


def _cost(found: Mapping[str, Any]) -> Iterator[str]:
    if not found["accepted"]:
        yield "cost of an accepted edit: none was accepted"
        return
    parts = [f"{found['device_s_per_accepted']:.2f} seconds of the device"]
    if (busy := found["busy_s_per_accepted"]) is not None:
        parts.append(f"{busy:.2f} seconds of requests at work")
    if (forwards := found["forwards_per_accepted"]) is not None:
        parts.append(f"{forwards:.1f} forward passes ({found['forwards_by']})")
    if (price := found["price_per_accepted"]) is not None:
        parts.append(f"{price:.6f} at a price of {found['price_per_hour']:g} an hour")
    yield f"cost of an accepted edit: {', '.join(parts)}"


def _times(milliseconds: Mapping[str, float] | None) -> str:
    if milliseconds is None:
        return "unknown"
    return f"p50 {milliseconds['p50']:.0f} ms, p95 {milliseconds['p95']:.0f} ms"


def _percent(share: float | None) -> str:
    return "none" if share is None else f"{100 * share:.1f} %"
