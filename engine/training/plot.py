"""Draws the loss curves of a run."""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt


def plot_losses(log: Path, picture: Path) -> None:
    """Draw every loss in `log` (JSON rows) over the tokens seen."""
    rows = [row for row in map(json.loads, log.read_text().splitlines()) if "step" in row]
    figure, axes = plt.subplots(figsize=(8, 4.5))
    for name in ("causal", "heldout_causal", "slot", "heldout_slot", "middle", "heldout_middle"):
        points = [(row["tokens"] / 1e6, row[name]) for row in rows if name in row]
        if points:
            axes.plot(*zip(*points, strict=True), label=name.replace("_", " "), marker=".", markersize=3)
    axes.set_xlabel("million tokens")
    axes.set_ylabel("cross-entropy, nats")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(picture, dpi=110)
    plt.close(figure)
