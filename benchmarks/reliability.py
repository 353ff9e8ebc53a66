"""Draws a reliability plot: how far a checkpoint's confidence agrees with the share of right fills on held-out holes.

`.venv/bin/python benchmarks/reliability.py CHECKPOINT/calibration.json [--out FILE.png]`. `calibrate.py` writes the
input for holes that the confidence was *not* fitted on: `{"confidence": [0 to 1, ...], "right": [true or false, ...]}`,
one entry per hole. Holes are sorted by confidence and cut into ten bins of equal count. Each bin is drawn as its share
of right fills over its mean confidence, with a 95 % Wilson interval. Prints one JSON object with the bins and the
expected calibration error: the mean distance between confidence and share right, weighted by count.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

BINS = 10
# The normal quantile that leaves 2.5 % at either end.
Z = 1.959964


@dataclass(frozen=True, kw_only=True)
class Bin:
    """Holes of similar confidence: count, mean confidence, share of right fills and its 95 % interval."""

    count: int
    confidence: float
    right: float
    low: float
    high: float


def read_pairs(file: Path) -> list[tuple[float, bool]]:
    """(confidence, right) of every hole. Raises ValueError for other contents, OSError for a file that is not there."""
    found = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(found, dict) or not {"confidence", "right"} <= found.keys():
        raise ValueError('needs the keys "confidence" and "right"')
    confidence, right = found["confidence"], found["right"]
    if len(confidence) != len(right) or len(right) < BINS:
        raise ValueError(f"needs as many entries in both lists, {BINS} at least")
    if not all(0 <= value <= 1 for value in confidence) or not all(value in (0, 1) for value in right):
        raise ValueError("confidence is from 0 to 1, right is true or false")
    return [(float(value), bool(truth)) for value, truth in zip(confidence, right, strict=True)]


def wilson(hits: int, count: int) -> tuple[float, float]:
    """95 % interval of a binomial share (Wilson 1927), for a count of at least one."""
    share, square = hits / count, Z * Z / count
    middle = share + square / 2
    half = Z * math.sqrt(share * (1 - share) / count + square / (4 * count))
    return max(0.0, (middle - half) / (1 + square)), min(1.0, (middle + half) / (1 + square))


def binned(pairs: Sequence[tuple[float, bool]], bins: int = BINS) -> list[Bin]:
    """Cut at least `bins` pairs into bins of equal count, give or take one, by ascending confidence."""
    # Not sorted by `right` too: that would separate wrong from right among holes of equal confidence.
    ordered = sorted(pairs, key=lambda pair: pair[0])
    edges = [round(index * len(ordered) / bins) for index in range(bins + 1)]
    out = []
    for first, last in pairwise(edges):
        part = ordered[first:last]
        hits = sum(right for _, right in part)
        low, high = wilson(hits, len(part))
        mean = sum(confidence for confidence, _ in part) / len(part)
        out.append(Bin(count=len(part), confidence=mean, right=hits / len(part), low=low, high=high))
    return out


def calibration_error(bins: Sequence[Bin]) -> float:
    """The mean distance between confidence and share right, weighted by count."""
    return sum(b.count * abs(b.confidence - b.right) for b in bins) / sum(b.count for b in bins)


def draw(bins: Sequence[Bin], picture: Path) -> None:
    """Write the plot as PNG; the folder must be there."""
    figure, axes = plt.subplots(figsize=(5, 5))
    axes.plot((0, 1), (0, 1), color="grey", linewidth=1, linestyle="--", label="as confident as right")
    x, y = [b.confidence for b in bins], [b.right for b in bins]
    # By rounding, an interval may miss its share by the last bit.
    errors = [[max(0.0, b.right - b.low) for b in bins], [max(0.0, b.high - b.right) for b in bins]]
    holes = sum(b.count for b in bins)
    axes.errorbar(
        x, y, yerr=errors, marker="o", markersize=4, capsize=3, label=f"{holes} held-out holes, 95 % intervals"
    )
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="mean confidence", ylabel="share right", aspect="equal")
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left")
    figure.tight_layout()
    figure.savefig(picture, dpi=110, format="png")
    plt.close(figure)


def main(argv: list[str]) -> int:
    """Read, bin, draw, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path, metavar="calibration.json")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".png"), metavar="FILE.png")
    arguments = parser.parse_args(argv)
    try:
        bins = binned(read_pairs(arguments.pairs))
        draw(bins, arguments.out)
    except OSError as error:
        sys.stderr.write(f"{error.filename}: {error.strerror}; give a file that can be read and an --out in a folder\n")
        return 1
    except (ValueError, TypeError) as error:
        sys.stderr.write(f"{arguments.pairs}: {error}; give the calibration.json that calibrating wrote\n")
        return 1
    row = {
        "holes": sum(b.count for b in bins),
        "expected_calibration_error": calibration_error(bins),
        "bins": [asdict(b) for b in bins],
    }
    sys.stdout.write(json.dumps(row) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
