"""A remote server as an Engine: a thread of its own, on whose loop the newest request is asked and awaited."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Collection
from concurrent.futures import Future
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from midspan.engine.api import About, Budget, Candidate, Cell, Fill, Frame, Hole, Latency, OnFrame, RemoteError, Stopped
from midspan.engine.marks_settings import LANGUAGES, OFFERED, UNFITTED
from midspan.engine.remote.address import Remote
from midspan.engine.remote.ask import CONTEXT_TOKENS, Ask
from midspan.engine.remote.writing import Written, candidate, clean, finished, known_marks

if TYPE_CHECKING:
    from midspan.engine.remote.paths import Path

# How often a request that is under way looks whether anybody still waits for it.
LOOK_S = 0.01


@dataclass(slots=True)
class _Job:
    """One request."""

    hole: Hole
    budget: Budget
    stop: threading.Event
    on_frame: OnFrame | None
    future: Future[Fill] = field(default_factory=Future)
    superseded: threading.Event = field(default_factory=threading.Event)
    began: float = field(default_factory=time.perf_counter)

    def interrupted(self) -> bool:
        """Whether the request was stopped, or a newer one has replaced it."""
        return self.stop.is_set() or self.superseded.is_set()

    def fill(self, stopped: Stopped, found: list[Candidate], written: list[Written]) -> Fill:
        """What became of it."""
        prompt, gap = sum(one.prompt_ms for one in written), sum(one.written_ms for one in written)
        latency = Latency(total=1000 * (time.perf_counter() - self.began), encode=prompt, denoise=gap, rank=0.0)
        steps = max((one.steps for one in written), default=0)
        best = found[0] if found else Candidate(text="", confidence=0.0)
        return Fill(
            text=best.text,
            confidence=best.confidence,
            candidates=tuple(found),
            steps=steps,
            stopped=stopped,
            latency=latency,
        )


class RemoteEngine:
    """A remote server; `fill` may be called from any thread, and computes on none of them."""

    def __init__(self, remote: Remote) -> None:
        self.remote = remote
        self.about = About(
            checkpoint=remote.model or remote.name,
            device=remote.name,
            dtype="",
            threads=0,
            parameters=0,
            layout=remote.kind,
            languages=LANGUAGES,
            show_threshold=UNFITTED,
            kernels=(),
            load_ms=0.0,
            actions=OFFERED,
            context_tokens=CONTEXT_TOKENS,
            calibrated=False,
        )
        self._lock, self._closed = threading.Lock(), False
        self._newest: _Job | None = None
        self._loop = asyncio.new_event_loop()
        self._path: asyncio.Future[Path] = self._loop.create_future()
        self._ended = asyncio.Event()
        self._thread = threading.Thread(target=self._work, name=f"midspan-remote-{remote.name}", daemon=True)
        self._thread.start()

    def fill(
        self, hole: Hole, budget: Budget, *, stop: threading.Event | None = None, on_frame: OnFrame | None = None
    ) -> Future[Fill]:
        """Fill the hole; an older unfinished request ends as cancelled. `on_frame` is called on the engine's thread.

        The future fails with RemoteError, or with ValueError for a hole that keeps its draft.
        """
        job = _Job(hole, budget, stop or threading.Event(), on_frame)
        with self._lock:
            if self._closed:
                raise RuntimeError("the engine is closed")
            if self._newest is not None:
                self._newest.superseded.set()
            self._newest = job
            asyncio.run_coroutine_threadsafe(self._answer(job), self._loop)
        return job.future

    def close(self) -> None:
        """End the thread; a fill that runs ends as cancelled."""
        with self._lock:
            self._closed = True
            if self._newest is not None:
                self._newest.superseded.set()
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()

    def _work(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        """Make the client, then let fills run until the engine is closed, and the last one end."""
        from midspan.engine.remote.client import Client
        from midspan.engine.remote.paths import path_of

        async with AsyncExitStack() as stack:
            try:
                client = await stack.enter_async_context(Client(self.remote))
                self._path.set_result(path_of(self.remote, client))
            except RemoteError as error:
                self._path.set_exception(error)
                # Every fill tells of it; nobody need have asked before the engine is closed.
                self._path.exception()
            await self._until_closed()

    async def _until_closed(self) -> None:
        await self._ended.wait()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if others:
            await asyncio.wait(others)

    async def _answer(self, job: _Job) -> None:
        """Ask, and look now and then whether to go on; the future gets its result here whatever happens."""
        if not job.future.set_running_or_notify_cancel():
            return
        task = asyncio.ensure_future(self._asked(job))
        try:
            while not task.done():
                if job.interrupted():
                    task.cancel()
                await asyncio.wait([task], timeout=LOOK_S)
        except asyncio.CancelledError:
            # The loop itself ends, as after an error that nobody foresaw.
            job.future.set_result(job.fill("cancelled", [], []))
            raise
        if task.cancelled():
            job.future.set_result(job.fill("cancelled", [], []))
        elif (error := task.exception()) is not None:
            job.future.set_exception(error)
        else:
            job.future.set_result(task.result())

    async def _asked(self, job: _Job) -> Fill:
        """The server's fill. Raises RemoteError."""
        if job.hole.keeps_draft:
            raise ValueError(f"{self.remote.name} rewrites no part of a draft; leave the strength out")
        written, late = list[Written](), False
        marks: Collection[str] = known_marks()
        ask = Ask(hole=job.hole, budget=job.budget, began=job.began)
        try:
            async with asyncio.timeout(ask.left_s):
                # A fill that is cancelled leaves it to the others.
                path = await asyncio.shield(self._path)
                marks = path.marks
                ask.show = partial(_show, job, marks)
                await path.fill(ask, written)
        except TimeoutError:
            late = True
        found = _candidates(job, written, marks)
        ended = any(one.ended for one in written)
        stopped: Stopped = "deadline" if late else "empty" if not found else "settled" if ended else "steps"
        return job.fill(stopped, found, written)


def _candidates(job: _Job, written: list[Written], marks: Collection[str]) -> list[Candidate]:
    """Distinct texts with something to insert, the surest first."""
    known = dict[str, Candidate]()
    for one in written:
        new = candidate(job.hole, one, marks)
        if new is not None and (new.text not in known or known[new.text].confidence < new.confidence):
            known[new.text] = new
    return sorted(known.values(), key=lambda one: -one.confidence)[: job.budget.candidates]


def _show(job: _Job, marks: Collection[str], written: Written) -> None:
    """Hand out what is written so far as a frame."""
    if job.on_frame is not None:
        text = finished(job.hole, clean(job.hole, written.text, marks))
        cells = tuple(Cell(text=piece, state="settled") for piece in written.pieces)
        most = Ask(hole=job.hole, budget=job.budget).most_tokens
        job.on_frame(Frame(step=written.steps, steps=most, text=text, cells=cells, settled=written.ended))
