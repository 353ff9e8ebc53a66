"""Fit which gaps are answered before a canvas is denoised, where nothing but a sure fill is wanted, judge included.

`benchmarks/early_exit.py FOLDER --heldout runs/corpus/heldout.jsonl` writes the folder's `midspan.json`; see
engine/training/early_exit.py. Run it behind `calibrate.py`: it depends on the threshold. Its holes are others.
One JSON row goes to stdout.
"""

from __future__ import annotations

from search_floor import fit_command

from midspan.engine.training.early_exit import fit_folder

if __name__ == "__main__":
    fit_command(__doc__, fit_folder, lost=0.015, seed=3)
