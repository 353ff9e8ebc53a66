"""Fit which gaps are answered before a canvas is denoised, where nothing but a sure fill is wanted, judge included.

`docs/benchmarks/early_exit.py FOLDER --heldout runs/corpus/heldout.jsonl` writes the folder's `midspan.json`; see
engine/training/early_exit.py. To be run behind `calibrate.py`, as it depends on the threshold; the holes are others.
One JSON row goes to stdout.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from midspan.engine.allocator import keep_large_blocks
from midspan.engine.training.early_exit import fit_folder
from midspan.server.judge import SyntaxJudge


def main() -> None:
    """Read the command line, fit, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--heldout", type=Path, required=True)
    parser.add_argument("--holes", type=int, default=1000)
    parser.add_argument("--lost", type=float, default=0.015, help="share of what is shown and right that may be lost")
    parser.add_argument("--seed", type=int, default=3)
    found = parser.parse_args()
    keep_large_blocks()
    row = fit_folder(found.folder, found.heldout, found.holes, found.seed, found.lost, SyntaxJudge())
    sys.stdout.write(json.dumps({"checkpoint": str(found.folder), "device": "cpu", **row}) + "\n")


if __name__ == "__main__":
    main()
