"""Fit which gaps a checkpoint gives up before a canvas, where nothing but a sure fill is wanted, judge included.

`benchmarks/search_floor.py FOLDER --heldout runs/corpus/heldout.jsonl` writes the folder's `midspan.json`; see
engine/training/search_floor.py. Run it behind `calibrate.py`: it depends on the threshold. Its holes are others.
One JSON row goes to stdout.
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
"""(folder, holes, share that may be lost, judge) -> the figures."""


def fit_command(doc: str | None, fit: Fit, *, lost: float, seed: int) -> None:
    """Read the command line, fit, print."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--heldout", type=Path, required=True)
    parser.add_argument("--holes", type=int, default=1000)
    parser.add_argument("--lost", type=float, default=lost, help="share of what is shown and right that may be lost")
    parser.add_argument("--seed", type=int, default=seed)
    found = parser.parse_args()
    keep_large_blocks()
    heldout = HeldOut(file=found.heldout, count=found.holes, seed=found.seed)
    row = fit(found.folder, heldout, found.lost, SyntaxJudge())
    sys.stdout.write(json.dumps({"checkpoint": str(found.folder), "device": "cpu", **row}) + "\n")


if __name__ == "__main__":
    fit_command(__doc__, fit_folder, lost=0.01, seed=2)
