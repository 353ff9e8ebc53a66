"""One fill on its way through the engine: what was asked, what it is asked of, and what has come of it so far."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from midspan.engine.api import Budget, Hole, OnFrame, Stopped
from midspan.engine.backends.backend import CanvasBackend
from midspan.engine.canvas import Plan, Rng
from midspan.engine.hypotheses.beam_search import FillInTheMiddle
from midspan.engine.hypotheses.hypothesis import Hypothesis, Proposals
from midspan.engine.hypotheses.syntax import SyntaxChecker
from midspan.engine.prefix_cache import PrefixCache
from midspan.engine.prompts.prompt import Layout, Prompt
from midspan.engine.settings import CheckpointSettings

Phase = Literal["encode", "denoise", "rank"]
# Beams, or canvases of one length: more find little that is new, and each costs memory and time.
MAX_EACH = 8


@dataclass(slots=True)
class FillObserver:
    """Who waits for a fill: `interrupted` and `late` are asked between steps, `on_frame` sees every step."""

    interrupted: Callable[[], bool]
    late: Callable[[], bool]
    on_frame: OnFrame | None = None


PATIENT = FillObserver(interrupted=lambda: False, late=lambda: False)


@dataclass(slots=True)
class Infilling:
    """What one hole gave and cost: ranked hypotheses (best first), proposals, steps, seconds by phase."""

    layout: Layout
    ranked: list[Hypothesis] = field(default_factory=list)
    proposals: Proposals = field(default_factory=Proposals)
    steps: int = 0
    stopped: Stopped = "steps"
    seconds: dict[Phase, float] = field(default_factory=lambda: {"encode": 0.0, "denoise": 0.0, "rank": 0.0})

    @contextmanager
    def timed(self, phase: Phase) -> Iterator[None]:
        """Count the seconds of what runs inside as those of a phase."""
        began = time.perf_counter()
        yield
        self.seconds[phase] += time.perf_counter() - began


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
        return self.settings.block_slots if self.many_lines else self.settings.slots

    @property
    def only_sure(self) -> bool:
        """Whether nothing but a fill that may be shown is wanted."""
        return self.budget.min_confidence >= self.settings.show_threshold

    @property
    def search_floor(self) -> tuple[float, float] | None:
        """Early-reject thresholds: nats of a beam, evidence of a similar line; None when any fill is wanted."""
        return self.settings.promising if self.only_sure else None

    @property
    def plan(self) -> Plan:
        """The rules of denoising."""
        settings, budget = self.settings, self.budget
        return Plan(
            steps=settings.steps if budget.steps is None else min(budget.steps, settings.steps),
            t_min=settings.t_min,
            t_max=settings.t_max,
            entropy_bound=settings.entropy_bound,
            confidence_threshold=settings.confidence_threshold,
            # Likely lengths were chosen before, and a short gap has the least entropy.
            survivors=None if settings.layout == "clamped" else max(settings.keep, budget.candidates),
        )

    def rng(self, number: int) -> Rng:
        """The random numbers of the fill's block or piece of this number."""
        return Rng(self.budget.seed + number, self.backend.device)

    def order(self, ranked: list[Hypothesis]) -> list[Hypothesis]:
        """Hypotheses in their final order: what parses before what does not."""
        return self.checker.order(ranked, self.settings.ranking.syntax, self.budget.candidates)
