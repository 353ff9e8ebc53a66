"""One checkpoint, one worker thread: `fill(hole, budget, stop, on_frame) -> Future[Fill]`; the newest request wins."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field

import torch

from midspan.engine.allocator import keep_large_blocks
from midspan.engine.api import (
    About,
    Budget,
    Candidate,
    Cell,
    CellState,
    DeviceError,
    Fill,
    Frame,
    Hole,
    Latency,
    OnFrame,
    Stopped,
)
from midspan.engine.candidates import Scored, lay_canvases, rank
from midspan.engine.canvas import Canvas, Draws, Plan
from midspan.engine.denoise import Step, denoise
from midspan.engine.model import Cache, DiffusionGemma, ModelConfig
from midspan.engine.prefix_cache import PrefixCache
from midspan.engine.prompt import Layout, Prompt
from midspan.engine.settings import CheckpointSettings, read_settings
from midspan.engine.weights import load_weights, read_config, resolve

log = logging.getLogger(__name__)

MAX_BLOCKS = 4
KERNELS = ("attention", "rms_norm", "rope", "geglu", "router", "experts")


class CanvasNetwork:
    """The model bound to one prefix, as the denoising loop sees it."""

    def __init__(self, model: DiffusionGemma, cache: Cache, valid: torch.Tensor | None) -> None:
        self._model, self._cache, self._valid = model, cache, valid
        self.vocab_size = model.config.vocab_size

    def logits(self, ids: torch.Tensor, soft: torch.Tensor | None, free: torch.Tensor) -> torch.Tensor:
        """See denoise.Network."""
        hidden = self._model.denoise(ids, self._cache, soft, self._valid)
        return self._model.logits(hidden[free])

    def soft(self, logits: torch.Tensor) -> torch.Tensor:
        """See denoise.Network; the logits are rounded to the weights' dtype first, as in the release."""
        probabilities = torch.softmax(logits.to(self._model.dtype), dim=-1, dtype=torch.float32)
        return self._model.soft_embed(probabilities)


@dataclass(slots=True)
class _Job:
    """One request on its way through the worker."""

    hole: Hole
    budget: Budget
    stop: threading.Event
    on_frame: OnFrame | None
    future: Future[Fill]
    superseded: threading.Event = field(default_factory=threading.Event)
    began: float = field(default_factory=time.perf_counter)

    def interrupted(self) -> bool:
        """Whether nobody waits for this fill any more."""
        return self.stop.is_set() or self.superseded.is_set()

    def late(self) -> bool:
        """Whether the deadline has passed."""
        limit = self.budget.deadline_s
        return limit is not None and time.perf_counter() - self.began > limit


@dataclass(slots=True)
class _Tally:
    """What one request has spent."""

    steps: int = 0
    stopped: Stopped = "steps"
    encode_s: float = 0.0
    denoise_s: float = 0.0
    rank_s: float = 0.0


