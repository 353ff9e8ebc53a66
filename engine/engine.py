"""One checkpoint, one worker thread: `fill(hole, budget) -> Future[Fill]`; the newest request wins."""

from __future__ import annotations

import gc
import logging
import threading
import time
import traceback
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch

from midspan.engine.api import (
    About,
    Budget,
    CheckpointError,
    DeviceError,
    Fill,
    Hole,
    Judge,
    Latency,
    OnFrame,
    OnProgress,
    Stopped,
)
from midspan.engine.autoregressive import Autoregressive
from midspan.engine.backends.backend import CanvasBackend
from midspan.engine.backends.choose import load_backend
from midspan.engine.backends.process import give_way
from midspan.engine.canvas import Canvas
from midspan.engine.causal_reading import CausalReading
from midspan.engine.fill_path import FillPath, candidates
from midspan.engine.hypotheses.task import PATIENT, FillObserver, Infilling, Phase
from midspan.engine.infill import Infiller
from midspan.engine.load_causal import load_gguf_file, load_left_to_right
from midspan.engine.marks_settings import FAMILIES
from midspan.engine.model import ModelConfig
from midspan.engine.prompts.chat import ChatPrompt
from midspan.engine.prompts.prompt import BOS_ID, EOS_ID, Prompt
from midspan.engine.settings import ACTIONS_BY_LAYOUT, CHAT_LAYOUTS, CheckpointSettings
from midspan.engine.weights.glance import gguf_file
from midspan.engine.weights.load import check_weights, read_config, resolve
from midspan.engine.weights.midspan_json import old_keys, read_settings

log = logging.getLogger(__name__)

NO_SECONDS: Mapping[Phase, float] = {"encode": 0.0, "denoise": 0.0, "rank": 0.0}

# Ampere is the first generation with bf16.
MIN_CAPABILITY = (8, 0)
ALREADY = "is written from left to right as it is; take that reading, autoregressive"
OUT_OF_MEMORY = "GPU memory is full; close what else uses it, or take a checkpoint of fewer bits or --device cpu"


@dataclass(slots=True)
class _Job:
    """One request on its way through the worker."""

    hole: Hole
    budget: Budget
    stop: threading.Event
    on_frame: OnFrame | None
    path: FillPath
    future: Future[Fill] = field(default_factory=Future)
    superseded: threading.Event = field(default_factory=threading.Event)
    began: float = field(default_factory=time.perf_counter)

    def interrupted(self) -> bool:
        """Whether the request was stopped, or a newer one has replaced it."""
        return self.stop.is_set() or self.superseded.is_set()

    def late(self) -> bool:
        """Whether the deadline has passed."""
        limit = self.budget.deadline_s
        return limit is not None and time.perf_counter() - self.began > limit

    def empty(self, stopped: Stopped, latency: Latency, steps: int = 0) -> Fill:
        """A fill that inserts nothing."""
        return Fill(text="", confidence=0.0, candidates=(), steps=steps, stopped=stopped, latency=latency)

    def latency(self, seconds: Mapping[Phase, float] = NO_SECONDS) -> Latency:
        """Milliseconds since the call, and of the phases given in seconds."""
        total, phases = 1000 * (time.perf_counter() - self.began), {key: 1000 * value for key, value in seconds.items()}
        return Latency(total=total, encode=phases["encode"], denoise=phases["denoise"], rank=phases["rank"])


