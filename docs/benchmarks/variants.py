"""Tries settings of a checkpoint side by side on held-out holes: `variants.py FOLDER --heldout FILE VARIANT...`

A VARIANT is a JSON object of `midspan.json` keys that differ from the folder's; `{}` is the folder as it ships. The key
`oracle` is this script's own: `{"oracle": 0}` gives every canvas the true number of slots, `{"oracle": 2}` two more.
So is `elsewhere`: with `{"elsewhere": false}` holes come without lines of the package's other files. And `network`:
"torch" computes the network in plain torch (bf16 where the CPU has units for it), "avx512", "avx2" and their like in
that build of the CPU's own kernels; without it what ships computes. (In older rows "float32" and "int8" are ONNX
Runtime's.)
With --divergent the holes are those behind a key that went against the fill before: the true text is typed up to there.
Then `{"warm": true}` begins each canvas with what is left of that fill, in place of noise.
Holes whose true text needs more slots than the largest are left out for all. Each hole is filled by every variant in
turn, begun with another one each time, so that what else the machine does slows all alike. One JSON object goes to
stdout: for each variant the share of holes whose best hypothesis is exactly the missing text (`exact`), the share where
any is (`any`), the denoise steps taken (`steps_mean`) and the milliseconds of a fill; beside the first variant, the
share of holes that get the same best fill (`same`) and the median over holes of how many times longer it took
(`times`), or how much more of the processors' time (`cpu_times`), in which others on the machine count for less.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from midspan.engine.allocator import keep_large_blocks
from midspan.engine.api import Budget, Hole
from midspan.engine.cache import Cache
from midspan.engine.canvas import Canvas, Draws, Plan
from midspan.engine.captured import CapturedLoop
from midspan.engine.denoise import Step
from midspan.engine.engine import load_infiller
from midspan.engine.infill import PATIENT, Infiller
from midspan.engine.loop import Loop
from midspan.engine.model import DiffusionGemma, product_threads
from midspan.engine.native_gemma import NativeGemma
from midspan.engine.network import fastest_dtype
from midspan.engine.settings import Ranking
from midspan.engine.training.holes import heldout_holes
from midspan.engine.weights import load_weights, resolve
from midspan.kernels import native
from midspan.server.documents import unchanged
from midspan.server.judge import SyntaxJudge


class Gap(NamedTuple):
    """A hole, its true text, and what is left of the fill that a key before it went against."""

    hole: Hole
    truth: str
    left: str = ""


class Warm(Draws):
    """The draws of a run whose canvases [B, C] begin with these ids, and with noise behind them."""

    def __init__(self, draws: Draws, ids: list[int]) -> None:
        self._draws, self._ids = draws, ids

    def noise(self, shape: tuple[int, int], vocab_size: int) -> torch.Tensor:
        """The first time the ids; see Draws."""
        noise = self._draws.noise(shape, vocab_size)
        size = min(shape[1], len(self._ids))
        noise[:, :size] = torch.tensor(self._ids[:size], dtype=noise.dtype)
        self._ids = []
        return noise

    def uniform(self, count: int) -> torch.Tensor:
        """See Draws."""
        return self._draws.uniform(count)


def begun(loop: Loop, ids: list[int]) -> Loop:
    """The loop, its canvases begun with these ids."""

    def run(cache: Cache, canvas: Canvas, plan: Plan, draws: Draws, later_rows: int | None) -> Iterator[Step]:
        return loop(cache, canvas, plan, Warm(draws, ids), later_rows)

    return run


def behind(gap: Gap, fill: str) -> Gap | None:
    """The gap behind the first key of the true text that goes against a fill; None where none does or nothing is left.

    What is left of the fill begins behind the character, or behind the word, that stood where the key was typed.
    """
    along, _ = unchanged(gap.truth, fill)
    typed, truth, rest = gap.truth[: along + 1], gap.truth[along + 1 :], fill[along:]
    if along == len(gap.truth) or not rest or not truth.strip():
        return None
    left = re.sub(r"\A\w+", "", rest) if re.match(r"\w", typed[-1]) else rest[1:]
    hole = replace(gap.hole, prefix=gap.hole.prefix + typed, kind="rest_of_line")
    return Gap(hole, truth, left) if left.strip() else None


def divergent(infiller: Infiller, gaps: list[Gap]) -> Iterator[Gap]:
    """The gaps behind a key that goes against what ships fills in each."""
    for number, gap in enumerate(gaps):
        out = infiller.infill(gap.hole, Budget(seed=number), PATIENT)
        fill = infiller.prompt.text(list(out.ranked[0].ids), out.layout) if out.ranked else ""
        if (found := behind(gap, fill)) is not None:
            yield found


def tokens_needed(infiller: Infiller, hole: Hole, truth: str) -> int:
    """Slots that hold the missing text and the healed text before it."""
    heal = infiller.prompt.lay_out(hole).heal
    return max(1, len(infiller.prompt.encode(heal + truth)))


class Trial:
    """One variant on its way through the gaps, with an infiller of its own."""

    def __init__(self, variant: dict[str, Any], infiller: Infiller) -> None:
        self._variant, self._infiller, self._loop = variant, infiller, infiller.loop
        own = ("oracle", "elsewhere", "network", "warm")
        self._own = {key: value for key, value in variant.items() if key in own}
        self._changes: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in variant.items() if key not in own
        }
        if "ranking" in variant:
            self._changes["ranking"] = Ranking(**variant["ranking"])
        self._shipped = infiller.settings
        self._threads = 1 if infiller.model.own_threads else product_threads()
        self._best: list[str | None] = []
        self._times: list[float] = []
        self._cpu: list[float] = []
        self._steps = self._exact = self._any = 0

    def fill(self, gap: Gap, seed: int) -> None:
        """Fill one gap."""
        infiller, changes, hole = self._infiller, self._changes, gap.hole
        if (slack := self._own.get("oracle")) is not None:
            changes = changes | {"slots": (tokens_needed(infiller, hole, gap.truth) + slack,)}
        infiller.settings = replace(self._shipped, **changes)
        if not self._own.get("elsewhere", True):
            hole = replace(hole, elsewhere=())
        if self._own.get("warm"):
            ids = infiller.prompt.encode(infiller.prompt.lay_out(hole).heal + gap.left)
            infiller.loop = begun(self._loop, ids)
        # As the engine's worker does.
        torch.set_num_threads(self._threads)
        began, used = time.perf_counter(), time.process_time()
        # More than any checkpoint's own steps, so that theirs count.
        out = infiller.infill(hole, Budget(seed=seed, steps=99), PATIENT)
        self._cpu.append(1000 * (time.process_time() - used))
        self._times.append(1000 * (time.perf_counter() - began))
        texts = [infiller.prompt.text(list(one.ids), out.layout).rstrip() for one in out.ranked]
        self._best.append(texts[0] if texts else None)
        self._steps += out.steps
        self._exact += bool(texts) and texts[0] == gap.truth.rstrip()
        self._any += gap.truth.rstrip() in texts

    def row(self, first: Trial) -> dict[str, Any]:
        """The figures, beside those of another variant on the same gaps."""
        count, times = len(self._times), sorted(self._times)
        pairs = zip(self._times, first._times, strict=True), zip(self._cpu, first._cpu, strict=True)
        longer, more = (sorted(mine / theirs for mine, theirs in each)[count // 2] for each in pairs)
        same = sum(mine == theirs for mine, theirs in zip(self._best, first._best, strict=True))
        return {
            "variant": self._variant,
            "exact": self._exact / count,
            "any": self._any / count,
            "steps_mean": self._steps / count,
            "latency_ms": {"p50": round(times[count // 2], 1), "p95": round(times[int(0.95 * count)], 1)},
            "same": same / count,
            "cpu_ms": round(sorted(self._cpu)[count // 2], 1),
            "times": round(longer, 3),
            "cpu_times": round(more, 3),
        }


def with_network(infiller: Infiller, folder: Path, name: str | None) -> Infiller:
    """Another infiller of the checkpoint, its network computed in a named way; as it ships for None."""
    model = infiller.model
    if name is not None:
        model = DiffusionGemma(infiller.model.config).eval()
        place = torch.device("cpu")
        load_weights(model, folder, fastest_dtype(place) if name == "torch" else torch.float32, place)
        if name != "torch":
            model = NativeGemma.of(model, build(name))
    other = Infiller(model, infiller.prompt, infiller.settings)
    other.judge = infiller.judge
    return other


def build(name: str) -> native.Library:
    """A build of the CPU's own kernels."""
    fitting = {build.name: build for build in native.fitting()}
    if name not in fitting or (found := native.opened(fitting[name])) is None:
        sys.exit(f"network {name}: not built, or not for this CPU, which can run torch, {', '.join(fitting)}")
    return found


