"""The options of `midspan calibrate`; light, as every command reads them."""

from __future__ import annotations

import argparse

# One in four: what is seen costs a glance, what is taken saves a line.
WORTH = 0.25


def add_calibrate(calibrate: argparse.ArgumentParser) -> None:
    """Add the options."""
    worth = f"show what is taken at least this often; {WORTH} if not given"
    calibrate.add_argument("--worth", type=_worth, default=WORTH, metavar="SHARE", help=worth)
    verb = calibrate.add_mutually_exclusive_group()
    verb.add_argument("--apply", action="store_true", help="take it from the next start of the server on")
    verb.add_argument("--undo", action="store_true", help="go back to what the checkpoint was shipped with")
    calibrate.add_argument("--json", action="store_true")


def _worth(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0.01 <= share <= 0.9:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a share from 0.01 to 0.9")
    return share
