"""All checks and timings on one GPU, in one run of nine minutes at most; a JSON row a line, written as it is measured.

`.venv/bin/python benchmarks/gpu.py --out gpu.jsonl [--minutes 9] [--only bf16 ...]`; `--tiny` runs all of it in
Triton's interpreter on the CPU, where the times mean nothing.

- decisions: a seeded run of a tiny float32 network: the captured loop must decide as plain torch does.
- kernel: each kernel at the release's sizes, checked against its reference, then timed (engine/bench/timing.py).
- replay: two captured steps must decide and count steps as the same launches one by one.
- forward: one captured denoise step of the 26B shape with random weights made on the device: self-conditioning, layers,
  vocabulary, acceptance, noise and stop flag, every slot free. p20, p50, p80 of replays.
- infill: one canvas from its first noise to the last step's report on the host, with its stop rule out of reach.
- prefill: tokens per second up to each context, in chunks of the prefix cache.
- profile: the kernels of a 1x256 step that take longest, as shares of the step's time in kernels.
- memory: the most memory that was allocated while a form of the weights ran.
- transformers: its own decoder's forward on the same weights in the same run, with SDPA and each of its expert
  implementations; `wrong` where its logits differ from ours by more than WRONG_FROM.
- fastest: the fastest of transformers' expert implementations that are not wrong, by shape.

A measurement that no time is left for is a row with `skipped`. One that fails is a row with `error`, and the run goes
on: the other rows count all the same. Each form of the weights (fp8, bf16, int4, nvfp4) is made and freed in turn.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if "--tiny" in sys.argv:
    # Triton reads it when it is imported.
    os.environ["TRITON_INTERPRET"] = "1"
    import triton  # noqa: F401

import torch  # noqa: E402
from cache_keyword import with_cache  # noqa: E402
from gpu_checks import decisions_row, replay_row  # noqa: E402
from gpu_network import SMALL, WHOLE, Extent, random_backend, theirs_with  # noqa: E402

from midspan.engine.api import DeviceError  # noqa: E402
from midspan.engine.backends.cuda_graph import Limits, Size, StepGraph  # noqa: E402
from midspan.engine.backends.gpu import TritonBackend  # noqa: E402
from midspan.engine.bench.cases import Case, cases  # noqa: E402
from midspan.engine.bench.timing import case_row, difference, gpu, machine, timed  # noqa: E402
from midspan.engine.cache import Cache  # noqa: E402
from midspan.engine.canvas import Canvas, Plan, Rng  # noqa: E402
from midspan.engine.prefix_cache import CHUNK_TOKENS  # noqa: E402
from midspan.engine.weights.quantized import knows_fp8  # noqa: E402

FORMS = ("fp8", "bf16", "int4", "nvfp4")
# Logits of two correct implementations differ by roundings, and in bf16 some of these send a row to another expert,
# layer after layer. A wrong implementation's logits differ by as much as their own size.
WRONG_FROM = {torch.bfloat16: 0.25, torch.float32: 1e-3}
Row = dict[str, Any]


@dataclass
class Run:
    """One run: what is measured, on which device, until when, and the rows so far."""

    extent: Extent
    device: torch.device
    ends: float
    out: Path
    rows: list[Row] = field(default_factory=list)

    def left(self) -> float:
        """Seconds that are left."""
        return self.ends - time.monotonic()

    def keep(self, row: Row) -> None:
        """Write a row at once, so that it is kept if something fails later."""
        self.rows.append(row)
        with self.out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        sys.stderr.write(f"{self.left():6.0f} s left  {json.dumps(row)[:150]}\n")

    def phase(self, name: str, rows: Callable[[], Iterator[Row]], least_s: float) -> None:
        """Keep a phase's rows while there is time; the phase does not start with less than `least_s` seconds left."""
        if self.left() < least_s:
            self.keep({"skipped": name, "why": "no time left"})
            return
        try:
            for row in rows():
                self.keep(row)
                if self.left() < 0:
                    self.keep({"skipped": f"rest of {name}", "why": "no time left"})
                    return
        except Exception as error:  # noqa: BLE001
            self.keep({"phase": name, **failure(error)})


