"""Fit the gate's first stage, `search_floor`: gaps that are given up because no proposal is likely enough.

It holds for requests that want a sure fill or none, and is fitted with the server's syntax check.
`benchmarks/search_floor.py FOLDER --heldout runs/corpus/heldout.jsonl` writes the folder's `midspan.json`; see
engine/training/search_floor.py. Run it after `calibrate.py`, on whose threshold it depends; it takes other holes than
that. One JSON row goes to stdout.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

from midspan.engine.api import Judge
from midspan.engine.backends.process import keep_large_blocks
from midspan.engine.training.holes import HeldOut
from midspan.engine.training.search_floor import fit_folder
from midspan.server.text.syntax_check import SyntaxJudge

Fit = Callable[[Path, HeldOut, float, Judge | None], dict[str, object]]
"""(folder, holes, share of right fills that may be lost, syntax judge) -> the figures."""


def fit_command(doc: str | None, fit: Fit, *, lost: float, seed: int) -> None:
    """Read the command line, fit, print; also the command of early_exit.py."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--heldout", type=Path, required=True)
    parser.add_argument("--holes", type=int, default=1000)
    parser.add_argument(
        "--lost", type=float, default=lost, help="share of the fills that are shown and right that may be lost"
    )
    parser.add_argument("--seed", type=int, default=seed)
    found = parser.parse_args()
    keep_large_blocks()
    heldout = HeldOut(file=found.heldout, count=found.holes, seed=found.seed)
    row = fit(found.folder, heldout, found.lost, SyntaxJudge())
    sys.stdout.write(json.dumps({"checkpoint": str(found.folder), "device": "cpu", **row}) + "\n")


if __name__ == "__main__":
    fit_command(__doc__, fit_folder, lost=0.01, seed=2)
