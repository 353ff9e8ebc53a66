"""Fit the gate's second stage, `early_exit`: gaps that are answered or given up before a canvas is denoised.

It holds for requests that want a sure fill or none, and is fitted with the server's syntax check.
`benchmarks/early_exit.py FOLDER --heldout runs/corpus/heldout.jsonl` writes the folder's `midspan.json`; see
engine/training/early_exit.py. Run it after `calibrate.py`, on whose threshold it depends; it takes other holes than
that. One JSON row goes to stdout.
"""

from __future__ import annotations

from search_floor import fit_command

from midspan.engine.training.early_exit import fit_folder

if __name__ == "__main__":
    fit_command(__doc__, fit_folder, lost=0.015, seed=3)