def failure(error: Exception) -> Row:
    """The part of a row that says what failed, in one line."""
    said = " ".join(str(error).split())[:200]
    if isinstance(error, torch.OutOfMemoryError):
        return {"skipped": "no room", "why": f"out of GPU memory: {said}"}
    return {"error": f"{type(error).__name__}: {said}"}


def attempt(what: Row, row: Callable[[], Row]) -> Row:
    """The row, or its failure, so that one kernel, form or shape that fails does not end the run."""
    try:
        return what | row()
    except Exception as error:  # noqa: BLE001
        return what | failure(error)


def extend(backend: TritonBackend, cache: Cache, tokens: int) -> None:
    """Encode random text in chunks until the cache holds `tokens`."""
    while cache.length < tokens:
        count = min(CHUNK_TOKENS, tokens - cache.length)
        backend.prefill(torch.randint(0, backend.vocab_size, (1, count), device=backend.device), cache)


def open_canvas(backend: TritonBackend, batch: int, width: int) -> Canvas:
    """Canvases whose slots are all free."""
    ids = torch.zeros(batch, width, dtype=torch.long, device=backend.device)
    return Canvas(ids=ids, free=torch.ones_like(ids, dtype=torch.bool))


@torch.inference_mode()
def of_form(run: Run, form: str, keep: list[TritonBackend]) -> Iterator[Row]:
    """Every row of one form of the weights; the model is put into `keep`."""
    if run.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    began = time.perf_counter()
    with torch.inference_mode(mode=False):
        # transformers uses the same tensors outside of inference mode.
        backend = random_backend(run.extent, form, run.device)
    keep.append(backend)
    _wait(run.device)
    yield {"measure": "made", "form": form, "seconds": time.perf_counter() - began}
    cache = backend.new_cache(max(run.extent.contexts))
    for context in run.extent.contexts:
        for what, row in _rows_at(run, backend, cache, context):
            yield attempt({"form": form, **what}, row)
    if run.device.type == "cuda":
        yield {"measure": "memory", "form": form, "peak_gb": torch.cuda.max_memory_allocated() / 1e9}


def _rows_at(run: Run, backend: TritonBackend, cache: Cache, context: int) -> Iterator[tuple[Row, Callable[[], Row]]]:
    """The measurements behind `context` tokens; the replay is checked before anything of it is timed."""
    alone = max(shape for shape in run.extent.shapes if shape[0] == 1)
    yield {"measure": "prefill", "to": context}, lambda: _prefill_row(backend, cache, context)
    yield {"measure": "replay", "context": context}, lambda: replay_row(_step(run, backend, cache, *alone))
    for batch, width in run.extent.shapes:
        what = {"measure": "forward", "canvases": batch, "width": width, "context": context}
        yield what, lambda batch=batch, width=width: _forward_row(run, backend, cache, batch, width)  # type: ignore[misc]
    for forwards in run.extent.infills:
        what = {"measure": "infill", "forwards": forwards, "context": context}
        yield what, lambda forwards=forwards: _infill_row(run, backend, cache, forwards)  # type: ignore[misc]
    if run.device.type == "cuda" and context == run.extent.contexts[0]:
        yield {"measure": "profile"}, lambda: _profile_row(backend, cache, alone)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def _prefill_row(backend: TritonBackend, cache: Cache, context: int) -> Row:
    """Tokens per second from the cache's length to `context`; the first of two passes compiles and is not timed."""
    before = cache.length
    for _ in range(2):
        cache.truncate(before)
        _wait(backend.device)
        began = time.perf_counter()
        extend(backend, cache, context)
        _wait(backend.device)
    seconds = time.perf_counter() - began
    return {"measure": "prefill", "from": before, "to": context, "tokens_per_s": (context - before) / seconds}


