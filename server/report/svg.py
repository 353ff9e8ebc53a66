"""Plots as small SVG, by hand: 150 lines and two kilobytes a plot.

Altair inlines 800 kB of script and Plotly's smallest bundle a megabyte, and the page is also shown in VS Code, which
allows it no script; matplotlib's SVG turns words into paths, which no screen reader reads, at 50 kB a plot. These need
three shapes only: a line over days, bars with intervals, and a bar of parts. Each is as wide as its column, has a title
for screen readers, takes its ink from the page, and is told by shape and label as well as by colour.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

WIDTH, HEIGHT = 360, 200
LEFT, RIGHT, TOP, BOTTOM = 40, 12, 12, 28
ROW = 26


class Point(NamedTuple):
    """A value at a place of the x axis, with its interval; shares from 0 to 1."""

    x: float
    y: float
    low: float
    high: float


class Bar(NamedTuple):
    """A labelled value with its interval, and the words beside it; `size` is from 0 to 1."""

    label: str
    size: float
    low: float
    high: float
    words: str


def lines(title: str, series: Mapping[str, Sequence[Point]], ends: tuple[str, str], *, diagonal: bool = False) -> str:
    """Shares over an axis from 0 to 1 whose ends are labelled: points with intervals, joined, one style a series."""
    wide, high = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def at(x: float, y: float) -> str:
        return f"{LEFT + x * wide:.1f},{TOP + (1 - y) * high:.1f}"

    drawn = [_grid()]
    if diagonal:
        drawn.append(f'<polyline class="d" points="{at(0, 0)} {at(1, 1)}"/>')
    for number, points in enumerate(series.values()):
        kind = f"s{number}"
        for point in points:
            drawn.append(f'<polyline class="i {kind}" points="{at(point.x, point.low)} {at(point.x, point.high)}"/>')
        drawn.append(f'<polyline class="l {kind}" points="{" ".join(at(point.x, point.y) for point in points)}"/>')
        drawn += [_mark(at(point.x, point.y), kind, square=number > 0) for point in points]
    foot = HEIGHT - 10
    drawn.append(f'<text x="{LEFT}" y="{foot}">{escape(ends[0])}</text>')
    drawn.append(f'<text x="{WIDTH - RIGHT}" y="{foot}" text-anchor="end">{escape(ends[1])}</text>')
    return _svg(title, HEIGHT, drawn)


def bars(title: str, rows: Sequence[Bar]) -> str:
    """A bar a row under its label, with a line over it for the interval."""
    wide, drawn = WIDTH - RIGHT, list[str]()
    for number, row in enumerate(rows):
        y = 4 + number * 2 * ROW
        drawn.append(f'<text x="0" y="{y + 14}">{escape(_short(row.label))}</text>')
        drawn.append(f'<text x="{WIDTH}" y="{y + 14}" text-anchor="end">{escape(row.words)}</text>')
        drawn.append(f'<rect class="b" x="0" y="{y + 20}" width="{max(1.0, row.size * wide):.1f}" height="16"/>')
        if row.high > row.low:
            ends = f"{row.low * wide:.1f},{y + 28} {row.high * wide:.1f},{y + 28}"
            drawn.append(f'<polyline class="i" points="{ends}"/>')
    return _svg(title, 8 + 2 * ROW * len(rows), drawn)


def parts(title: str, shares: Sequence[tuple[str, float]], unit: str) -> str:
    """One value as its parts, a row each: where each begins and how long it is."""
    whole = sum(value for _, value in shares) or 1.0
    drawn, before = list[str](), 0.0
    for number, (name, value) in enumerate(shares):
        y, x, wide = 4 + number * ROW, 110 + before / whole * 180, value / whole * 180
        drawn.append(f'<text x="0" y="{y + 14}">{escape(name)}</text>')
        drawn.append(f'<rect class="b" x="{x:.1f}" y="{y + 2}" width="{max(1.0, wide):.1f}" height="16"/>')
        drawn.append(f'<text x="{WIDTH}" y="{y + 14}" text-anchor="end">{value:.1f} {escape(unit)}</text>')
        before += value
    return _svg(title, 8 + ROW * len(shares), drawn)


def _svg(title: str, height: int, drawn: Sequence[str]) -> str:
    name = escape(title, quote=True)
    return (
        f'<svg role="img" aria-label="{name}" viewBox="0 0 {WIDTH} {height}"><title>{name}</title>'
        f"{''.join(drawn)}</svg>"
    )


def _grid() -> str:
    """Lines at 0, 50 and 100 percent."""
    drawn = []
    for share in (0.0, 0.5, 1.0):
        y = TOP + (1 - share) * (HEIGHT - TOP - BOTTOM)
        drawn.append(f'<polyline class="g" points="{LEFT},{y:.1f} {WIDTH - RIGHT},{y:.1f}"/>')
        drawn.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{100 * share:.0f}</text>')
    return "".join(drawn)


def _mark(at: str, kind: str, *, square: bool) -> str:
    x, y = (float(one) for one in at.split(","))
    if square:
        return f'<rect class="m {kind}" x="{x - 3.5:.1f}" y="{y - 3.5:.1f}" width="7" height="7"/>'
    return f'<circle class="m {kind}" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>'


def _short(label: str) -> str:
    return label if len(label) <= 30 else f"\N{HORIZONTAL ELLIPSIS}{label[-29:]}"