class Engine:
    """A loaded checkpoint; `fill` may be called from any thread, the model runs on one of its own."""

    def __init__(self, infiller: FillPath, *, name: str, load_ms: float, old_keys: tuple[str, ...] = ()) -> None:
        self._infiller = infiller
        self._backend, settings = infiller.backend.describe(), infiller.settings
        self.about = About(
            checkpoint=name,
            device=self._backend.device,
            dtype=self._backend.dtype,
            threads=self._backend.threads,
            parameters=self._backend.parameters,
            layout=settings.layout.kind,
            languages=settings.show.languages,
            show_threshold=settings.show_threshold,
            kernels=self._backend.kernels,
            load_ms=load_ms,
            actions=settings.offered,
            context_tokens=settings.layout.context_tokens,
            context_budget=infiller.context_budget,
            reads_other_lines=settings.hypotheses.similar_lines > 0,
            old_keys=old_keys,
            calibrated=settings.show.calibration is not None,
        )
        self._wake = threading.Condition()
        self._waiting: _Job | None = None
        self._running: _Job | None = None
        self._closed = False
        self._worker = threading.Thread(target=self._work, name="midspan-engine", daemon=True)
        self._worker.start()

    @classmethod
    def load(
        cls,
        checkpoint: str = "embedded",
        device: str = "auto",
        judge: Judge | None = None,
        progress: OnProgress | None = None,
    ) -> Engine:
        """Load a checkpoint. Raises CheckpointError or DeviceError with one line that names the fix."""
        began = time.perf_counter()
        infiller = load_path(checkpoint, device, progress)
        infiller.backend.warm(partial(fill_examples, infiller))
        infiller.judge = judge
        load_ms = 1000 * (time.perf_counter() - began)
        backend = infiller.backend.describe()
        kernels = ", ".join(f"{part} {code}" for part, code in backend.kernels)
        log.info("loaded %s on %s in %.0f ms, kernels: %s", checkpoint, backend.device, load_ms, kernels)
        old = () if gguf_file(checkpoint) is not None else old_keys(resolve(checkpoint))
        return cls(infiller, name=checkpoint, load_ms=load_ms, old_keys=old)

    @property
    def encoded_tokens(self) -> int:
        """All prefix tokens that went through the model since the load."""
        return self._infiller.prefix.encoded_tokens

    def fill(
        self, hole: Hole, budget: Budget, *, stop: threading.Event | None = None, on_frame: OnFrame | None = None
    ) -> Future[Fill]:
        """Fill the hole; an older unfinished request ends as cancelled. `on_frame` is called on the worker thread."""
        return self._submit(_Job(hole, budget, stop or threading.Event(), on_frame, self._infiller))

    def without_canvases(self) -> WithoutCanvases:
        """The same checkpoint without canvases, on the same worker: the newest request of both wins.

        Raises CheckpointError for one that is not to be read so.
        """
        if not isinstance(self._infiller, Infiller):
            raise CheckpointError(f"{self.about.checkpoint}: {ALREADY}")
        return WithoutCanvases(self, CausalReading(self._infiller, self.about.checkpoint))

    def _submit(self, job: _Job) -> Future[Fill]:
        with self._wake:
            if self._closed:
                raise RuntimeError("the engine is closed")
            self._supersede()
            dropped, self._waiting = self._waiting, job
            self._wake.notify()
        if dropped is not None:
            dropped.future.set_result(dropped.empty("cancelled", dropped.latency()))
        return job.future

    def close(self) -> None:
        """End the worker; fills that wait or run end as cancelled."""
        with self._wake:
            self._closed = True
            self._supersede()
            self._wake.notify()
        self._worker.join()
        if self.about.device.startswith("cuda"):
            # Another process may want the memory at once, as `doctor` does.
            del self._infiller
            gc.collect()
            torch.cuda.empty_cache()

    def _supersede(self) -> None:
        for older in (self._waiting, self._running):
            if older is not None:
                older.superseded.set()

    def _work(self) -> None:
        give_way()
        if self._backend.own_threads:
            # Torch's threads have little to do, and would spin on the cores that the products need.
            torch.set_num_threads(1)
        while (job := self._next()) is not None:
            try:
                fill = self._answer(job)
            except BaseException as error:
                # A panic in Rust code is no Exception; without the worker no request would be answered any more.
                log.exception("a fill failed; the next request starts afresh")
                # The error's frames hold the tensors that filled the memory.
                traceback.clear_frames(error.__traceback__)
                self._infiller.reset()
                known = isinstance(error, Exception)
                job.future.set_exception(error if known else RuntimeError(f"{type(error).__name__}: {error}"))
            else:
                job.future.set_result(fill)

    def _next(self) -> _Job | None:
        """The next job; None when the engine is closed and nothing waits."""
        with self._wake:
            self._running = None
            while self._waiting is None and not self._closed:
                self._wake.wait()
            self._running, self._waiting = self._waiting, None
            return self._running

    def _infill(self, job: _Job) -> Infilling:
        """Fill the hole. When memory is full, release the caches and try once more from the start."""
        observer = FillObserver(job.interrupted, job.late, job.on_frame)
        try:
            return job.path.infill(job.hole, job.budget, observer)
        except torch.OutOfMemoryError as error:
            log.warning("memory is full: nothing is kept from the last fill, and this one begins again")
            traceback.clear_frames(error.__traceback__)
        self._infiller.reset()
        return job.path.infill(job.hole, job.budget, observer)

    def _answer(self, job: _Job) -> Fill:
        infilling = self._infill(job)
        cancelled = infilling.stopped == "cancelled"
        chosen = [] if cancelled else candidates(job.path, infilling)[: job.budget.candidates]
        latency = job.latency(infilling.seconds)
        if not chosen:
            return job.empty("cancelled" if cancelled else "empty", latency, infilling.steps)
        return Fill(
            text=chosen[0].text,
            confidence=chosen[0].confidence,
            candidates=tuple(chosen),
            steps=infilling.steps,
            stopped=infilling.stopped,
            latency=latency,
        )


class WithoutCanvases:
    """An Engine whose canvases are left out (causal_reading.py); closing it leaves the one that it came from alone."""

    def __init__(self, engine: Engine, reading: CausalReading) -> None:
        self._engine, self._reading = engine, reading
        actions = tuple(action for action in engine.about.actions if action in ACTIONS_BY_LAYOUT["fim"])
        self.about = replace(engine.about, layout="fim", actions=actions)

    def fill(
        self, hole: Hole, budget: Budget, *, stop: threading.Event | None = None, on_frame: OnFrame | None = None
    ) -> Future[Fill]:
        """See Engine.fill; the future fails with ValueError for a hole that keeps its draft."""
        return self._engine._submit(_Job(hole, budget, stop or threading.Event(), on_frame, self._reading))

    def close(self) -> None:
        """Nothing: the engine that it came from has the worker."""


