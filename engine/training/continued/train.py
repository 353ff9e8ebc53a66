"""Continue the base with fill-in-the-middle: one command, which goes on where it stood when it is run again.

`python -m midspan.engine.training.continued.train --base runs/base --corpus runs/sources --out runs/continued
--minutes 1200` counts the process's own CPU time, so that pauses cost nothing. Every few minutes `state.safetensors` is
written; `log.jsonl` has losses, saves, pauses and restarts; `checkpoint/` is the network in Hugging Face's format.
A larger `--minutes` goes on from the end. SIGTERM and SIGINT save and end.
"""

from __future__ import annotations

import argparse
import json
import signal
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from midspan.engine.backends.process import keep_large_blocks
from midspan.engine.training.continued.heldout import gap_losses
from midspan.engine.training.continued.layers import compiled
from midspan.engine.training.continued.recipes import Recipe
from midspan.engine.training.continued.run import Run, recipe_row
from midspan.engine.training.continued.texts import Corpus
from midspan.engine.training.precision import compute_dtype

LOG_STEPS = 10
DEFAULT = Recipe()
# A step that took so much longer than its CPU time was paused, or the machine was busy.
PAUSE_S = 60.0


class Log:
    """Rows of `log.jsonl`, each with the time."""

    def __init__(self, out: Path) -> None:
        self._file = out / "log.jsonl"

    def write(self, **row: Any) -> None:
        """Add a row and print it."""
        line = json.dumps({"at": datetime.now(UTC).isoformat(timespec="seconds"), **row})
        with self._file.open("a", encoding="utf-8") as log:
            log.write(line + "\n")
        print(line, flush=True)


class Stop:
    """Set by SIGTERM and SIGINT."""

    def __init__(self) -> None:
        self.asked = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True


def train(run: Run, heldout: Corpus, log: Log, stop: Stop) -> None:
    """Steps until the minutes are spent or someone stops them."""
    recipe, progress = run.recipe, run.progress
    saved = measured = progress.cpu_seconds
    means = Means()
    while run.fraction < 1.0 and not stop.asked:
        wall, before = time.time(), progress.cpu_seconds
        means.add(run.step())
        idle = time.time() - wall - (progress.cpu_seconds - before)
        if idle > PAUSE_S:
            log.write(event="paused", seconds=round(idle), step=progress.step)
        if progress.step % LOG_STEPS == 0:
            log.write(**_standing(run), **means.take())
        if progress.cpu_seconds - saved > 60 * recipe.save_minutes:
            run.save()
            saved = progress.cpu_seconds
        if progress.cpu_seconds - measured > 60 * recipe.measure_minutes:
            log.write(event="measured", **_standing(run), **measure(run, heldout))
            measured = progress.cpu_seconds
    if run.fraction >= 1.0:
        log.write(event="measured", **_standing(run), **measure(run, heldout))
    run.save()
    run.export(run.out / "checkpoint")
    log.write(event="stopped" if stop.asked else "finished", **_standing(run))


def measure(run: Run, heldout: Corpus) -> dict[str, float]:
    """Held-out nats a byte by language, on the same gaps every time."""
    found = gap_losses(run.network, run.builder(), heldout, run.recipe.measure_rows)
    run.count_time()
    return {f"heldout_{language}_byte": nats for language, nats in found.items()}


class Means:
    """Means of what several steps found."""

    def __init__(self) -> None:
        self._found: dict[str, list[float]] = {}

    def add(self, row: dict[str, float]) -> None:
        """Remember a step's row; not every step has every language."""
        for name, value in row.items():
            self._found.setdefault(name, []).append(value)

    def take(self) -> dict[str, float]:
        """The means, which are then forgotten."""
        means = {name: round(sum(values) / len(values), 4) for name, values in self._found.items()}
        self._found.clear()
        return means


def _standing(run: Run) -> dict[str, Any]:
    progress = run.progress
    rate = progress.tokens / max(progress.cpu_seconds, 1e-9)
    return {
        "step": progress.step,
        "cpu_minutes": round(progress.cpu_seconds / 60, 2),
        "tokens": progress.tokens,
        "learnt": progress.learnt,
        "tokens_a_cpu_second": round(rate, 1),
        "row_tokens": run.sizes.tokens,
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--base", type=Path, required=True, help="a checkpoint folder: the base, or a smaller one of it"
    )
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=DEFAULT.minutes, help="of the process's own CPU time")
    parser.add_argument("--rate", type=float, default=DEFAULT.rate)
    parser.add_argument("--decay-share", type=float, default=DEFAULT.decay_share)
    parser.add_argument("--seed", type=int, default=DEFAULT.seed)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--eager", action="store_true", help="without torch.compile")
    return parser.parse_args()


def main() -> None:
    """Read the command line, resume or begin, train."""
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    keep_large_blocks()
    chosen = {name: getattr(arguments, name) for name in ("minutes", "rate", "decay_share", "seed")}
    recipe = replace(DEFAULT, **chosen)
    arguments.out.mkdir(parents=True, exist_ok=True)
    log, stop = Log(arguments.out), Stop()
    corpus = Corpus.read(arguments.corpus / "train.jsonl")
    run = Run(recipe, arguments.base, corpus, arguments.out)
    if not arguments.eager:
        run.layers = compiled()
    event = "resumed" if run.resume() else "began"
    machine = {"threads": arguments.threads, "torch": torch.__version__, "base": arguments.base.name}
    machine["computes_in"] = str(compute_dtype("cpu")).removeprefix("torch.")
    log.write(event=event, **machine, recipe=recipe_row(recipe), **_standing(run))
    train(run, Corpus.read(arguments.corpus / "heldout.jsonl"), log, stop)


if __name__ == "__main__":
    main()
