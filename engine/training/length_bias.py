"""Fit `hypotheses.length_bias` of `midspan.json`: what a gap length gains by its size alone, for layout `clamped`.

`python -m midspan.engine.training.length_bias FOLDER --heldout FILE [--holes N]`. Holes are cut into held-out files,
half of them lines and half spans; every length is read as hypotheses/lengths.py reads it. A length's bias is its mean
score over the holes of another true length (the nearest that is tried), less the mean of all lengths, so that a neutral
gap prefers none. After arXiv 2602.00476, which fits a curve; here each length has a number of its own.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from midspan.engine.api import CheckpointError, DeviceError, Hole
from midspan.engine.canvas import Rng
from midspan.engine.engine import load_infiller
from midspan.engine.hypotheses.canvas_layouts import CanvasLayout
from midspan.engine.hypotheses.lengths import canvas_width, fitting, read_lengths
from midspan.engine.infill import Infiller
from midspan.engine.training.holes import heldout_holes, heldout_spans
from midspan.engine.weights.midspan_json import write_settings


def fit(infiller: Infiller, holes: Iterable[tuple[Hole, str]], lengths: tuple[int, ...]) -> list[float]:
    """The bias in nats of each of `lengths` (`slots` or `block_slots`), from holes of their kind."""
    settings, longest = infiller.settings, infiller.backend.canvas_length
    tried = fitting(settings, lengths, longest)
    width = canvas_width(settings, tried, longest)
    scores = defaultdict[int, list[float]](list)
    for number, (hole, truth) in enumerate(holes):
        layout = infiller.prompt.lay_out(hole)
        infiller.prefix.encode(layout.prefix)
        memory, rng = infiller.prefix.memory, Rng(number, infiller.backend.device)
        laid = CanvasLayout(prompt=infiller.prompt, layout=layout, width=width, device=infiller.backend.device)
        read = read_lengths(infiller.backend, memory, laid.lay_canvases(tried, settings.denoise.draws), rng)
        size = len(infiller.prompt.encode(layout.heal + truth))
        right = min(tried, key=lambda length: abs(length - size))
        for length, (gap, _) in read.items():
            if length != right:
                scores[length].append(gap)
    means = {length: sum(found) / len(found) for length, found in scores.items()}
    middle = sum(means.values()) / max(1, len(means))
    # A length that is never wrong, or does not fit the canvas, has the bias of the nearest.
    nearest = {length: min(means, key=lambda known: abs(known - length)) for length in lengths} if means else {}
    return [round(means[nearest[length]] - middle, 4) if nearest else 0.0 for length in lengths]


def main() -> int:
    """Read the command line, fit, write the folder's `midspan.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--heldout", type=Path, required=True, help="JSON lines, each with a file's `text`")
    parser.add_argument("--holes", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    found = parser.parse_args()
    try:
        infiller = load_infiller(str(found.folder), found.device)
        if not isinstance(infiller, Infiller) or infiller.settings.layout.kind != "clamped":
            file, layout = found.folder / "midspan.json", infiller.settings.layout.kind
            fix = 'write {"layout": {"kind": "clamped"}} into it'
            raise CheckpointError(f"{file}: layout.kind {layout} tries no lengths; {fix}")
        size, half = infiller.settings.layout, -(-found.holes // 2)
        bias = fit(infiller, heldout_holes(found.heldout, half, found.seed), size.slots)
        bias += fit(infiller, heldout_spans(found.heldout, half, found.seed), size.block_slots)
    except (CheckpointError, DeviceError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    write_settings(found.folder, hypotheses={"length_bias": bias})
    print(json.dumps({"holes": found.holes, "length_bias": bias}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