def load_path(checkpoint: str, device: str, progress: OnProgress | None = None) -> FillPath:
    """A checkpoint's backend and prompt rules, without a worker thread; its family decides which way it fills.

    Raises CheckpointError or DeviceError.
    """
    try:
        if (file := gguf_file(checkpoint)) is not None:
            return load_gguf_file(file, _device(device), progress)
        folder = resolve(checkpoint)
        found = read_config(folder)
        if found.get("model_type") in FAMILIES:
            return load_left_to_right(folder, found, _device(device), progress)
    except torch.OutOfMemoryError as error:
        raise DeviceError(OUT_OF_MEMORY) from error
    return load_infiller(checkpoint, device, progress)


def load_infiller(checkpoint: str, device: str, progress: OnProgress | None = None) -> Infiller | Autoregressive:
    """A canvas network's backend and prompt rules; the layout decides which of the two it is.

    Raises CheckpointError or DeviceError.
    """
    place = _device(device)
    folder = resolve(checkpoint)
    config = ModelConfig.from_json(read_config(folder), str(folder / "config.json"))
    settings = read_settings(folder)
    check_weights(folder, config, place)
    prompt = _prompt(folder, settings)
    prompt.widen(config.vocab_size)
    try:
        backend = load_backend(folder, config, place, settings.quantize, progress)
        _try_out(backend, folder)
    except torch.OutOfMemoryError as error:
        raise DeviceError(OUT_OF_MEMORY) from error
    log.info("%s: layout %s", folder, settings.layout.kind)
    return (Autoregressive if settings.layout.kind == "fim" else Infiller)(backend, prompt, settings)


def fill_examples(infiller: FillPath) -> None:
    """Fill one gap of each kind, so that kernels are compiled and steps captured before the first request.

    The first prompt is as long as prompts get; the next ones differ by as little as a keystroke. Raises DeviceError.
    """
    text = "total = total + 1\n" * max(1, infiller.settings.layout.prefix_tokens // 6)
    try:
        for kind in ("rest_of_line", "span", "rest_of_line"):
            infiller.infill(Hole(prefix=text, suffix="\n" + text, kind=kind), Budget(), PATIENT)
            text += "left = "
    except torch.OutOfMemoryError as error:
        raise DeviceError(OUT_OF_MEMORY) from error


def _prompt(folder: Path, settings: CheckpointSettings) -> Prompt:
    """The checkpoint's tokenizer, with chat turns where its layout needs them. Raises CheckpointError."""
    file, layout = folder / "tokenizer.json", settings.layout
    if layout.kind in CHAT_LAYOUTS:
        return ChatPrompt(file, layout)
    prompt = Prompt(
        file, prefix_tokens=layout.prefix_tokens, filler_id=layout.filler_id, context_tokens=layout.context_tokens
    )
    fillers = [token for token in prompt.special_ids if token not in (BOS_ID, EOS_ID)]
    if layout.filler_id not in fillers:
        some = ", ".join(map(str, fillers[:8]))
        problem = f"layout.filler_id is {layout.filler_id}; give a special token of tokenizer.json, such as {some}"
        raise CheckpointError(f"{folder / 'midspan.json'}: {problem}")
    return prompt


@torch.inference_mode()
def _try_out(backend: CanvasBackend, folder: Path) -> None:
    """Read one token causally and as a canvas. Raises CheckpointError if the logits are unusable."""
    cache, ids = backend.new_cache(1), torch.tensor([[BOS_ID]], device=backend.device)
    canvas = Canvas(ids=ids, free=torch.ones_like(ids, dtype=torch.bool))
    hidden = torch.cat((backend.prefill(ids, cache), backend.bind(cache, canvas).read(ids)), dim=1)
    logits = backend.logits(hidden[0])
    if not bool(logits.isfinite().all()) or bool((logits.amax(dim=-1) == logits.amin(dim=-1)).any()):
        raise CheckpointError(f"{folder}: its weights compute no finite logits that differ; copy the checkpoint again")


def _device(name: str) -> torch.device:
    """`auto`, `cpu` or `cuda` as a device. Raises DeviceError."""
    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        raise DeviceError("device cuda: torch sees no GPU here; use --device cpu or install a CUDA build of torch")
    capable = there and torch.cuda.get_device_capability() >= MIN_CAPABILITY
    if name == "cuda" and not capable:
        raise DeviceError(f"device cuda: {torch.cuda.get_device_name()} has no units for bf16; use --device cpu")
    if name == "auto":
        name = "cuda" if capable else "cpu"
    return torch.device(name)
