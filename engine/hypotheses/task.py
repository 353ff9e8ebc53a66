"""The state of one fill: hole, budget and observer, the checkpoint that fills it, and the results so far."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, Protocol, Self

from midspan.engine.api import Budget, Hole, Judge, OnFrame, Stopped
from midspan.engine.backends.backend import CanvasBackend
from midspan.engine.canvas import Plan, Rng
from midspan.engine.hypotheses.beam_search import FillInTheMiddle
from midspan.engine.hypotheses.hypothesis import Hypothesis, Proposals
from midspan.engine.hypotheses.syntax import SyntaxChecker
from midspan.engine.prefix_cache import PrefixCache
from midspan.engine.prompts.prompt import Layout, Prompt
from midspan.engine.settings import CheckpointSettings, SearchFloor

Phase = Literal["encode", "denoise", "rank"]
# The most beams, or canvases of one length. More find little that is new, and each costs memory and time.
MAX_EACH = 8


@dataclass(slots=True)
class FillObserver:
    """Callbacks of a fill: `interrupted` and `late` are polled between steps, `on_frame` sees each step."""

    interrupted: Callable[[], bool]
    late: Callable[[], bool]
    on_frame: OnFrame | None = None


PATIENT = FillObserver(interrupted=lambda: False, late=lambda: False)


@dataclass(slots=True)
class Infilling:
    """The results of one fill: ranked hypotheses (best first), proposals, steps, seconds by phase."""

    layout: Layout
    ranked: list[Hypothesis] = field(default_factory=list)
    proposals: Proposals = field(default_factory=Proposals)
    steps: int = 0
    stopped: Stopped = "steps"
    seconds: dict[Phase, float] = field(default_factory=lambda: {"encode": 0.0, "denoise": 0.0, "rank": 0.0})

    @contextmanager
    def timed(self, phase: Phase) -> Iterator[None]:
        """Add the time spent inside to a phase."""
        began = time.perf_counter()
        yield
        self.seconds[phase] += time.perf_counter() - began


class Source(Protocol):
    """What a fill is made with; see infill.Infiller."""

    @property
    def backend(self) -> CanvasBackend:
        """The network."""

    @property
    def prompt(self) -> Prompt:
        """The tokenizer and its layout of holes."""

    @property
    def settings(self) -> CheckpointSettings:
        """The checkpoint's settings."""

    @property
    def judge(self) -> Judge | None:
        """Checks the syntax of fills."""

    @property
    def prefix(self) -> PrefixCache:
        """The cache of the prefix."""

    @property
    def fim(self) -> FillInTheMiddle:
        """Reads and writes beams."""


@dataclass(slots=True, kw_only=True)
class Task:
    """One hole to be filled with canvases. `fim` is None for a checkpoint without beams."""

    backend: CanvasBackend
    prompt: Prompt
    settings: CheckpointSettings
    prefix: PrefixCache
    fim: FillInTheMiddle | None
    hole: Hole
    budget: Budget
    observer: FillObserver
    checker: SyntaxChecker
    out: Infilling

    @classmethod
    def begin(cls, source: Source, hole: Hole, budget: Budget, observer: FillObserver) -> Self:
        """The task of one fill, with the hole laid out."""
        layout, penalty = source.prompt.lay_out(hole), source.settings.hypotheses.ranking.syntax
        return cls(
            backend=source.backend,
            prompt=source.prompt,
            settings=source.settings,
            prefix=source.prefix,
            fim=source.fim if source.settings.hypotheses.beams else None,
            hole=hole,
            budget=budget,
            observer=observer,
            checker=SyntaxChecker(source.judge, hole, source.prompt, layout, penalty, budget.candidates),
            out=Infilling(layout=layout),
        )

    @property
    def layout(self) -> Layout:
        """The hole in tokens."""
        return self.out.layout

    @property
    def many_lines(self) -> bool:
        """Whether the gap may hold more than one line."""
        return self.hole.kind in self.prompt.many_lines

    @property
    def slots(self) -> tuple[int, ...]:
        """The gap lengths that the checkpoint tries for this kind of gap."""
        layout = self.settings.layout
        return layout.block_slots if self.many_lines else layout.slots

    @property
    def only_sure(self) -> bool:
        """Whether only a fill that is confident enough to be shown is wanted."""
        return self.budget.min_confidence >= self.settings.show.show_threshold

    @property
    def search_floor(self) -> SearchFloor | None:
        """The gate's first stage; None when any fill is wanted."""
        return self.settings.show.search_floor if self.only_sure else None

    @property
    def plan(self) -> Plan:
        """The rules of denoising."""
        settings, budget, clamped = self.settings.denoise, self.budget, self.settings.layout.kind == "clamped"
        return Plan(
            steps=settings.steps if budget.steps is None else min(budget.steps, settings.steps),
            t_min=settings.t_min,
            t_max=settings.t_max,
            entropy_bound=settings.entropy_bound,
            confidence_threshold=settings.confidence_threshold,
            # Likely lengths were chosen before, and entropy would favour short gaps.
            survivors=None if clamped else max(settings.survivors, budget.candidates),
        )

    def rng(self, number: int) -> Rng:
        """The random numbers of the block or piece with this number."""
        return Rng(self.budget.seed + number, self.backend.device)