class Engine:
    """A loaded checkpoint; `fill` may be called from any thread, the model runs on one of its own."""

    def __init__(
        self, model: DiffusionGemma, prompt: Prompt, settings: CheckpointSettings, *, name: str, load_ms: float
    ) -> None:
        self._model, self._prompt, self._settings = model, prompt, settings
        self._prefix = PrefixCache(model)
        self.about = About(
            checkpoint=name,
            device=str(model.device),
            dtype=str(model.dtype).removeprefix("torch."),
            threads=torch.get_num_threads(),
            parameters=sum(parameter.numel() for parameter in model.parameters()),
            layout=settings.layout,
            languages=settings.languages,
            show_threshold=settings.show_threshold,
            kernels=tuple((kernel, "reference") for kernel in KERNELS),
            load_ms=load_ms,
        )
        self._wake = threading.Condition()
        self._waiting: _Job | None = None
        self._running: _Job | None = None
        self._closed = False
        self._worker = threading.Thread(target=self._work, name="midspan-engine", daemon=True)
        self._worker.start()

    @classmethod
    def load(cls, checkpoint: str = "embedded", device: str = "auto") -> Engine:
        """Load a checkpoint. Raises CheckpointError or DeviceError with one line that names the mend."""
        began = time.perf_counter()
        keep_large_blocks()
        place = _device(device)
        folder = resolve(checkpoint)
        settings = read_settings(folder)
        config = ModelConfig.from_json(read_config(folder))
        prompt = Prompt(
            folder / "tokenizer.json", prefix_tokens=settings.prefix_tokens, filler_id=settings.filler_id
        )
        model = DiffusionGemma(config)
        load_weights(model, folder, _dtype(place), place)
        load_ms = 1000 * (time.perf_counter() - began)
        log.info("loaded %s on %s in %.0f ms; kernels: torch references", checkpoint, place, load_ms)
        return cls(model.eval(), prompt, settings, name=checkpoint, load_ms=load_ms)

    @property
    def encoded_tokens(self) -> int:
        """All prefix tokens that went through the model since the load."""
        return self._prefix.encoded_tokens

    def fill(
        self, hole: Hole, budget: Budget, *, stop: threading.Event | None = None, on_frame: OnFrame | None = None
    ) -> Future[Fill]:
        """Fill the hole; an older unfinished request ends as cancelled. `on_frame` is called on the worker thread."""
        job = _Job(hole, budget, stop or threading.Event(), on_frame, Future())
        with self._wake:
            if self._closed:
                raise RuntimeError("the engine is closed")
            for older in (self._waiting, self._running):
                if older is not None:
                    older.superseded.set()
            dropped, self._waiting = self._waiting, job
            self._wake.notify()
        if dropped is not None:
            dropped.future.set_result(_nothing(dropped, "cancelled", _Tally()))
        return job.future

    def close(self) -> None:
        """End the worker; a running fill ends as cancelled."""
        with self._wake:
            self._closed = True
            for job in (self._waiting, self._running):
                if job is not None:
                    job.superseded.set()
            self._wake.notify()
        self._worker.join()

    def _work(self) -> None:
        while (job := self._next()) is not None:
            try:
                fill = self._fill(job)
            except Exception as error:  # atop the worker thread
                log.exception("a fill failed; the next request starts afresh")
                self._prefix = PrefixCache(self._model)
                job.future.set_exception(error)
            else:
                job.future.set_result(fill)

    def _next(self) -> _Job | None:
        """Wait for a job; None when the engine is closed, after a job that waited has been answered."""
        with self._wake:
            self._running = None
            while self._waiting is None and not self._closed:
                self._wake.wait()
            self._running, self._waiting = self._waiting, None
            return self._running

    def _fill(self, job: _Job) -> Fill:
        """Encode, then canvas by canvas: denoise, rank; a gap that no canvas has ended goes on in another block."""
        tally, done = _Tally(), list[Scored]()
        layout = self._prompt.lay_out(job.hole)
        plan = self._plan(job.budget)
        many_lines = job.hole.kind in ("block", "span")
        for block in range(MAX_BLOCKS):
            if job.interrupted():
                return _nothing(job, "cancelled", tally)
            ranked = self._block(job, layout, plan, Draws(job.budget.seed + block, self._model.device), tally)
            if tally.stopped == "cancelled":
                return _nothing(job, "cancelled", tally)
            done = _join(done, ranked)
            if not ranked or ranked[0].ended or not many_lines or tally.stopped == "deadline":
                break
            layout = Layout(
                prefix=[*layout.prefix, *ranked[0].ids], suffix=layout.suffix, heal="", append=layout.append
            )
        return self._answer(job, done, tally)

    def _plan(self, budget: Budget) -> Plan:
        settings = self._settings
        return Plan(
            steps=min(budget.steps, settings.steps),
            t_min=settings.t_min,
            t_max=settings.t_max,
            entropy_bound=settings.entropy_bound,
            confidence_threshold=settings.confidence_threshold,
        )

    def _block(self, job: _Job, layout: Layout, plan: Plan, draws: Draws, tally: _Tally) -> list[Scored]:
        """One batch of canvases behind one prefix, ranked."""
        clock = time.perf_counter()
        self._prefix.encode(layout.prefix)
        tally.encode_s += time.perf_counter() - clock
        settings = self._settings
        canvas = lay_canvases(
            layout,
            self._prompt,
            settings.slots,
            max(settings.draws, -(-job.budget.candidates // len(settings.slots))),
            self._model.config.canvas_length,
        )
        clock = time.perf_counter()
        drafts = self._denoise(job, canvas, plan, draws, tally)
        tally.denoise_s += time.perf_counter() - clock
        if drafts is None:
            return []
        clock = time.perf_counter()
        ranked = rank(
            self._model, self._prefix.memory, self._prefix.last_hidden, drafts, canvas, layout, self._prompt
        )
        tally.rank_s += time.perf_counter() - clock
        return ranked

    def _denoise(
        self, job: _Job, canvas: Canvas, plan: Plan, draws: Draws, tally: _Tally
    ) -> torch.Tensor | None:
        """The drafts when the canvases settle, the steps or the time run out; None when the request was cancelled."""
        network = CanvasNetwork(self._model, self._prefix.memory, canvas.valid)
        steps: Iterator[Step] = denoise(network, canvas, plan, draws)
        drafts = canvas.ids
        tally.stopped = "steps"
        for step in steps:
            tally.steps += 1
            drafts = step.draft
            if job.on_frame is not None:
                job.on_frame(self._frame(step, canvas, plan, job))
            if job.interrupted():
                tally.stopped = "cancelled"
                return None
            if bool(step.finished.all()):
                tally.stopped = "settled"
            elif job.late():
                tally.stopped = "deadline"
                break
        return drafts

    def _frame(self, step: Step, canvas: Canvas, plan: Plan, job: _Job) -> Frame:
        """The hypothesis of the middle slot size as a person would see it."""
        row = len(canvas.free) // 2
        layout = self._prompt.lay_out(job.hole)
        cells = []
        for column, token in enumerate(step.draft[row].tolist()):
            if canvas.valid is not None and not bool(canvas.valid[row, column]):
                break
            state: CellState = "free"
            if not bool(canvas.free[row, column]):
                state = "frozen"
            elif token == self._prompt.filler_id:
                state = "filler"
            elif bool(step.accepted[row, column]):
                state = "settled"
            cells.append(Cell(text=self._prompt.cell_text(token), state=state))
        gap = self._prompt.gap_ids(step.draft[row][canvas.free[row]].tolist())
        return Frame(
            step=step.number,
            steps=plan.steps,
            text=self._prompt.text(gap, layout),
            cells=tuple(cells),
            settled=bool(step.finished[row]),
        )

    def _answer(self, job: _Job, ranked: list[Scored], tally: _Tally) -> Fill:
        clock = time.perf_counter()
        layout = self._prompt.lay_out(job.hole)
        candidates: dict[str, Candidate] = {}
        for scored in ranked:
            text = self._prompt.text(list(scored.ids), layout)
            if text.strip() and text not in candidates:
                confidence = scored.confidence(self._settings.calibration)
                candidates[text] = Candidate(text=text, confidence=confidence)
        tally.rank_s += time.perf_counter() - clock
        chosen = tuple(candidates.values())[: job.budget.candidates]
        if not chosen:
            return _nothing(job, "empty", tally)
        return Fill(
            text=chosen[0].text,
            confidence=chosen[0].confidence,
            candidates=chosen,
            steps=tally.steps,
            stopped=tally.stopped,
            latency=_latency(job, tally),
        )


def _join(done: list[Scored], ranked: list[Scored]) -> list[Scored]:
    """Put the next block's hypotheses behind the best of the blocks before it."""
    if not done:
        return ranked
    head = done[0]
    return [
        Scored(
            ids=head.ids + tail.ids,
            log_probability=head.log_probability + tail.log_probability,
            features=tuple(map(min, head.features, tail.features)),
            ended=tail.ended,
        )
        for tail in ranked
    ] or done


def _nothing(job: _Job, stopped: Stopped, tally: _Tally) -> Fill:
    return Fill(
        text="", confidence=0.0, candidates=(), steps=tally.steps, stopped=stopped, latency=_latency(job, tally)
    )


def _latency(job: _Job, tally: _Tally) -> Latency:
    return Latency(
        total=1000 * (time.perf_counter() - job.began),
        encode=1000 * tally.encode_s,
        denoise=1000 * tally.denoise_s,
        rank=1000 * tally.rank_s,
    )


def _device(name: str) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise DeviceError("device cuda: torch sees no GPU here; use --device cpu or install a CUDA build of torch")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def _dtype(device: torch.device) -> torch.dtype:
    """bf16 where matrix units multiply it, float32 elsewhere."""
    if device.type == "cuda" or torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported():
        return torch.bfloat16
    return torch.float32
