"""An engine without a model: it has the real engine's signature, and the text before the gap selects its behaviour.

The last line of the prefix that is not blank may hold one of these words; else the fill is TEXT with confidence 0.9:
    crash       the fill raises
    memory      the fill asks for more memory than there is
    hang        the fill never ends, not even when it is stopped
    low         the fill has confidence 0.01
    several     three candidates: TEXT, "slice", "tuple"
    forever     steps until it is stopped
    later       TEXT; if the line already holds TEXT, steps until it is stopped
    frames      many quick frames, then TEXT
    delayed     TEXT after three seconds
    newest      with another word: it also stops when a newer fill is requested, as the real engine does
    empty       nothing to insert
    single      one character to insert
    whole       TEXT and a line end
    lines       TEXT, and TEXT again in the next line
    undefined   UNDEFINED, which uses a name that nothing defines
    stubborn    TEXT, but UNDEFINED for a draft of which spans are wrong
    repaired    UNDEFINED; a draft with the word "list" in place of each wrong span
    endless     UNDEFINED; for a draft of which spans are wrong, steps until it is stopped
    history     the text is a JSON object with the holes of all fills so far
    echo        the text is the hole's prefix and suffix, as JSON
"""

from __future__ import annotations

import json
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain
from pathlib import Path

from midspan.engine.api import About, Budget, Candidate, Fill, Frame, Hole, Latency, OnFrame, Stopped
from midspan.engine.settings import ACTIONS

# Names that every Python file has, so that no validator objects.
TEXT = "list + range"
UNDEFINED = "missing + 1"
OTHERS = ("slice", "tuple")
STEP_S = 0.05
DELAY_S = 3.0
FRAMES = 40
Stops = tuple[threading.Event, ...]

ABOUT = About(
    checkpoint="scripted",
    device="cpu",
    dtype="float32",
    threads=1,
    parameters=0,
    layout="scripted",
    languages=("python",),
    show_threshold=0.25,
    kernels=(),
    load_ms=0.0,
    actions=ACTIONS,
)


class ScriptedEngine:
    """One worker thread, as in the real engine; every hole is written to `prompts` as one line with a JSON array."""

    def __init__(self, prompts: Path | None = None) -> None:
        self._prompts = prompts
        self.about = ABOUT
        self.history: list[dict[str, object]] = []
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="scripted")
        self._superseded = threading.Event()
        self._torch_at_load = "torch" in sys.modules

    def fill(
        self, hole: Hole, budget: Budget, *, stop: threading.Event | None = None, on_frame: OnFrame | None = None
    ) -> Future[Fill]:
        """See midspan.engine.Engine.fill."""
        self._superseded.set()
        self._superseded = superseded = threading.Event()
        if self._prompts is not None:
            with self._prompts.open("a") as file:
                file.write(json.dumps([hole.prefix, hole.suffix, *hole.context, *chain(*hole.other_lines)]) + "\n")
        stops: Stops = (stop or threading.Event(),)
        if "newest" in hole.prefix:
            stops = (*stops, superseded)
        return self._worker.submit(self._fill, hole, budget, stops, on_frame)

    def close(self) -> None:
        """See midspan.engine.Engine.close."""
        self._worker.shutdown()

    def _fill(self, hole: Hole, budget: Budget, stops: Stops, on_frame: OnFrame | None) -> Fill:
        script = hole.prefix.rstrip().rpartition("\n")[2]
        if "history" in script:
            return _answer([json.dumps({"asked": self.history, "torch": self._torch_at_load})], 0)
        asked: dict[str, object] = {"steps": 0, "stopped": False, "candidates": budget.candidates}
        asked |= {"draft": hole.draft, "strength": hole.strength, "wrong": hole.wrong, "least": budget.min_confidence}
        asked["deadline_s"] = budget.deadline_s
        self.history.append(asked)
        if "crash" in script:
            raise RuntimeError("the scripted engine crashed")
        if "memory" in script:
            bytearray(sys.maxsize)
        if "hang" in script:
            threading.Event().wait()
        if "empty" in script:
            return _answer([], 1, "empty")
        if "echo" in script:
            return _answer([json.dumps([hole.prefix, hole.suffix, hole.kind])], 1)
        later = "later" in script and TEXT in script
        for_ever = "forever" in script or later or ("endless" in script and bool(hole.wrong))
        if for_ever or "frames" in script:
            asked["steps"] = _step(sys.maxsize if for_ever else FRAMES, stops, on_frame)
            asked["stopped"] = _is_stopped(stops)
            if asked["stopped"]:
                return _answer([], 1, "cancelled")
        if "delayed" in script:
            time.sleep(DELAY_S)
        texts = [_text(script, hole), *OTHERS] if "several" in script else [_text(script, hole)]
        return _answer(texts[: budget.candidates], 1, confidence=0.01 if "low" in script else 0.9)


def _text(script: str, hole: Hole) -> str:
    if "repaired" in script and hole.wrong:
        [(begin, end)] = hole.wrong
        return f"{hole.draft[:begin]}list{hole.draft[end:]}"
    if "stubborn" in script:
        return UNDEFINED if hole.wrong else TEXT
    if "repaired" in script or "endless" in script:
        return UNDEFINED
    if "single" in script:
        return TEXT[0]
    if "undefined" in script:
        return UNDEFINED
    if "lines" in script:
        return f"{TEXT}\n    {TEXT}"
    return TEXT + "\n" if "whole" in script else TEXT


def _is_stopped(stops: Stops) -> bool:
    """Whether the fill was stopped by its requester or by a newer fill."""
    return any(stop.is_set() for stop in stops)


def _step(steps: int, stops: Stops, on_frame: OnFrame | None) -> int:
    """Denoise, and return the number of steps. As in the real engine `stop` is read after each step's frame."""
    for step in range(1, steps + 1):
        time.sleep(STEP_S if steps > FRAMES else STEP_S / 25)
        if on_frame is not None:
            settled = _is_stopped(stops) or step == steps
            on_frame(Frame(step=step, steps=steps, text=TEXT[:step], cells=(), settled=settled))
        if _is_stopped(stops):
            return step
    return steps


def _answer(texts: list[str], steps: int, stopped: Stopped = "settled", confidence: float = 0.9) -> Fill:
    candidates = tuple(Candidate(text=text, confidence=confidence) for text in texts)
    return Fill(
        text=texts[0] if texts else "",
        confidence=confidence if texts else 0.0,
        candidates=candidates,
        steps=steps,
        stopped=stopped,
        latency=Latency(total=1.0, encode=0.0, denoise=1.0, rank=0.0),
    )
