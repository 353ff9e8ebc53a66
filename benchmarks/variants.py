"""Tries settings of a checkpoint side by side on held-out holes: `variants.py FOLDER --heldout FILE VARIANT...`

A VARIANT is a JSON object of the groups and keys of `midspan.json` that differ from the folder's, such as
`{"hypotheses": {"beams": 0}}`; `{}` is the folder as it ships. Four keys are this script's own:
- `{"oracle": 0}` gives every canvas the true number of slots, `{"oracle": 2}` two more.
- `{"elsewhere": false}` takes the lines of the package's other files from the holes.
- `{"network": "torch"}` computes the network in plain torch (bf16 where the CPU has units for it), not as it ships.
- `{"warm": true}`, with --divergent, begins each canvas with the rest of the earlier fill in place of noise.

With --divergent the true text of each hole is typed up to the first key that differs from the fill, and the gap behind
that key is filled. Holes whose true text needs more slots than the largest are left out for all variants. One JSON
object goes to stdout: for each variant the share of holes whose best hypothesis is exactly the missing text (`exact`),
the share where any hypothesis is (`any`), the mean denoise steps (`steps_mean`) and the milliseconds of a fill.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from midspan.engine.api import Budget, Hole
from midspan.engine.backends.backend import CanvasBackend
from midspan.engine.backends.choose import fastest_dtype
from midspan.engine.backends.cpu_calls import product_threads
from midspan.engine.backends.gpu import TritonBackend
from midspan.engine.backends.plain import TorchCanvasBackend
from midspan.engine.backends.process import keep_large_blocks
from midspan.engine.cache import Cache
from midspan.engine.canvas import Canvas, Plan, Rng
from midspan.engine.denoise import Denoiser, Step
from midspan.engine.engine import load_infiller
from midspan.engine.hypotheses.task import PATIENT
from midspan.engine.infill import Infiller
from midspan.engine.model import DiffusionGemma, ModelConfig
from midspan.engine.settings import CheckpointSettings
from midspan.engine.training.holes import heldout_holes
from midspan.engine.weights.load import load_weights, read_config, resolve
from midspan.engine.weights.midspan_json import settings_of
from midspan.engine.weights.typed_json import KeyProblem
from midspan.server.text.documents import unchanged
from midspan.server.text.syntax_check import SyntaxJudge

# Keys of a variant that are not keys of `midspan.json`.
OWN = ("oracle", "elsewhere", "network", "warm")


class Gap(NamedTuple):
    """A hole, its true text, and with --divergent the rest of the fill that the typed key differed from."""

    hole: Hole
    truth: str
    left: str = ""


class Warm(Rng):
    """An Rng whose first noise [B, C] begins with given ids."""

    def __init__(self, rng: Rng, ids: list[int]) -> None:
        self._rng, self._ids = rng, ids

    def noise(self, shape: tuple[int, int], vocab_size: int) -> torch.Tensor:
        """Noise; the first call's begins with the ids. See Rng."""
        noise = self._rng.noise(shape, vocab_size)
        size = min(shape[1], len(self._ids))
        noise[:, :size] = torch.tensor(self._ids[:size], dtype=noise.dtype)
        self._ids = []
        return noise

    def uniform(self, count: int) -> torch.Tensor:
        """See Rng."""
        return self._rng.uniform(count)


Bind = Callable[[Cache, Canvas], Denoiser]


class Begun:
    """Bound canvases that start from given ids in place of noise; see denoise.Denoiser."""

    def __init__(self, canvases: Denoiser, ids: list[int]) -> None:
        self._canvases, self._ids = canvases, ids

    def steps(self, plan: Plan, rng: Rng) -> Iterator[Step]:
        """See denoise.Denoiser."""
        return self._canvases.steps(plan, Warm(rng, self._ids))

    def read(self, ids: torch.Tensor) -> torch.Tensor:
        """See denoise.Denoiser."""
        return self._canvases.read(ids)


def begun(bind: Bind, ids: list[int]) -> Bind:
    """A `bind` whose canvases start from these ids in place of noise."""
    return lambda cache, canvas: Begun(bind(cache, canvas), ids)


def behind(gap: Gap, fill: str) -> Gap | None:
    """The gap behind the first key of the true text that differs from a fill; None if none does or nothing is left.

    The rest of the fill begins behind the character, or the word, that the key was typed in place of.
    """
    along, _ = unchanged(gap.truth, fill)
    typed, truth, rest = gap.truth[: along + 1], gap.truth[along + 1 :], fill[along:]
    if along == len(gap.truth) or not rest or not truth.strip():
        return None
    left = re.sub(r"\A\w+", "", rest) if re.match(r"\w", typed[-1]) else rest[1:]
    hole = replace(gap.hole, prefix=gap.hole.prefix + typed, kind="rest_of_line")
    return Gap(hole, truth, left) if left.strip() else None