def main(argv: list[str]) -> int:
    """Read the command line, try every variant, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--heldout", type=Path, required=True)
    parser.add_argument("--holes", type=int, default=300)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--divergent", action="store_true")
    parser.add_argument("variants", nargs="+", type=json.loads)
    found = parser.parse_args(argv)
    keep_large_blocks()
    infiller = load_infiller(found.folder, "auto")
    if not isinstance(infiller, Infiller):
        sys.exit(f"{found.folder}: its layout has no canvases; give a checkpoint of layout filler")
    if isinstance(infiller.loop, CapturedLoop) and any(variant.get("warm") for variant in found.variants):
        sys.exit("warm: captured steps draw their own noise; try it where the network is not captured")
    infiller.judge = SyntaxJudge()
    folder = resolve(found.folder)
    trials = [Trial(variant, with_network(infiller, folder, variant.get("network"))) for variant in found.variants]
    gaps = [Gap(hole, truth) for hole, truth in heldout_holes(found.heldout, found.holes, found.seed)]
    if found.divergent:
        gaps = list(divergent(infiller, gaps))
    longest = max(infiller.settings.slots)
    gaps = [gap for gap in gaps if tokens_needed(infiller, gap.hole, gap.truth) <= longest]
    for number, gap in enumerate(gaps):
        for turn in range(len(trials)):
            trials[(number + turn) % len(trials)].fill(gap, seed=number)
    row = {"checkpoint": found.folder, "holes": len(gaps), "seed": found.seed, "divergent": found.divergent}
    row["threads"] = product_threads()
    row["variants"] = [trial.row(trials[0]) for trial in trials]
    sys.stdout.write(json.dumps(row) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
