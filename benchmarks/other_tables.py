"""Tables that are no column of figures: the readings of one checkpoint side by side, and what typing asks of an engine.

Each is of the latest row of its kind; tables.py puts it between markers of its name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

Row = dict[str, Any]

TEAMS, TEAM_DELAYS_MS = (5, 50, 500), (200, 400)
# Of a replica: what docs/serving.md reckons for an H200, and how much of its time is given away.
FILLS, USE = 2, 0.7
READINGS = {"diffusion": "canvases", "autoregressive": "left to right", "router": "the router"}


def render_readings(row: Row) -> str:
    """The table of a `readings.py` row: every engine, what the router saved, and whom it chose."""
    engines: Mapping[str, Any] = row["engines"]
    rows: dict[str, Callable[[Any], str]] = {
        "pass@1": lambda one: share(one["pass@1"]),
        "exactly the missing text": lambda one: share(one["exact"]),
        "time to a fill that passes": lambda one: times(one["useful_ms"]),
        "time to any fill": lambda one: times(one["ms"]),
        "forward passes a fill": lambda one: number(one["forwards"]),
        "forward passes for each fill that passes": lambda one: (
            "none" if one["forwards_per_pass"] is None else f"{one['forwards_per_pass']:.0f}"
        ),
    }
    drawn = ", ".join(f"{count} of `{name.partition('.')[0]}`" for name, count in row["tasks"].items())
    lines = [f"{row['n']} gaps ({drawn}), `{row['checkpoint']}`, commit `{row['commit']}`, {row['machine']}:", ""]
    figures = ([label, *(cell(engines[name]) for name in READINGS)] for label, cell in rows.items())
    lines += table(["", *READINGS.values()], figures)
    lines += ["", "What the router changed, gap by gap:", ""]
    cells = (
        [READINGS[name], points(saved["pass@1"]), change(saved["ms"], " ms"), change(saved["forwards"], "")]
        for name, saved in row["saved"].items()
    )
    lines += table(["in place of always", "pass@1", "a fill's time", "forward passes"], cells)
    lines += ["", "Whom it chose:", ""]
    chosen = (
        [f"`{task}`", *(str(counts.get(name, 0)) for name in ("diffusion", "autoregressive", "nobody", "asked again"))]
        for task, counts in row["chosen"].items()
    )
    lines += table(["task", "canvases answered", "left to right answered", "nobody", "a second one was asked"], chosen)
    return "\n".join(lines) + "\n"


def render_demand(row: Row) -> str:
    """The table of a `typing_demand.py` row."""
    head = ["an answer takes", "keys a minute", "requests begun a second", "answered a second", "cancelled", "at once"]
    cells = (
        [
            f"{one['delay_ms']:g} ms",
            f"{one['keys_per_minute']:.0f}",
            f"{one['requests_per_s']:.2f}",
            f"{one['answers_per_s']:.2f}",
            f"{100 * one['cancelled']:.0f} %",
            f"{one['at_once']:.2f}",
        ]
        for one in row["by_delay"]
    )
    title = f"One person who types, mean of {row['people']} over {row['seconds']:g} s, commit `{row['commit']}`:"
    return "\n".join([title, "", *table(head, cells)]) + "\n"


def render_teams(row: Row) -> str:
    """How many replicas a team takes, each of which works on FILLS fills at once for USE of its time."""
    at_once = {one["delay_ms"]: one["at_once"] for one in row["by_delay"]}
    head = ["a team of", "who type at once", *(f"replicas where a fill takes {delay} ms" for delay in TEAM_DELAYS_MS)]
    cells = (
        [
            str(team),
            f"{'all' if share == 1 else 'one in five'}: {team // share}",
            *(str(math.ceil(round(team // share * at_once[delay] / (FILLS * USE), 6))) for delay in TEAM_DELAYS_MS),
        ]
        for team in TEAMS
        for share in (1, 5)
    )
    return "\n".join(table(head, cells)) + "\n"


KINDS: Sequence[tuple[str, str, str, Callable[[Row], str]]] = (
    ("readings.py", "docs/benchmarks.md", "readings", render_readings),
    ("typing_demand.py", "docs/serving.md", "demand", render_demand),
    ("typing_demand.py", "docs/serving.md", "teams", render_teams),
)
"""The command's beginning, the page, the markers' name, and what writes the table."""


def others(rows: Sequence[Row]) -> list[tuple[str, str, str]]:
    """(page, markers' name, table) of the latest row of each kind that there is."""
    found = []
    for kind, page, name, render in KINDS:
        if of_kind := [row for row in rows if row["command"].startswith(kind)]:
            found.append((page, name, render(of_kind[-1])))
    return found


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table's lines."""
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


def share(found: Mapping[str, Any]) -> str:
    """A share with its interval."""
    low, high = found["ci95"]
    return f"{100 * found['mean']:.1f} % ({100 * low:.1f} to {100 * high:.1f} %)"


def number(found: Mapping[str, Any]) -> str:
    """A mean with its interval."""
    low, high = found["ci95"]
    return f"{found['mean']:.1f} ({low:.1f} to {high:.1f})"


def change(found: Mapping[str, Any], unit: str) -> str:
    """A difference with its interval."""
    low, high = found["ci95"]
    return f"{found['mean']:+.1f}{unit} ({low:+.1f} to {high:+.1f})"


def points(found: Mapping[str, Any]) -> str:
    """A difference of shares in percentage points."""
    return change({"mean": 100 * found["mean"], "ci95": [100 * one for one in found["ci95"]]}, " points")


def times(milliseconds: Mapping[str, float] | None) -> str:
    """Named percentiles."""
    if milliseconds is None:
        return "none"
    return ", ".join(f"{name} {ms:.0f} ms" for name, ms in milliseconds.items())
