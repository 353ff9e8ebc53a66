"""Times midspan's engine against transformers' own `generate` on the same checkpoint, in one process.

`.venv/bin/python benchmarks/versus_transformers.py --files runs/corpus/heldout.jsonl [--gaps N] [--rounds R]
[--threads T] [--checkpoint C] [--device D] [--experts E]`; the last line is a JSON row, which
`record.py versus_transformers.py ...` adds to `rows.jsonl`.

The checkpoint is exported with `engine/weights/export.py` in torch's fastest data type (bf16 where there are units for
it) and opened with transformers: SDPA attention, its own choice of cache, and its own choice of expert implementation
unless --experts names one.
Both sides run on the same device with the same number of threads. They get the same prefix tokens of every gap, cut to
what the checkpoint sees. Calls alternate, and the side that goes first changes from round to round. `generate` starts
anew each time, and midspan's prefix cache is emptied before each fill.

midspan is timed in two shapes, each also as `_next_key`: with the prefix cache that the fill of the gap one key earlier
left, which is not timed, as while somebody types. `generate` always does the same: one canvas of `canvas_length` free
tokens behind the prefix, with logits, softmax, sampling and self-conditioning over the whole vocabulary for each token.
- shipped: one fill as the server requests it: the prefix encoded, a batch of canvases for the checkpoint's gap lengths
  and draws with the text after the gap frozen in them, head and sampling for free rows only, beams and similar lines,
  and all hypotheses ranked by causal passes.
- one_canvas: midspan too denoises one canvas of `canvas_length` free tokens without other hypotheses; it also gets a
  causal pass.

Steps: midspan stops when its canvases have settled. `generate` gets as many steps as midspan took for that gap, and its
own stop rule is out of reach; its steps are counted and must be that many.
Times are milliseconds per call. `slots` and `draws` describe midspan's canvases. `ratio` is the median of transformers'
calls over the median of midspan's; `ratio_quartiles` are of the ratios of pairs of calls.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import DiffusionGemmaForBlockDiffusion
from transformers.models.diffusion_gemma.generation_diffusion_gemma import (
    DiffusionGemmaGenerationConfig,
    EntropyBoundSamplerConfig,
)
from transformers.utils.logging import disable_progress_bar

from midspan.engine.api import Budget, CheckpointError, DeviceError, Hole
from midspan.engine.backends.choose import fastest_dtype
from midspan.engine.backends.process import keep_large_blocks
from midspan.engine.engine import load_infiller
from midspan.engine.hypotheses.task import PATIENT
from midspan.engine.infill import Infiller
from midspan.engine.settings import CheckpointSettings
from midspan.engine.training.holes import heldout_holes
from midspan.engine.weights.export import export


@dataclass
class Ours:
    """midspan's engine in one shape; its prefix cache is empty before a fill or, for `next_key`, of one key earlier."""

    infiller: Infiller
    next_key: bool = False

    def come_to(self, hole: Hole) -> None:
        """Bring the prefix cache into the state before this hole's fill."""
        self.infiller.reset()
        if self.next_key:
            self.fill(replace(hole, prefix=hole.prefix[:-1]))

    def fill(self, hole: Hole) -> int:
        """Fill a hole; returns the denoise steps that it took."""
        return self.infiller.infill(hole, Budget(), PATIENT).steps


class Theirs:
    """transformers on the exported checkpoint; `forwards` counts its denoise steps."""

    def __init__(self, folder: Path, ours: Infiller, dtype: torch.dtype, experts: str | None) -> None:
        disable_progress_bar()
        model = DiffusionGemmaForBlockDiffusion.from_pretrained(
            folder,
            dtype=dtype,
            attn_implementation="sdpa",
            experts_implementation=experts,
            local_files_only=True,
        )
        self.experts: str = model.config.get_text_config()._experts_implementation
        self.model = model.to(ours.backend.device).eval()  # type: ignore[arg-type]
        if self.model.config.image_token_id is None:
            # transformers 5 compares the prompt with it in any case; no token has this id.
            self.model.config.image_token_id = -1
        self.settings = ours.settings
        self.forwards = 0
        self.model.model.decoder.register_forward_hook(self._count)

    def _count(self, *_: Any) -> None:
        self.forwards += 1

    def generate(self, prefix: list[int], steps: int) -> None:
        """One canvas behind the prefix in exactly `steps` steps."""
        rules = DiffusionGemmaGenerationConfig(
            max_new_tokens=self.model.config.canvas_length,
            max_denoising_steps=steps,
            sampler_config=EntropyBoundSamplerConfig(entropy_bound=self.settings.denoise.entropy_bound),
            t_min=self.settings.denoise.t_min,
            t_max=self.settings.denoise.t_max,
            # A canvas counts as stable after this many equal steps: never before the last one.
            stability_threshold=steps,
            confidence_threshold=self.settings.denoise.confidence_threshold,
        )
        before = self.forwards
        self.model.generate(torch.tensor([prefix], device=self.model.device), generation_config=rules)
        assert self.forwards - before == steps, "transformers' generate took another number of steps"


@dataclass
class Times:
    """Milliseconds of both sides' calls in one shape, pair by pair, and the steps of each pair."""

    midspan: list[float] = field(default_factory=list)
    transformers: list[float] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)

    def row(self) -> dict[str, Any]:
        """Medians, their ratio, and the quartiles of the pairs' ratios."""
        ours, theirs = statistics.median(self.midspan), statistics.median(self.transformers)
        pairs = sorted(b / a for a, b in zip(self.midspan, self.transformers, strict=True))
        low, _, high = statistics.quantiles(pairs, n=4, method="inclusive")
        return {
            "midspan_ms": round(ours, 2),
            "transformers_ms": round(theirs, 2),
            "ratio": round(theirs / ours, 2),
            "ratio_quartiles": [round(low, 2), round(high, 2)],
            "steps_mean": statistics.fmean(self.steps),
        }


