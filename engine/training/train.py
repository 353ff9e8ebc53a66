"""Trains the embedded model with one command: a plain autoregressive phase, then canvases on the same weights.

`python -m midspan.engine.training.train --corpus runs/corpus --out runs/embedded --minutes 120`; the same command again
resumes. Progress, rate and time left go to stderr, one JSON row a measurement to `log.jsonl`, a picture to `loss.png`.
With `--weights FOLDER` a new run goes on from a packaged checkpoint of the same shape, on a corpus that corpus.py wrote
with its `--tokenizer`; `--minutes` then counts those that it was trained for too.
Under `torchrun --nproc-per-node 2 -m ...` each process takes half of the batch on one thread. They wait for each other
once a step, not once an operation, which is faster on two busy cores.
`--objective fim` trains the autoregressive twin: the same network, rates and budget, with documents in
fill-in-the-middle order in place of canvases.
`--preset gpu --device cuda` is the same on one large GPU: 30M parameters, larger batches, data drawn by workers.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from midspan.engine.api import CheckpointError
from midspan.engine.backends.process import keep_large_blocks
from midspan.engine.training.plot import plot_losses
from midspan.engine.training.run import OBJECTIVES, Recipe, Run

PRESETS: dict[str, dict[str, Any]] = {
    "cpu": {},
    "gpu": {"hidden": 512, "layers": 7, "intermediate": 1536, "minutes": 25.0, "batch": 256, "causal_share": 0.2},
}


def _log(out: Path, row: dict[str, Any]) -> None:
    with (out / "log.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")


def train(run: Run) -> None:
    """Step until the budget is spent; measure, save and draw at intervals."""
    recipe, smooth = run.recipe, dict[str, float]()
    clock, tokens = time.perf_counter(), run.progress.tokens
    while run.fraction < 1.0:
        losses = run.step()
        progress = run.progress
        if progress.step % 10 == 0:
            # Only here, as every read makes the device wait for the host.
            for name, value in losses.items():
                smooth[name] = float(value) if name not in smooth else 0.7 * smooth[name] + 0.3 * float(value)
            rate = (progress.tokens - tokens) / (time.perf_counter() - clock)
            clock, tokens = time.perf_counter(), progress.tokens
            if run.worker == 0:
                _tell(run, smooth, rate)
        if progress.step % recipe.measure_every == 0 or run.fraction >= 1.0:
            measured = run.measure()
            if run.worker == 0:
                _log(run.out, {**asdict(progress), "phase": run.phase, **smooth, **measured})
                run.save()
                plot_losses(run.out / "log.jsonl", run.out / "loss.png")


def _tell(run: Run, losses: dict[str, float], rate: float) -> None:
    """The live line: losses, tokens a second, time left."""
    progress, left = run.progress, run.recipe.minutes - run.progress.seconds / 60
    shown = " ".join(f"{name} {value:.3f}" for name, value in losses.items())
    print(
        f"{run.phase} step {progress.step} {shown} {progress.tokens / 1e6:.1f}M tokens {rate:.0f} tokens/s "
        f"{left:.1f} min left",
        file=sys.stderr,
        flush=True,
    )


def parse() -> argparse.Namespace:
    """The command line; every number of the recipe is an option, and a preset changes the defaults."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--weights", type=Path, help="a packaged checkpoint that a new run goes on from")
    parser.add_argument("--preset", choices=sorted(PRESETS), default="cpu")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--loaders", type=int, default=0, help="processes that draw data; 12 keep one H200 busy")
    parser.add_argument("--eager", action="store_true", help="do not compile; for tiny trials")
    kinds = {"int": int, "float": float, "str": str}
    for field in fields(Recipe):
        choices = OBJECTIVES if field.name == "objective" else None
        parser.add_argument("--" + field.name.replace("_", "-"), type=kinds[str(field.type)], choices=choices)
    return parser.parse_args()


def main() -> None:
    """Read the command line, train or resume."""
    arguments = parse()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        sys.exit("train: no CUDA device is visible; use --device cpu")
    torch.set_num_threads(arguments.threads)
    keep_large_blocks()
    if "TORCHELASTIC_RUN_ID" in os.environ:
        dist.init_process_group("gloo")
    given = {field.name: getattr(arguments, field.name) for field in fields(Recipe)}
    chosen = PRESETS[arguments.preset] | {name: value for name, value in given.items() if value is not None}
    recipe = Recipe(**chosen)
    run = Run(
        recipe,
        arguments.corpus,
        arguments.out,
        compiled=not arguments.eager,
        device=arguments.device,
        loaders=arguments.loaders,
    )
    resumed = (arguments.out / "state.pt").exists()
    if resumed:
        run.resume()
    elif arguments.weights is not None:
        try:
            run.go_on_from(arguments.weights)
        except (CheckpointError, OSError) as error:
            sys.exit(f"train: {error}")
    if run.worker == 0:
        machine = {"device": arguments.device, "threads": arguments.threads, "processes": run.workers}
        row = {"recipe": asdict(recipe), **machine, "torch": torch.__version__, "from_step": run.progress.step}
        _log(arguments.out, row)
    train(run)


if __name__ == "__main__":
    main()