def _step(run: Run, backend: TritonBackend, cache: Cache, batch: int, width: int) -> StepGraph:
    """A step that never settles, captured where there is a GPU, with its first noise."""
    room = backend.network.room(batch, width)
    size = Size(batch=batch, rows=width, width=width, free=batch * width, steps=16)
    graph = StepGraph(backend.network, cache, room, size, Limits(0.1, 0.0))
    if run.device.type == "cuda":
        graph.capture(torch.cuda.graph_pool_handle())
    noise = torch.randint(0, backend.vocab_size, (batch, width), device=backend.device)
    graph.begin(open_canvas(backend, batch, width), noise, Plan(steps=16), 1)
    return graph


def _forward_row(run: Run, backend: TritonBackend, cache: Cache, batch: int, width: int) -> Row:
    graph = _step(run, backend, cache, batch, width)

    def again() -> None:
        graph.step.zero_()
        graph.run()

    times = timed(again, run.device, run.extent.repeats)
    return {"measure": "forward", "canvases": batch, "width": width, "context": cache.length, **times}


def _infill_row(run: Run, backend: TritonBackend, cache: Cache, forwards: int) -> Row:
    batch, width = max(shape for shape in run.extent.shapes if shape[0] == 1)
    plan = Plan(steps=forwards, confidence_threshold=0.0)
    canvas, times = open_canvas(backend, batch, width), []
    # The first call captures the graph and is not timed.
    before = 1 if run.device.type == "cuda" else 0
    for number in range(min(run.extent.repeats, 10) + before):
        _wait(run.device)
        began = time.perf_counter()
        steps = list(backend.bind(cache, canvas).steps(plan, Rng(number, run.device)))
        times.append(1000 * (time.perf_counter() - began))
    assert len(steps) == forwards, "a canvas settled before its last step"
    low, middle, high = torch.tensor(times[before:]).quantile(torch.tensor([0.2, 0.5, 0.8])).tolist()
    what = {"measure": "infill", "forwards": forwards, "canvases": batch, "width": width, "context": cache.length}
    return what | {"p20_ms": low, "p50_ms": middle, "p80_ms": high}


def _profile_row(backend: TritonBackend, cache: Cache, shape: tuple[int, int]) -> Row:
    """Shares of device time by kernel, the largest first."""
    from torch.profiler import ProfilerActivity, profile

    room = backend.network.room(*shape)
    size = Size(batch=shape[0], rows=shape[1], width=shape[1], free=shape[0] * shape[1], steps=16)
    graph = StepGraph(backend.network, cache, room, size, Limits(0.1, 0.0))
    graph.begin(
        open_canvas(backend, *shape), torch.zeros(shape, dtype=torch.long, device=backend.device), Plan(steps=16), 1
    )
    graph.run()
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        graph.run()
        torch.cuda.synchronize()
    spent = sorted(((one.self_device_time_total, one.key, one.count) for one in seen.key_averages()), reverse=True)
    total = sum(time for time, _, _ in spent)
    top = [{"kernel": key[:80], "share": round(time / total, 4), "launches": count} for time, key, count in spent[:20]]
    return {"measure": "profile", "shape": list(shape), "kernels_ms": total / 1000, "top": top}


def of_transformers(run: Run, backend: TritonBackend) -> Iterator[Row]:
    """transformers' decoder on the same weights, called as its own loop does, with self-conditioning logits."""
    from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

    rows: list[Row] = []
    for experts in ("eager", *(way for way in ("grouped_mm", "batched_mm") if way in ALL_EXPERTS_FUNCTIONS)):
        what = {"measure": "transformers", "experts": experts, "form": "bf16"}
        try:
            for row in _their_forwards(run, backend, theirs_with(run.extent, backend.model, experts)):
                rows.append(what | row)
                yield rows[-1]
        except Exception as error:  # noqa: BLE001
            yield what | failure(error)
    yield from fastest(rows)


def fastest(rows: list[Row]) -> Iterator[Row]:
    """By shape: the row of the fastest expert implementation that is not wrong."""
    right = [row for row in rows if not row["wrong"]]
    for shape in dict.fromkeys((row["canvases"], row["width"], row["context"]) for row in right):
        same = [row for row in right if (row["canvases"], row["width"], row["context"]) == shape]
        best = min(same, key=lambda row: float(row["p50_ms"]))
        names = ("experts", "canvases", "width", "context", "p20_ms", "p50_ms", "p80_ms")
        yield {"measure": "fastest", **{name: best[name] for name in names}}


