"""The options of `midspan bench load`; light, as every command reads them."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

MOST_USERS, MOST_SECONDS = 1000, 3600


def add_load(load: argparse.ArgumentParser) -> None:
    """Add the options, and what runs."""
    what = "diffusion or autoregressive, readings of the local checkpoint, or one that midspan backends lists"
    load.add_argument("--backend", required=True, metavar="NAME", help=what)
    load.add_argument("--users", type=_users, required=True, metavar="N", help=f"who types; {MOST_USERS} at most")
    load.add_argument("--seconds", type=_seconds, default=60.0, metavar="S", help="for how long; 60 if not given")
    files = "what is typed: source files, or the corpus's heldout.jsonl; midspan's own source if not given"
    load.add_argument("--files", type=Path, nargs="+", metavar="FILE", help=files)
    load.add_argument("--price-per-hour", type=_price, metavar="P", help="what the server costs an hour, in any money")
    load.add_argument("--json", action="store_true")
    load.set_defaults(run=_load)


def _users(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text[:10]) <= MOST_USERS:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a number of people from 1 to {MOST_USERS}")
    return int(text)


def _seconds(text: str) -> float:
    if not 0 < (seconds := _number(text)) <= MOST_SECONDS:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a number of seconds up to {MOST_SECONDS}")
    return seconds


def _price(text: str) -> float:
    if not 0 < (price := _number(text)) < math.inf:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a price above 0, such as 2.50")
    return price


def _number(text: str) -> float:
    """A number; 0 for what is none."""
    try:
        return float(text)
    except ValueError:
        return 0.0


def _load(arguments: argparse.Namespace) -> int:
    from midspan.server.bench.load import load_command

    return load_command(arguments)
