"""Average the weights at the ends of several learning-rate decays (arXiv:1803.05407).

`python -m midspan.engine.training.mean runs/embedded OUT --corpus runs/corpus --with FOLDER ...`: OUT becomes a run
whose average is the mean of the average of `runs/embedded` and the weights of the checkpoints in the folders, which
were packaged at the ends of earlier decays. All weigh the same, or the run `--own` (0 to 1) and the others the rest. A
row of its log has its held-out losses and the steps that are in it. package.py makes a checkpoint of it; training goes
on from the run itself.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from midspan.engine.api import CheckpointError
from midspan.engine.model import DiffusionGemma, ModelConfig
from midspan.engine.training.plot import plot_losses
from midspan.engine.training.run import Recipe, Run
from midspan.engine.weights.load import load_weights


def mean(source: Path, corpus: Path, out: Path, folders: Sequence[Path], own: float | None = None) -> None:
    """Write the run folder `out`; `own` is the run's own part of the mean, the others share the rest.

    Raises CheckpointError for a checkpoint of other sizes, OSError for a missing folder or an `out` that exists.
    """
    steps = [_last(folder, "step") for folder in (*folders, source)]
    config = ModelConfig.from_json(json.loads((source / "config.json").read_text()))
    others = [_read(folder, config) for folder in folders]
    shutil.copytree(source, out)
    recipe = Recipe(**_last(source, "recipe"))
    # Each process measures with its share of the batch.
    run = Run(replace(recipe, batch=recipe.batch // _last(source, "processes")), corpus, out, compiled=False)
    run.resume()
    own = 1 / len(steps) if own is None else own
    average_with(run, others, own)
    row = {**asdict(run.progress), "phase": run.phase, "mean_of_steps": steps, "own": own, **run.measure()}
    with (out / "log.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
    run.save()
    plot_losses(out / "log.jsonl", out / "loss.png")


@torch.no_grad()
def average_with(run: Run, others: Sequence[DiffusionGemma], own: float) -> None:
    """Make a run's average `own` parts of itself and equal parts of the other networks."""
    for average in run.average.values():
        average.mul_(own)
    for other in others:
        for name, theirs in other.named_parameters():
            run.average[name].add_(theirs, alpha=(1 - own) / len(others))


def _read(folder: Path, config: ModelConfig) -> DiffusionGemma:
    model = DiffusionGemma(config)
    load_weights(model, folder, torch.float32, torch.device("cpu"))
    return model


def _last(folder: Path, name: str) -> Any:
    """The last value of a key in the log of a run or of a checkpoint."""
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return next(row[name] for row in reversed(rows) if name in row)


def main() -> None:
    """Read the command line and write the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--with", type=Path, nargs="+", required=True, dest="folders", help="of the same sizes")
    parser.add_argument("--own", type=float, help="the run's own part, 0 to 1")
    arguments = parser.parse_args()
    try:
        mean(arguments.run, arguments.corpus, arguments.out, arguments.folders, arguments.own)
    except (CheckpointError, OSError) as error:
        sys.exit(f"mean: {error}")


if __name__ == "__main__":
    main()