@torch.inference_mode()
def _their_forwards(run: Run, backend: TritonBackend, theirs: Any) -> Iterator[Row]:
    """One canvas of each width behind the first context, with the last logits as self-conditioning, as in their loop.

    `difference` is how far their first logits are from ours, relative to the largest.
    """
    from transformers import DynamicCache

    context, vocab = run.extent.contexts[0], run.extent.sizes.vocab
    text, mine = torch.randint(0, vocab, (1, context), device=run.device), backend.new_cache(context)
    cache = DynamicCache(config=theirs.config.get_text_config())
    theirs.model.encoder(input_ids=text, **with_cache(theirs.model.encoder, cache))
    backend.prefill(text, mine)
    kept = with_cache(theirs, cache)
    for batch, width in [shape for shape in run.extent.shapes if shape[0] == 1]:
        canvas = torch.randint(0, vocab, (batch, width), device=run.device)
        last = theirs(decoder_input_ids=canvas, **kept).logits
        apart = difference((backend.logits(backend.network.denoise(canvas, mine)),), (last,))

        def forward(canvas: torch.Tensor = canvas, last: torch.Tensor = last) -> object:
            return theirs(decoder_input_ids=canvas, self_conditioning_logits=last, **kept)

        times = timed(forward, run.device, min(run.extent.repeats, 10))
        # Written so that NaN is wrong too.
        wrong = not apart <= WRONG_FROM[backend.model.dtype]
        shape = {"canvases": batch, "width": width, "context": context}
        yield {**shape, "difference": apart, "wrong": wrong, **times}


def measure(run: Run, forms: tuple[str, ...]) -> None:
    """Every phase: checks before timings, and the most important before those that may fail."""
    run.keep({"measure": "machine", **machine(run.device)})
    run.phase("decisions", lambda: iter([attempt({"measure": "decisions"}, lambda: decisions_row(run.device))]), 30)
    run.phase("kernels", lambda: kernels(run), 60)
    models: list[TritonBackend] = []
    for form in forms:
        models.clear()
        gc.collect()
        if run.device.type == "cuda":
            torch.cuda.empty_cache()
        run.phase(form, lambda form=form: of_form(run, form, models), 45)  # type: ignore[misc]
        if models and form == "bf16":
            run.phase("transformers", lambda: of_transformers(run, models[0]), 45)


def kernels(run: Run) -> Iterator[Row]:
    """A row for each kernel."""
    where = machine(run.device)
    for case in cases(run.extent.sizes, run.device, fp8=knows_fp8(run.device)):
        what = {"measure": "kernel", "op": case.op, "shape": case.shape}

        def row(case: Case = case) -> Row:
            return case_row(case, run.device, where, run.extent.repeats)

        yield attempt(what, row)


def main(argv: list[str]) -> int:
    """Read the command line, measure; 1 if there is no GPU or any row has an error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="the file that rows are appended to")
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--only", nargs="+", choices=FORMS, default=FORMS, help="forms of the weights")
    parser.add_argument("--tiny", action="store_true", help="a tiny network in Triton's interpreter")
    given = parser.parse_args(argv)
    sys.path.insert(0, str(ROOT))
    if given.tiny:
        from tests.kernels import interpreter

        interpreter.fix()
        device = torch.device("cpu")
    else:
        try:
            device = gpu()
        except DeviceError as error:
            sys.stderr.write(f"gpu.py: {error}; --tiny runs it in the interpreter\n")
            return 1
    ends = time.monotonic() + 60 * given.minutes
    run = Run(extent=SMALL if given.tiny else WHOLE, device=device, ends=ends, out=given.out)
    measure(run, tuple(form for form in FORMS if form in given.only))
    return 1 if any("error" in row for row in run.rows) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
