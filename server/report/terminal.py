"""The report as a page of a terminal that is read in ten seconds: at most 80 columns, some 25 lines."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from datetime import datetime
from pathlib import PurePath
from typing import Any

from midspan.server.report.compare import wilson
from midspan.server.report.figures import Figures
from midspan.server.report.reading import BINS

WIDTH = 80
BAR = 20
NO_BREAK = "\N{NO-BREAK SPACE}"
MOST_ROWS = 3  # of each group
NAMES = {"rest_of_line": "rest of line"}
# Groups of which one value alone says nothing new.
GROUPS = ("language", "kind", "checkpoint", "engine")


def as_text(found: Figures) -> Iterator[str]:
    """The lines."""
    yield f"{'midspan report':40}{_day(found['since'])} to {_day(found['until'])}"
    yield ""
    yield from _counts(found)
    yield ""
    yield from _measures(found["measures"])
    if found["confidence"]:
        rates = {round(BINS * one["from"]): percent(one["accepted"]) for one in found["confidence"]}
        fifths = ", ".join(rates.get(number, "-") for number in range(BINS))
        yield f"{'accepted, less to more sure':27} {fifths}"
    yield from _table(found)
    yield from _unshown(found)
    yield from _acts(found["actions"])
    for comparison in found.get("comparisons", ()):
        yield ""
        yield from _comparison(comparison)


def percent(share: float | None) -> str:
    """A share as a person reads it."""
    return "-" if share is None else f"{100 * share:.0f} %"


def milliseconds(ms: float) -> str:
    """A time as a person reads it."""
    return f"{ms:.0f} ms" if ms < 10_000 else f"{ms / 1000:.0f} s"


def name_of(key: str) -> str:
    """A group's value, in words; a checkpoint's folder is told by its last part."""
    return NAMES.get(key, PurePath(key).name or key)


def _day(moment: str) -> str:
    when = datetime.fromisoformat(moment).astimezone()
    return f"{when.day} {when:%b %Y}"


def _counts(found: Figures) -> Iterator[str]:
    offered, accepted = found["offered"], found["accepted"]
    asked = f" by {found['requests']:,} requests" if found["requests"] else ""
    yield f"{'offered':27} {offered:,}{asked}" + (f", {found['shown']:,} were seen" if offered else "")
    rate = ""
    if offered:
        low, high = wilson(accepted, offered)
        rate = f" ({percent(found['acceptance_rate'])}, {100 * low:.0f} to {100 * high:.0f})"
    yield f"{'accepted':27} {accepted:,}{rate}"
    yield f"{'':27} {found['accepted_in_part']:,} more in part; {found['chars_accepted']:,} characters in all"
    kept = [(words, found["kept"][key]) for words, key in (("30 s", "30"), ("5 min", "300"), ("10 min", "600"))]
    shares = ", ".join(f"{percent(one['share'])} after {words}" for words, one in kept if one["n"])
    yield f"{'kept of what was taken':27} {shares or 'not known yet'}"


def _measures(measures: Figures) -> Iterator[str]:
    first, busy = measures["time_to_first_useful_edit_ms"], measures["utilisation"]
    waits = "nothing was taken" if first is None else f"p50 {first['p50']:.0f} ms, p95 {first['p95']:.0f} ms"
    yield f"{'time to first useful edit':27} {waits}"
    tasks = sorted(measures["quality_by_task"].items(), key=lambda one: -one[1]["offered"])
    quality = ", ".join(f"{name_of(kind)} {percent(one['accepted'])}" for kind, one in tasks[:MOST_ROWS])
    yield f"{'quality by task':27} {quality or 'no suggestion yet'}"
    share = busy["share"]
    used = "not known" if share is None else f"{100 * share:.1f} % of the {busy['active_minutes']:,} minutes of typing"
    yield f"{'utilisation':27} {used}"
    cost = measures["cost_per_accepted_edit"]
    if cost["device_s"] is None:
        yield f"{'cost per accepted edit':27} not known"
        return
    kept = cost["device_s_per_100_kept_chars"]
    per = "" if kept is None else f"; {kept:.2f} s per 100 kept"
    yield f"{'cost per accepted edit':27} {cost['device_s']:.2f} s of computing, {cost['steps']:.0f} steps{per}"


def _table(found: Figures) -> Iterator[str]:
    """A line for each value that tells something, with a bar for what was accepted."""
    groups = [found["by"][group] for group in GROUPS]
    if any(len(parts) > 1 for parts in groups):
        yield ""
        yield f"{'':22}{'offered':>9}  {'accepted':<{BAR + 7}}{'kept 5 min':>10}{'p50':>9}"
    for parts in groups:
        if len(parts) > 1:
            most = sorted(parts.items(), key=lambda one: -one[1]["offered"])
            for key, part in most[:MOST_ROWS]:
                yield _row(name_of(key), part)
            if len(most) > MOST_ROWS:
                yield f"{f'and {len(most) - MOST_ROWS} more':22}".rstrip()


def _row(name: str, part: Figures) -> str:
    rate, kept = part["acceptance_rate"], part["kept"]["300"]["share"]
    p50 = milliseconds(part["latency_ms"]["p50"])
    # A checkpoint's path tells most at its end.
    short = name if len(name) <= 21 else f"...{name[-18:]}"
    return f"{short:22}{part['offered']:>9,}  {percent(rate):>5} {_bar(rate):<{BAR}} {percent(kept):>10}{p50:>9}"


def _bar(share: float) -> str:
    return "#" * round(BAR * share)


def _unshown(found: Figures) -> Iterator[str]:
    """Why requests brought nothing, and what validators objected to."""
    fates = {name: count for name, count in found["fates"].items() if name != "produced"}
    if fates or found["vetoed"]:
        yield ""
    if fates:
        failed = ", ".join(f"{name} {count:,}" for name, count in found["failures"].items())
        words = {"failed": f" ({failed})"}
        parts = [f"{name.replace('_', ' ')} {count:,}{words.get(name, '')}" for name, count in fates.items()]
        yield from _folded("nothing shown", parts)
    if found["vetoed"]:
        yield from _folded("vetoed", [f"{kind} {count:,}" for kind, count in found["vetoed"].items()])
    if found["remedies"]:
        yield from _folded("in their place", [f"{kind} {count:,}" for kind, count in found["remedies"].items()])


def _acts(found: Figures) -> Iterator[str]:
    """Code actions: how many edits were made, applied and undone, and what was kept; nothing where there were none."""
    if not found["offered"]:
        return
    kept = found["kept"]["300"]["share"]
    parts = [f"{found['offered']:,} made", f"{found['accepted']:,} applied", f"{found['undone']:,} undone at once"]
    parts += [f"{percent(kept)} kept after 5 min"] if kept is not None else []
    yield from _folded("code actions", parts)


def _folded(head: str, parts: list[str]) -> Iterator[str]:
    """Parts in as many lines as they need; a part stays whole."""
    whole = ", ".join(part.replace(" ", NO_BREAK) for part in parts)
    for line in textwrap.wrap(whole, WIDTH, initial_indent=f"{head:15}", subsequent_indent=" " * 15):
        yield line.replace(NO_BREAK, " ")


def _comparison(comparison: dict[str, Any]) -> Iterator[str]:
    yield f"compared {comparison['what']}"
    for side in comparison["sides"]:
        low, high = side["accepted"]["ci95"]
        kept = side["kept"]
        share = f", kept {percent(kept['share'])} of {kept['n']:,}" if kept["n"] else ""
        rate = f"{percent(side['accepted']['share'])} ({100 * low:.0f} to {100 * high:.0f})"
        yield f"  {side['name'][-30:]:30} {side['offered']:>9,}  {rate}{share}"
    for sentence in comparison["said"]:
        yield from textwrap.wrap(sentence, WIDTH, initial_indent="  ", subsequent_indent="    ")
