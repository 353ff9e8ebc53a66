"""The report as one self-contained page: plots and, beside each, its table; no script, no address, dark and light."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from html import escape

from midspan.server.report import svg
from midspan.server.report.compare import wilson
from midspan.server.report.figures import Figures
from midspan.server.report.terminal import milliseconds, name_of, percent

MOST_BARS = 8
DAYS, WEEK = 45, 7  # over more days than that, a point is a week
STYLE = """
:root{color-scheme:light dark}
body{font:16px/1.5 system-ui,sans-serif;max-width:62em;margin:auto;padding:1em}
h1{font-size:1.4em}h2{font-size:1.1em;margin:2em 0 .5em}
dl{display:grid;grid-template-columns:repeat(auto-fit,minmax(15em,1fr));gap:1em;margin:0}
dt{opacity:.8}dd{margin:0;font-size:1.2em}
main{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,22em),1fr));gap:1.5em}
figure{margin:0;min-width:0}figcaption{font-weight:600}
svg{width:100%;height:auto;font-size:12px;fill:currentColor}
svg .g{stroke:currentColor;opacity:.25}svg .d{stroke:currentColor;stroke-dasharray:4 4;opacity:.6}
svg .l{fill:none;stroke-width:2}svg .i{stroke:currentColor;stroke-width:1.5;opacity:.6}
svg .b,svg .m.s0{fill:#2f81f7}svg .l.s0{stroke:#2f81f7}svg .m.s1{fill:#c8652a}svg .l.s1{stroke:#c8652a}
table{border-collapse:collapse;font-size:.9em}td,th{padding:.15em .8em .15em 0;text-align:right}
th:first-child,td:first-child{text-align:left;min-width:8em;overflow-wrap:anywhere}
details{overflow-x:auto}summary{cursor:pointer}
"""
FATES = {
    "produced": "a suggestion was offered",
    "empty": "nothing was likely enough",
    "late": "nothing was ready in time",
    "below": "the best was not sure enough",
    "vetoed": "a validator objected",
    "nothing_new": "nothing new, or worth a key",
    "held_back": "no model was asked",
    "superseded": "overtaken by the next key",
    "cancelled": "withdrawn by the editor",
    "failed": "the engine failed",
}


def as_html(found: Figures) -> str:
    """The page."""
    title = f"midspan since {escape(_day_of(found['since']))}"
    body = "".join((_summary(found), f"<h2>Plots</h2><main>{''.join(_plots(found))}</main>", *_tables(found)))
    return (
        f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width,initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{STYLE}</style>\n<h1>{title}</h1>\n{body}\n</html>\n"
    )


def _day_of(moment: str) -> str:
    when = datetime.fromisoformat(moment).astimezone()
    return f"{when.day} {when:%B %Y}"


def _summary(found: Figures) -> str:
    """What a person looks for first: counts and the four measures."""
    measures = found["measures"]
    first, busy = measures["time_to_first_useful_edit_ms"], measures["utilisation"]["share"]
    cost = measures["cost_per_accepted_edit"]
    facts = {
        "offered": f"{found['offered']:,}",
        "accepted": f"{found['accepted']:,} ({percent(found['acceptance_rate'])})",
        "accepted in part": f"{found['accepted_in_part']:,}",
        "characters accepted": f"{found['chars_accepted']:,}",
        "kept after 5 minutes": percent(found["kept"]["300"]["share"]),
        "time to first useful edit": "-" if first is None else f"p50 {first['p50']:.0f} ms, p95 {first['p95']:.0f} ms",
        "quality by task": ", ".join(
            f"{name_of(kind)} {percent(one['accepted'])}" for kind, one in measures["quality_by_task"].items()
        )
        or "-",
        "utilisation of this machine": "-" if busy is None else f"{100 * busy:.1f} % while you type",
        "cost per accepted edit": "-"
        if cost["device_s"] is None
        else f"{cost['device_s']:.2f} s of computing, {cost['steps']:.0f} steps",
    }
    return f"<dl>{''.join(f'<div><dt>{name}</dt><dd>{escape(value)}</dd></div>' for name, value in facts.items())}</dl>"


def _plots(found: Figures) -> Iterator[str]:
    days = _periods(found["days"])
    if days:
        yield _over_time(days)
    for group, caption in (("language", "language"), ("kind", "kind of gap"), ("engine", "engine")):
        parts = found["by"][group]
        if parts:
            yield _by_group(parts, f"Accepted, by {caption}")
    if found["confidence"]:
        yield _calibration(found["confidence"])
    if found["phases_ms"]:
        shares = list(found["phases_ms"].items())
        plot = svg.parts("Milliseconds of a suggestion by phase, on average", shares, "ms")
        yield _figure("Where the time goes", plot, ("phase", "ms"), ((name, f"{ms:.1f}") for name, ms in shares))
    if found["fates"]:
        yield _fates(found)


def _periods(days: Sequence[Figures]) -> list[Figures]:
    """Days, or weeks where there are many."""
    if not days or days[-1]["day"] - days[0]["day"] <= DAYS:
        return list(days)
    weeks: dict[int, Figures] = {}
    for one in days:
        first = one["day"] - one["day"] % WEEK
        week = weeks.setdefault(
            first, {"day": first, "offered": 0, "accepted": 0, "kept": {"n": 0, "share": None}, "sum": 0.0}
        )
        week["offered"] += one["offered"]
        week["accepted"] += one["accepted"]
        week["sum"] += one["kept"]["n"] * (one["kept"]["share"] or 0.0)
        known = week["kept"]["n"] + one["kept"]["n"]
        week["kept"] = {"n": known, "share": week["sum"] / known if known else None}
    return list(weeks.values())


def _over_time(days: Sequence[Figures]) -> str:
    first, last = days[0]["day"], days[-1]["day"]

    def x(day: int) -> float:
        return (day - first) / (last - first) if last > first else 0.5

    accepted = [
        svg.Point(x(one["day"]), one["accepted"] / one["offered"], *wilson(one["accepted"], one["offered"]))
        for one in days
    ]
    shares = [(x(one["day"]), one["kept"]["share"]) for one in days if one["kept"]["n"]]
    series = {"accepted": accepted, "kept": [svg.Point(at, share, share, share) for at, share in shares]}
    plot = svg.lines("Accepted and kept after five minutes, percent by day", series, (_date(first), _date(last)))
    rows = (
        (
            _date(one["day"]),
            f"{one['offered']:,}",
            percent(one["accepted"] / one["offered"]),
            percent(one["kept"]["share"]),
        )
        for one in days
    )
    caption = "Accepted (circles) and kept after 5 minutes (squares), percent"
    return _figure(caption, plot, ("day", "offered", "accepted", "kept"), rows)


def _date(day: int) -> str:
    when = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=day)
    return f"{when.day} {when:%b}"


def _by_group(parts: Figures, caption: str) -> str:
    most = sorted(parts.items(), key=lambda one: -one[1]["offered"])
    rows = [
        svg.Bar(
            name_of(key),
            part["acceptance_rate"],
            *wilson(part["accepted"], part["offered"]),
            f"{percent(part['acceptance_rate'])} of {part['offered']:,}",
        )
        for key, part in most[:MOST_BARS]
    ]
    table = (
        (name_of(key), f"{part['offered']:,}", percent(part["acceptance_rate"]), percent(part["kept"]["300"]["share"]))
        for key, part in most
    )
    plot = svg.bars(f"{caption}, with 95 % intervals", rows)
    return _figure(caption, plot, ("", "offered", "accepted", "kept 5 min"), table)


def _calibration(bins: Sequence[Figures]) -> str:
    points = [
        svg.Point(one["confidence"], one["accepted"], *wilson(one["accepted"] * one["offered"], one["offered"]))
        for one in bins
    ]
    title = "How sure a suggestion was against how often it was accepted, percent"
    plot = svg.lines(title, {"accepted": points}, ("not sure", "sure"), diagonal=True)
    rows = (
        (f"{100 * one['from']:.0f} to {100 * one['to']:.0f} %", f"{one['offered']:,}", percent(one["accepted"]))
        for one in bins
    )
    return _figure("Accepted by how sure it was", plot, ("sure", "offered", "accepted"), rows)


def _fates(found: Figures) -> str:
    count = found["requests"]
    rows = [
        svg.Bar(FATES.get(fate, fate), number / count, 0.0, 0.0, f"{number:,}")
        for fate, number in found["fates"].items()
    ]
    table = ((FATES.get(fate, fate), f"{number:,}") for fate, number in found["fates"].items())
    return _figure("What became of requests", svg.bars("Requests by fate", rows), ("fate", "requests"), table)


def _tables(found: Figures) -> Iterator[str]:
    """What has no plot: every group's figures, what validators objected to, comparisons."""
    heads = ("", "offered", "seen", "accepted", "in part", "characters", "p50", "p95")
    for group, parts in found["by"].items():
        if parts:
            rows = ((name_of(key), *_figures_of(part)) for key, part in parts.items())
            yield f"<h2>By {escape(group)}</h2><details open><summary>Table</summary>{_table(heads, rows)}</details>"
    if (acts := found["actions"])["offered"]:
        yield f"<h2>Code actions</h2><details open><summary>Table</summary>{_actions(acts['by'])}</details>"
    for words, counts in (("vetoed by validators", found["vetoed"]), ("shown in their place", found["remedies"])):
        listed = ", ".join(f"{kind} {count}" for kind, count in counts.items())
        yield f"<p>{words}: {escape(listed or 'none')}</p>"
    for comparison in found.get("comparisons", ()):
        said = "".join(f"<li>{escape(sentence)}</li>" for sentence in comparison["said"])
        yield f"<h2>Compared {escape(comparison['what'])}</h2><ul>{said}</ul>"


def _actions(by: Figures) -> str:
    heads = ("", "made", "applied", "undone within a minute", "kept 30 s", "kept 5 min", "p50")
    return _table(heads, ((name, *_action(part)) for name, part in by.items()))


def _action(part: Figures) -> Iterator[str]:
    yield f"{part['offered']:,}"
    yield f"{part['accepted']:,} ({percent(part['acceptance_rate'])})"
    yield f"{part['undone']:,}"
    yield percent(part["kept"]["30"]["share"])
    yield percent(part["kept"]["300"]["share"])
    yield milliseconds(part["latency_ms"]["p50"])


def _figures_of(part: Figures) -> Iterator[str]:
    waits = part["latency_ms"]
    yield f"{part['offered']:,}"
    yield f"{part['shown']:,}"
    yield f"{part['accepted']:,} ({percent(part['acceptance_rate'])})"
    yield f"{part['accepted_in_part']:,}"
    yield f"{part['chars_accepted']:,}"
    yield f"{waits['p50']:.0f} ms"
    yield f"{waits['p95']:.0f} ms"


def _figure(caption: str, plot: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    table = f"<details><summary>Table</summary>{_table(heads, rows)}</details>"
    return f"<figure><figcaption>{escape(caption)}</figcaption>{plot}{table}</figure>"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' if name else "<td></td>" for name in heads)
    body = "".join(
        f'<tr><th scope="row">{escape(first)}</th>{"".join(f"<td>{escape(value)}</td>" for value in rest)}</tr>'
        for first, *rest in rows
    )
    return f"<table><tr>{head}</tr>{body}</table>"