def divergent(infiller: Infiller, gaps: list[Gap]) -> Iterator[Gap]:
    """For each gap, the gap behind the first key that differs from the shipped checkpoint's fill."""
    for number, gap in enumerate(gaps):
        out = infiller.infill(gap.hole, Budget(seed=number), PATIENT)
        fill = infiller.prompt.text(list(out.ranked[0].ids), out.layout) if out.ranked else ""
        if (found := behind(gap, fill)) is not None:
            yield found


def tokens_needed(infiller: Infiller, hole: Hole, truth: str) -> int:
    """How many slots the missing text and the healed text before it need."""
    heal = infiller.prompt.lay_out(hole).heal
    return max(1, len(infiller.prompt.encode(heal + truth)))


def changed(settings: CheckpointSettings, groups: dict[str, Any]) -> CheckpointSettings:
    """The settings with other values in some groups; checked as those of a `midspan.json`."""
    values = json.loads(json.dumps(asdict(settings)))
    merged = {key: value | groups.get(key, {}) if isinstance(value, dict) else value for key, value in values.items()}
    return settings_of({**groups, **merged})


def try_variant(infiller: Infiller, variant: dict[str, Any], gaps: list[Gap]) -> dict[str, Any]:
    """The figures of one variant; the infiller's own settings are back afterwards."""
    shipped, bind, steps = infiller.settings, infiller.backend.bind, 0
    slack, elsewhere, warm = variant.get("oracle"), variant.get("elsewhere", True), variant.get("warm", False)
    tried = changed(shipped, {key: value for key, value in variant.items() if key not in OWN})
    exact, found, times = 0, 0, []
    for number, (hole, truth, left) in enumerate(gaps):
        if slack is not None:
            slots = (tokens_needed(infiller, hole, truth) + slack,)
            tried = replace(tried, layout=replace(tried.layout, slots=slots))
        infiller.settings = tried
        hole = hole if elsewhere else replace(hole, other_lines=())
        if warm:
            ids = infiller.prompt.encode(infiller.prompt.lay_out(hole).heal + left)
            infiller.backend.bind = begun(bind, ids)  # type: ignore[method-assign, assignment]
        began = time.perf_counter()
        # More than any checkpoint's own steps, so that theirs count.
        out = infiller.infill(hole, Budget(seed=number, steps=99), PATIENT)
        times.append(1000 * (time.perf_counter() - began))
        steps += out.steps
        texts = [infiller.prompt.text(list(one.ids), out.layout).rstrip() for one in out.ranked]
        exact += bool(texts) and texts[0] == truth.rstrip()
        found += truth.rstrip() in texts
    infiller.settings = shipped
    infiller.backend.bind = bind  # type: ignore[method-assign]
    times.sort()
    share = {"exact": exact / len(gaps), "any": found / len(gaps), "steps_mean": steps / len(gaps)}
    latency = {"p50": round(times[len(times) // 2], 1), "p95": round(times[int(0.95 * len(times))], 1)}
    return {"variant": variant, **share, "latency_ms": latency}


def with_network(infiller: Infiller, folder: Path, name: str | None) -> Infiller:
    """The same checkpoint with its network computed by plain torch ("torch"), or as it ships (None)."""
    if name is None:
        # The engine's worker does the same.
        torch.set_num_threads(1 if infiller.backend.describe().own_threads else product_threads())
        return infiller
    torch.set_num_threads(product_threads())
    if name != "torch":
        sys.exit(f"network {name}: this version knows torch")
    plain, place = DiffusionGemma(ModelConfig.from_json(read_config(folder))).eval(), torch.device("cpu")
    load_weights(plain, folder, fastest_dtype(place), place)
    backend: CanvasBackend = TorchCanvasBackend(plain)
    other = Infiller(backend, infiller.prompt, infiller.settings)
    other.judge = infiller.judge
    return other


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
    if isinstance(infiller.backend, TritonBackend) and any(variant.get("warm") for variant in found.variants):
        sys.exit("warm: captured steps draw their own noise; try it where the network is not captured")
    infiller.judge = SyntaxJudge()
    gaps = [Gap(hole, truth) for hole, truth in heldout_holes(found.heldout, found.holes, found.seed)]
    if found.divergent:
        gaps = list(divergent(infiller, gaps))
    longest = max(infiller.settings.layout.slots)
    gaps = [gap for gap in gaps if tokens_needed(infiller, gap.hole, gap.truth) <= longest]
    rows = []
    for variant in found.variants:
        tried = with_network(infiller, resolve(found.folder), variant.get("network"))
        try:
            rows.append(try_variant(tried, variant, gaps))
        except KeyProblem as problem:
            sys.exit(f"{json.dumps(variant)}: {problem}")
        sys.stderr.write(json.dumps(rows[-1]) + "\n")
    row = {"checkpoint": found.folder, "holes": len(gaps), "seed": found.seed, "divergent": found.divergent}
    row["variants"] = rows
    sys.stdout.write(json.dumps(row) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
