"""Fit a checkpoint's ranking and confidence as the server will run it, with its syntax check.

`benchmarks/calibrate.py FOLDER --heldout runs/corpus/heldout.jsonl` writes the folder's `midspan.json` and
`calibration.json`; see engine/training/ranking.py and calibrate.py. Both are fitted on the same files, but on different
holes. One JSON row goes to stdout.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from midspan.engine.backends.process import keep_large_blocks
from midspan.engine.training.calibrate import calibrate
from midspan.engine.training.holes import HeldOut
from midspan.engine.training.ranking import fit_folder
from midspan.server.text.syntax_check import SyntaxJudge


def main() -> None:
    """Read the command line, calibrate, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--heldout", type=Path, required=True)
    parser.add_argument("--holes", type=int, default=1500)
    parser.add_argument("--ranking", type=int, default=0, help="fit the ranking first, on this many other holes")
    parser.add_argument("--precision", type=float, default=0.6, help="share of shown fills that are to be right")
    parser.add_argument("--seed", type=int, default=0)
    found = parser.parse_args()
    keep_large_blocks()
    row: dict[str, Any] = {"checkpoint": str(found.folder), "device": "cpu"}
    if found.ranking:
        others = HeldOut(file=found.heldout, count=found.ranking, seed=found.seed + 1)
        row["ranking"] = fit_folder(found.folder, others, SyntaxJudge())
    heldout = HeldOut(file=found.heldout, count=found.holes, seed=found.seed)
    row |= calibrate(found.folder, heldout, found.precision, SyntaxJudge())
    sys.stdout.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
