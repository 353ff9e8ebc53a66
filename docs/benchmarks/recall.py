"""Fit how much the text around a gap and lines of other files have a say in the tokens that a beam goes on with.

`docs/benchmarks/recall.py FOLDER --heldout runs/corpus/heldout.jsonl` writes the folder's `midspan.json`; see
engine/training/recall.py. To be run before `calibrate.py`, which ranks what beams come to; the holes are others.
One JSON row goes to stdout: nats a token of held-out gaps by the network alone (`nats_alone`) and mixed (`nats`).
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from midspan.engine.allocator import keep_large_blocks
from midspan.engine.training.recall import fit_folder


def main() -> None:
    """Read the command line, fit, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--heldout", type=Path, required=True)
    parser.add_argument("--holes", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=4)
    found = parser.parse_args()
    keep_large_blocks()
    row = fit_folder(found.folder, found.heldout, found.holes, found.seed)
    sys.stdout.write(json.dumps({"checkpoint": str(found.folder), "device": "cpu", **row}) + "\n")


if __name__ == "__main__":
    main()
