"""The options of `midspan batch`; light, as every command reads them."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

from midspan.server.commands.arguments import few, seed

MOST_SECONDS, MOST_MEGABYTES = 3600, 1 << 20
Choose = Callable[[argparse.Namespace], None]


def add_batch(batch: argparse.ArgumentParser, choose: Choose) -> None:
    """Add the options, and what runs; `choose` puts the checkpoint that is taken into the arguments."""
    batch.add_argument("paths", type=Path, nargs="+", metavar="FOLDER|FILE", help="where the marked gaps are")
    what = batch.add_mutually_exclusive_group(required=True)
    what.add_argument("--out", type=Path, metavar="FILE.patch", help="the patch, for git apply")
    what.add_argument("--dry-run", action="store_true", help="list the gaps by file and line; no model runs")
    mark = "a regular expression; what it matches is a gap as well"
    batch.add_argument("--pattern", type=_pattern, metavar="REGEX", help=mark)
    batch.add_argument("--exclude", action="append", default=[], metavar="GLOB", help="files and folders left alone")
    batch.add_argument(
        "--candidates",
        type=few,
        metavar="N",
        help="texts asked for where the first one is not kept; 5 if not given",
    )
    batch.add_argument("--seed", type=seed, default=0, metavar="S")
    batch.add_argument("--engine", metavar="NAME", help="as midspan fill has it")
    batch.add_argument("--check", metavar="COMMAND", help="keep what leaves it passing, in a copy of the tree")
    seconds = f"how long the command may take; 60 if not given, {MOST_SECONDS} at most"
    batch.add_argument("--check-seconds", type=partial(_up_to, MOST_SECONDS), default=60, metavar="S", help=seconds)
    memory = "the address space that each of its processes may have; 4096 if not given"
    batch.add_argument("--check-memory", type=partial(_up_to, MOST_MEGABYTES), default=4096, metavar="MB", help=memory)
    batch.add_argument("--json", action="store_true")
    batch.set_defaults(run=partial(_batch, choose), watch=False)


def _pattern(text: str) -> re.Pattern[str]:
    try:
        found = re.compile(text, re.MULTILINE)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is no regular expression: {error}") from error
    if found.match("") is not None:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} matches the empty text, which is everywhere; name the mark")
    return found


def _up_to(most: int, text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text[:10]) <= most:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a number from 1 to {most}")
    return int(text)


def _batch(choose: Choose, arguments: argparse.Namespace) -> int:
    from midspan.server.batch.command import batch_command

    choose(arguments)
    return batch_command(arguments)