def timed(call: Callable[[], object], device: torch.device) -> float:
    """Milliseconds of a call, to the end of its work on the device."""
    began = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return 1000 * (time.perf_counter() - began)


def pair(ours: Ours, theirs: Theirs, hole: Hole, steps: int, ours_first: bool) -> tuple[float, float]:
    """Milliseconds of one call of each side: midspan's, transformers'."""
    prefix, device = ours.infiller.prompt.lay_out(hole).prefix, ours.infiller.backend.device

    def mine() -> float:
        # As the engine's worker does, where products have threads of their own.
        with torch_threads(1 if ours.infiller.backend.describe().own_threads else torch.get_num_threads()):
            ours.come_to(hole)
            return timed(lambda: ours.fill(hole), device)

    if ours_first:
        return mine(), timed(lambda: theirs.generate(prefix, steps), device)
    other = timed(lambda: theirs.generate(prefix, steps), device)
    return mine(), other


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Set the number of torch's threads within the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def compare(ours: Ours, theirs: Theirs, holes: list[Hole], rounds: int) -> Times:
    """Time both sides on every hole, `rounds` times, after one call of each that is not timed."""
    times = Times()
    for number, hole in enumerate(holes, 1):
        ours.come_to(hole)
        steps = ours.fill(hole)
        theirs.generate(ours.infiller.prompt.lay_out(hole).prefix, steps)
        for round in range(rounds):
            mine, other = pair(ours, theirs, hole, steps, ours_first=round % 2 == 0)
            times.midspan.append(mine)
            times.transformers.append(other)
            times.steps.append(steps)
        sys.stderr.write(f"\r{number}/{len(holes)} gaps, {times.row()['ratio']} times")
    sys.stderr.write("\n")
    return times


def one_canvas(settings: CheckpointSettings, length: int) -> CheckpointSettings:
    """The settings with one canvas of `length` slots and no other hypotheses."""
    return replace(
        settings,
        layout=replace(settings.layout, slots=(length,)),
        denoise=replace(settings.denoise, draws=1),
        hypotheses=replace(settings.hypotheses, beams=0, similar_lines=0),
    )


def versus(arguments: argparse.Namespace) -> dict[str, Any]:
    """The row of one run. Raises CheckpointError, DeviceError, or OSError for files that cannot be read."""
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    keep_large_blocks()
    shipped = load_infiller(arguments.checkpoint, arguments.device)
    if not isinstance(shipped, Infiller):
        raise CheckpointError(
            f"{arguments.checkpoint}: has no canvas that generate could denoise; give a diffusion one"
        )
    holes = [hole for hole, _ in heldout_holes(arguments.files, arguments.gaps, arguments.seed)]
    length = shipped.backend.canvas_length
    # Loaded objects are taken out of garbage collection, as in the server (server/lifecycle.py).
    gc.freeze()
    with tempfile.TemporaryDirectory(prefix="midspan-bench-") as folder:
        dtype = fastest_dtype(shipped.backend.device)
        export(arguments.checkpoint, Path(folder), dtype)
        theirs = Theirs(Path(folder), shipped, dtype, arguments.experts)
    one = Infiller(shipped.backend, shipped.prompt, one_canvas(shipped.settings, length))
    shapes = {"shipped": shipped, "one_canvas": one}
    rows = {
        name + ("_next_key" if next_key else ""): {
            "slots": list(infiller.settings.layout.slots),
            "draws": infiller.settings.denoise.draws,
            **compare(Ours(infiller, next_key), theirs, holes, arguments.rounds).row(),
        }
        for next_key in (False, True)
        for name, infiller in shapes.items()
    }
    return {
        "gaps": len(holes),
        "rounds": arguments.rounds,
        "threads": shipped.backend.describe().threads,
        "dtype": str(dtype).removeprefix("torch."),
        "computed": dict(shipped.backend.describe().kernels),
        "canvas_length": length,
        "prefix_tokens_mean": statistics.fmean(len(shipped.prompt.lay_out(hole).prefix) for hole in holes),
        **rows,
        "experts": theirs.experts,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "checkpoint": arguments.checkpoint,
        "device": str(shipped.backend.device),
    }


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1")
    return int(text)


def _even(text: str) -> int:
    if _count(text) % 2:
        raise argparse.ArgumentTypeError(f"{text} is odd; give an even number, so that either side goes first as often")
    return int(text)


def main(argv: list[str]) -> int:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=Path, required=True, help="the corpus's heldout.jsonl, where gaps are cut")
    parser.add_argument("--gaps", type=_count, default=40)
    parser.add_argument("--rounds", type=_even, default=4)
    parser.add_argument("--seed", type=int, default=0, help="which gaps")
    parser.add_argument("--threads", type=_count, help="of both sides; torch's own choice if not given")
    parser.add_argument("--checkpoint", default="embedded")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--experts", choices=("eager", "grouped_mm", "batched_mm"), help="transformers' implementation")
    arguments = parser.parse_args(argv)
    try:
        found = versus(arguments)
    except (CheckpointError, DeviceError, OSError) as error:
        sys.stderr.write(f"versus_transformers: {error}\n")
        return 1
    sys.stdout.write(json.dumps(found) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
