"""Tries settings of a checkpoint side by side on held-out holes: `variants.py FOLDER --heldout FILE VARIANT...`

A VARIANT is a JSON object of `midspan.json` keys that differ from the folder's; `{}` is the folder as it ships. The key
`oracle` is this script's own: `{"oracle": 0}` gives every canvas the true number of slots, `{"oracle": 2}` two more.
So is `elsewhere`: with `{"elsewhere": false}` holes come without lines of the package's other files. And `network`:
"torch" computes the network in plain torch (bf16 where the CPU has units for it), "float32" and "int8" in ONNX Runtime.
Holes whose true text needs more slots than the largest are left out for all. One JSON object goes to stdout: for each
variant the share of holes whose best hypothesis is exactly the missing text (`exact`), the share where any is (`any`),
and the milliseconds of a fill.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from midspan.engine.allocator import keep_large_blocks
from midspan.engine.api import Budget, Hole
from midspan.engine.engine import load_infiller
from midspan.engine.infill import PATIENT, Infiller
from midspan.engine.model import DiffusionGemma
from midspan.engine.network import fastest_dtype
from midspan.engine.onnx_gemma import THREADS, OnnxGemma
from midspan.engine.settings import Ranking
from midspan.engine.training.holes import heldout_holes
from midspan.engine.weights import load_weights, resolve
from midspan.server.judge import SyntaxJudge


def tokens_needed(infiller: Infiller, hole: Hole, truth: str) -> int:
    """Slots that hold the missing text and the healed text before it."""
    heal = infiller.prompt.lay_out(hole).heal
    return max(1, len(infiller.prompt.encode(heal + truth)))


def try_variant(infiller: Infiller, variant: dict[str, Any], holes: list[tuple[Hole, str]]) -> dict[str, Any]:
    """The figures of one variant; the infiller's own settings are back afterwards."""
    shipped = infiller.settings
    changes = {key: tuple(value) if isinstance(value, list) else value for key, value in variant.items()}
    slack, elsewhere, _ = changes.pop("oracle", None), changes.pop("elsewhere", True), changes.pop("network", None)
    if "ranking" in changes:
        changes["ranking"] = Ranking(**changes["ranking"])
    exact, found, times = 0, 0, []
    for number, (hole, truth) in enumerate(holes):
        if slack is not None:
            changes["slots"] = (tokens_needed(infiller, hole, truth) + slack,)
        infiller.settings = replace(shipped, **changes)
        hole = hole if elsewhere else replace(hole, elsewhere=())
        began = time.perf_counter()
        # More than any checkpoint's own steps, so that theirs count.
        out = infiller.infill(hole, Budget(seed=number, steps=99), PATIENT)
        times.append(1000 * (time.perf_counter() - began))
        texts = [infiller.prompt.text(list(one.ids), out.layout).rstrip() for one in out.ranked]
        exact += bool(texts) and texts[0] == truth.rstrip()
        found += truth.rstrip() in texts
    infiller.settings = shipped
    times.sort()
    share = {"exact": exact / len(holes), "any": found / len(holes)}
    latency = {"p50": round(times[len(times) // 2], 1), "p95": round(times[int(0.95 * len(times))], 1)}
    return {"variant": variant, **share, "latency_ms": latency}


def with_network(infiller: Infiller, folder: Path, name: str | None) -> Infiller:
    """The same checkpoint, its network computed in a named way; as it ships for None."""
    if name is None:
        # As the engine's worker does.
        torch.set_num_threads(1 if infiller.model.own_threads else THREADS)
        return infiller
    torch.set_num_threads(THREADS)
    plain = DiffusionGemma(infiller.model.config).eval()
    place = torch.device("cpu")
    load_weights(plain, folder, fastest_dtype(place) if name == "torch" else torch.float32, place)
    if name != "torch":
        torch.set_num_threads(1)
        plain = OnnxGemma.of(plain, int8=name == "int8")
    other = Infiller(plain, infiller.prompt, infiller.settings)
    other.judge = infiller.judge
    return other


def main() -> int:
    """Read the command line, try every variant, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--heldout", type=Path, required=True)
    parser.add_argument("--holes", type=int, default=300)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("variants", nargs="+", type=json.loads)
    found = parser.parse_args()
    keep_large_blocks()
    infiller = load_infiller(found.folder, "auto")
    if not isinstance(infiller, Infiller):
        sys.exit(f"{found.folder}: its layout has no canvases; give a checkpoint of layout filler")
    infiller.judge = SyntaxJudge()
    longest = max(infiller.settings.slots)
    holes = [
        (hole, truth)
        for hole, truth in heldout_holes(found.heldout, found.holes, found.seed)
        if tokens_needed(infiller, hole, truth) <= longest
    ]
    rows = []
    for variant in found.variants:
        tried = with_network(infiller, resolve(found.folder), variant.get("network"))
        rows.append(try_variant(tried, variant, holes))
        sys.stderr.write(json.dumps(rows[-1]) + "\n")
    row = {"checkpoint": found.folder, "holes": len(holes), "seed": found.seed, "variants": rows}
    sys.stdout.write(json.dumps(row) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
