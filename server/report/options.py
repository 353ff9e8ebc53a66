"""What `midspan report` can be told."""

from __future__ import annotations

import argparse
import re
from datetime import datetime, timedelta
from pathlib import Path

SPANS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
COMPARED = ("checkpoint", "engine", "language", "client")


def add_options(report: argparse.ArgumentParser) -> None:
    """Add them to the command's parser."""
    report.add_argument("--since", type=_since, default="30d", metavar="30d", help="hours, days or weeks ago: h, d, w")
    report.add_argument(
        "--before", type=_date, metavar="DATE", help="compare what came before a day with what came since"
    )
    report.add_argument("--compare", choices=COMPARED, help="compare each of them with the most used one")
    report.add_argument("--html", type=Path, metavar="FILE", help="write a page there, too")
    report.add_argument("--csv", type=Path, metavar="FILE", help="write a line for each suggestion there, too")
    form = report.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true")
    form.add_argument("--prometheus", action="store_true", help="print sums as text for Prometheus")


def _since(text: str) -> timedelta:
    found = re.fullmatch(r"(\d{1,5})([hdw])", text)
    if found is None or not int(found[1]):
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is no time such as 12h, 30d or 8w")
    return int(found[1]) * SPANS[found[2]]


def _date(text: str) -> datetime:
    """The beginning of a day, in local time."""
    try:
        return datetime.strptime(text, "%Y-%m-%d").astimezone()
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is no day such as 2026-11-30") from None
