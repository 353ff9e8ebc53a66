"""Fit the confidence of a fill-in-the-middle model as the server will run it, with its syntax check.

`benchmarks/calibrate_marks.py CHECKPOINT --heldout runs/sources/heldout.jsonl --seen FILE.jsonl` fills holes of every
language of held-out packages (engine/training/continued/sources.py makes the file), appends each to FILE.jsonl, and
goes on where an earlier run stopped. One JSON row goes to stdout, with the calibration and the threshold of
engine/prompts/fim_calibrations.json.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from midspan.engine.backends.process import keep_large_blocks
from midspan.engine.engine import load_path
from midspan.engine.left_to_right import LeftToRight
from midspan.engine.training.calibrate_marks import Seen, fitted, holes, observe
from midspan.server.text.syntax_check import SyntaxJudge


def main() -> int:
    """Read the command line, fill, fit, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("--heldout", type=Path, required=True)
    parser.add_argument("--seen", type=Path, required=True)
    parser.add_argument("--holes", type=int, default=133, help="of each language")
    parser.add_argument("--precision", type=float, default=0.8, help="share of shown fills that are to be right")
    parser.add_argument("--seed", type=int, default=0)
    found = parser.parse_args()
    keep_large_blocks()
    path = load_path(found.checkpoint, "cpu")
    if not isinstance(path, LeftToRight):
        parser.error(f"{found.checkpoint} does not write between marks; benchmarks/calibrate.py is for its kind")
    path.judge = SyntaxJudge()
    lines = found.seen.read_text(encoding="utf-8").splitlines() if found.seen.exists() else []
    # A hole without a fill is a row, too, so that a later run counts it.
    with found.seen.open("a", encoding="utf-8") as file:
        for number, (hole, truth) in enumerate(holes(found.heldout, found.holes, found.seed)):
            if number < len(lines):
                continue
            one = observe(path, hole, truth)
            lines.append(json.dumps(one and asdict(one)))
            file.write(lines[-1] + "\n")
            file.flush()
    seen = [Seen(**row) for line in lines if (row := json.loads(line)) is not None]
    sys.stdout.write(
        json.dumps({"checkpoint": found.checkpoint, "device": "cpu", **fitted(seen, found.precision)}) + "\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
