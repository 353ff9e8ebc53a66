"""Fill one hole, on the calling thread: propose, early exit, denoise canvases, rank, check the syntax, repair."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

from midspan.engine.api import Budget, Hole, Judge
from midspan.engine.backends.backend import CanvasBackend
from midspan.engine.hypotheses.beam_search import FillInTheMiddle
from midspan.engine.hypotheses.canvases import denoise_block
from midspan.engine.hypotheses.early_exit import ends_early
from midspan.engine.hypotheses.hypothesis import Hypothesis, Proposals
from midspan.engine.hypotheses.proposals import propose
from midspan.engine.hypotheses.renoise import rewrite
from midspan.engine.hypotheses.repair import repair
from midspan.engine.hypotheses.task import FillObserver, Infilling, Task
from midspan.engine.prefix_cache import PrefixCache
from midspan.engine.prompts.prompt import Prompt
from midspan.engine.settings import CheckpointSettings

MAX_BLOCKS = 4
# More tokens than a chat's question adds around the text.
ASKING_TOKENS = 256


class Infiller:
    """A backend, its prompt rules and the caches kept between fills; not for two threads at once."""

    def __init__(self, backend: CanvasBackend, prompt: Prompt, settings: CheckpointSettings) -> None:
        self.backend, self.prompt, self.settings = backend, prompt, settings
        self.judge: Judge | None = None

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

    def confidence(self, hypothesis: Hypothesis) -> float:
        """The share of such fills that are right."""
        return hypothesis.confidence(self.settings.show.calibration)

    def infill(self, hole: Hole, budget: Budget, observer: FillObserver) -> Infilling:
        """Fill a hole, or renoise a share of its draft where it has a strength."""
        task = Task.begin(self, hole, budget, observer)
        if hole.strength is not None:
            rewrite(task, hole.strength)
            return task.out
        task.out.proposals = propose(task)
        # A search that did not finish says nothing about the gap.
        unfinished = observer.interrupted() or observer.late()
        if task.many_lines:
            fill_blocks(task)
        elif unfinished or not ends_early(task):
            fill_line(task)
        return task.out


def fill_line(task: Task) -> None:
    """Fill a gap within a line by one block; if no hypothesis parses, repair the best."""
    out, observer = task.out, task.observer
    if observer.interrupted():
        out.stopped = "cancelled"
        return
    block = denoise_block(task, task.layout)
    ranked = block.ranked
    # A repaired fill is never confident enough where only a sure one is wanted.
    good_enough = not ranked or ranked[0].parses or task.search_floor is not None
    if not (good_enough or out.stopped == "deadline" or observer.late()):
        ranked = repair(block)
    if out.stopped != "cancelled":
        out.ranked = ranked


def fill_blocks(task: Task) -> None:
    """Fill a gap of many lines block by block, until a block ends the gap."""
    out, layout = task.out, task.layout
    for number in range(MAX_BLOCKS if task.settings.layout.kind != "clamped" else 1):
        if task.observer.interrupted():
            out.stopped = "cancelled"
            return
        ranked = denoise_block(task, layout, number).ranked
        if out.stopped == "cancelled":
            return
        out.ranked = _behind(out.ranked, ranked)
        if not ranked or ranked[0].ended or out.stopped == "deadline":
            break
        # Proposals are for the whole gap.
        out.proposals = Proposals()
        layout = replace(layout, prefix=[*layout.prefix, *ranked[0].ids], heal="")
    if out.ranked:
        out.ranked = task.checker.order(out.ranked)


def _behind(ranked: list[Hypothesis], block: list[Hypothesis]) -> list[Hypothesis]:
    """A block's hypotheses behind the best of the blocks before it."""
    return [ranked[0].followed_by(one) for one in block] if ranked else block
