"""A hole filled with canvases, start to finish on the calling thread."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

from midspan.engine.api import Budget, Hole, Judge
from midspan.engine.backends.backend import CanvasBackend
from midspan.engine.hypotheses.beam_search import FillInTheMiddle
from midspan.engine.hypotheses.canvases import Block
from midspan.engine.hypotheses.early_exit import ends_early
from midspan.engine.hypotheses.hypothesis import Hypothesis, Proposals
from midspan.engine.hypotheses.proposals import propose
from midspan.engine.hypotheses.renoise import rewrite
from midspan.engine.hypotheses.repair import repair
from midspan.engine.hypotheses.syntax import SyntaxChecker
from midspan.engine.hypotheses.task import FillObserver, Infilling, Task
from midspan.engine.prefix_cache import PrefixCache
from midspan.engine.prompts.prompt import Prompt
from midspan.engine.settings import CheckpointSettings

MAX_BLOCKS = 4
# What a chat's question says around the text, and more.
ASKING_TOKENS = 256


class Infiller:
    """A backend, its prompt rules and what is kept from fill to fill; not for two threads at once."""

    def __init__(self, backend: CanvasBackend, prompt: Prompt, settings: CheckpointSettings) -> None:
        self.backend, self.prompt, self.settings = backend, prompt, settings
        self.judge: Judge | None = None

    @cached_property
    def prefix(self) -> PrefixCache:
        """The memory of the prefix."""
        settings = self.settings
        tokens = settings.context_tokens + settings.prefix_tokens + settings.suffix_tokens + ASKING_TOKENS
        return PrefixCache(self.backend, tokens)

    @cached_property
    def fim(self) -> FillInTheMiddle:
        """What writes beams; a checkpoint without any never has the memory for it."""
        return FillInTheMiddle(self.backend, self.prompt)

    def reset(self) -> None:
        """Let go of all memory but the weights', as after a failure halfway through a fill; the next one takes it."""
        for name in ("prefix", "fim"):
            self.__dict__.pop(name, None)
        self.backend.release()

    def infill(self, hole: Hole, budget: Budget, observer: FillObserver) -> Infilling:
        """Fill a hole, or renoise a share of its draft where it has a strength."""
        task = self.begin(hole, budget, observer)
        if hole.strength is not None:
            rewrite(task, hole.strength)
            return task.out
        task.out.proposals = propose(task)
        # A search that was broken off says nothing of the gap.
        broken_off = observer.interrupted() or observer.late()
        if task.many_lines:
            fill_blocks(task)
        elif broken_off or not ends_early(task):
            fill_line(task)
        return task.out

    def begin(self, hole: Hole, budget: Budget, observer: FillObserver) -> Task:
        """The hole laid out, nothing done yet."""
        layout = self.prompt.lay_out(hole)
        return Task(
            backend=self.backend,
            prompt=self.prompt,
            settings=self.settings,
            prefix=self.prefix,
            fim=self.fim if self.settings.beams else None,
            hole=hole,
            budget=budget,
            observer=observer,
            checker=SyntaxChecker(self.judge, hole, self.prompt, layout),
            out=Infilling(layout=layout),
        )


def fill_line(task: Task) -> None:
    """Fill a gap within a line: one block; where nothing parses, the best hypothesis is repaired."""
    out, observer = task.out, task.observer
    if observer.interrupted():
        out.stopped = "cancelled"
        return
    block = Block(task, task.layout)
    ranked = block.fill(out.proposals)
    if ranked:
        ranked = task.order(ranked)
        # Not where nothing but a sure fill is wanted: a repaired one never is.
        good_enough = ranked[0].parses or task.search_floor is not None
        if not (good_enough or out.stopped == "deadline" or observer.late()):
            ranked = repair(block, ranked)
    if out.stopped != "cancelled":
        out.ranked = ranked


def fill_blocks(task: Task) -> None:
    """Fill a gap of many lines; what no canvas has ended goes on in the next block."""
    out, layout = task.out, task.layout
    for number in range(MAX_BLOCKS if task.settings.layout != "clamped" else 1):
        if task.observer.interrupted():
            out.stopped = "cancelled"
            return
        ranked = Block(task, layout, number).fill(out.proposals)
        if out.stopped == "cancelled":
            return
        out.ranked = _behind(out.ranked, ranked)
        if not ranked or ranked[0].ended or out.stopped == "deadline":
            break
        # They stood for the whole of the gap.
        out.proposals = Proposals()
        layout = replace(layout, prefix=[*layout.prefix, *ranked[0].ids], heal="")
    if out.ranked:
        out.ranked = task.order(out.ranked)


def _behind(ranked: list[Hypothesis], block: list[Hypothesis]) -> list[Hypothesis]:
    """A block's hypotheses behind the best of the blocks before it."""
    return [ranked[0].followed_by(one) for one in block] if ranked else block
