"""The options of `midspan replay`; light, as every command reads them."""

from __future__ import annotations

import argparse
from pathlib import Path

from midspan.server.commands.arguments import seed
from midspan.server.replay.styles import STYLES


def add_replay(replay: argparse.ArgumentParser) -> None:
    """Add the options, and what runs."""
    files = "what is typed: source files, or the corpus's heldout.jsonl"
    replay.add_argument("files", type=Path, nargs="+", metavar="FILE", help=files)
    replay.add_argument(
        "--style", choices=tuple(STYLES), default="vscode", help="how suggestions are taken: by client, word or line"
    )
    replay.add_argument("--lines", type=_lines, default=100, metavar="N", help="how many are retyped; 100 if not given")
    replay.add_argument("--seed", type=seed, default=0, metavar="S", help="which lines, and the rhythm of keys")
    replay.add_argument("--json", action="store_true")
    replay.set_defaults(run=_replay)


def _lines(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text[:10]) <= 1_000_000:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a number of lines from 1 to 1000000")
    return int(text)


def _replay(arguments: argparse.Namespace) -> int:
    from midspan.server.replay.command import replay_command

    return replay_command(arguments)
