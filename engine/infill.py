"""Fill one hole, on the calling thread: propose, early exit, denoise canvases, rank, check the syntax, repair."""

from __future__ import annotations

from functools import cached_property

from midspan.engine.api import Budget, ContextBudget, Hole, Judge
from midspan.engine.backends.backend import CanvasBackend
from midspan.engine.hypotheses.beam_search import FillInTheMiddle
from midspan.engine.hypotheses.blocks import fill_blocks, fill_line
from midspan.engine.hypotheses.early_exit import ends_early
from midspan.engine.hypotheses.hypothesis import Hypothesis
from midspan.engine.hypotheses.proposals import propose
from midspan.engine.hypotheses.renoise import rewrite
from midspan.engine.hypotheses.repair import repair_draft
from midspan.engine.hypotheses.task import FillObserver, Infilling, Task
from midspan.engine.prefix_cache import PrefixCache
from midspan.engine.prompts.prompt import Layout, Prompt
from midspan.engine.settings import CheckpointSettings

# More tokens than a chat's question adds around the text.
ASKING_TOKENS = 256


class Infiller:
    """A backend, its prompt rules and the caches kept between fills; not for two threads at once."""

    def __init__(self, backend: CanvasBackend, prompt: Prompt, settings: CheckpointSettings) -> None:
        self.backend, self.prompt, self.settings = backend, prompt, settings
        self.judge: Judge | None = None
        self.context_budget: ContextBudget | None = None

    @cached_property
    def prefix(self) -> PrefixCache:
        """The cache of the prefix."""
        layout = self.settings.layout
        tokens = layout.context_tokens + layout.prefix_tokens + layout.suffix_tokens + ASKING_TOKENS
        return PrefixCache(self.backend, tokens)

    @cached_property
    def fim(self) -> FillInTheMiddle:
        """Reads and writes beams; never made for a checkpoint without any."""
        return FillInTheMiddle(self.backend, self.prompt)

    def reset(self) -> None:
        """Release all memory but the weights', as after a failure in the middle of a fill."""
        for name in ("prefix", "fim"):
            self.__dict__.pop(name, None)
        self.backend.release()

    def confidence(self, hypothesis: Hypothesis, layout: Layout) -> float:
        """The share of such fills that are right."""
        return hypothesis.confidence(self.settings.show.calibration)

    def infill(self, hole: Hole, budget: Budget, observer: FillObserver) -> Infilling:
        """Fill a hole, or renoise a share of its draft where it has a strength, or what it says is wrong."""
        task = Task.begin(self, hole, budget, observer)
        if hole.strength is not None:
            rewrite(task, hole.strength)
            return task.out
        if hole.wrong:
            repair_draft(task)
            return task.out
        task.out.proposals = propose(task)
        # A search that did not finish says nothing about the gap.
        unfinished = observer.interrupted() or observer.late()
        if task.many_lines:
            fill_blocks(task)
        elif unfinished or not ends_early(task):
            fill_line(task)
        return task.out
