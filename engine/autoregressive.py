"""The autoregressive twin of infill.py: one hole filled from left to right, for a checkpoint of layout `fim`.

Same network, read causally only, as beams.py says. The search keeps as many hypotheses as a canvas checkpoint denoises.
"""

from __future__ import annotations

import time

import torch

from midspan.engine.api import Budget, Cell, Frame, GapKind, Hole, Judge
from midspan.engine.hypotheses.beam_search import Beam, FillInTheMiddle, known
from midspan.engine.hypotheses.branches import Branches
from midspan.engine.hypotheses.early_exit import Checked
from midspan.engine.hypotheses.ranking import Scored
from midspan.engine.infill import Infilling, Watch
from midspan.engine.model import DiffusionGemma
from midspan.engine.prefix_cache import PrefixCache
from midspan.engine.prompts.prompt import Prompt
from midspan.engine.settings import FEATURES, CheckpointSettings

# A gap of many lines may grow to so many times the longest gap that was trained on.
LONGEST_SPAN = 4
MAX_BEAMS = 8


class Autoregressive:
    """A model, its prompt rules and its prefix cache, as Infiller; not for two threads at once."""

    def __init__(self, model: DiffusionGemma, prompt: Prompt, settings: CheckpointSettings) -> None:
        self.model, self.prompt, self.settings = model, prompt, settings
        self.fim = FillInTheMiddle(model, prompt)
        self.judge: Judge | None = None

    @property
    def prefix(self) -> PrefixCache:
        """What is kept from fill to fill."""
        return self.fim.prefix

    def reset(self) -> None:
        """Forget the prefix, as after a failure halfway through a fill."""
        self.fim.reset()

    @torch.inference_mode()
    def infill(self, hole: Hole, budget: Budget, watch: Watch) -> Infilling:
        """Fill a hole; `budget.steps` counts denoise steps and means nothing here, a token is a step.

        Raises ValueError for a hole with a strength: what is written from left to right has nothing to renoise.
        """
        if hole.strength is not None:
            raise ValueError("a checkpoint of layout fim rewrites no part of a draft; leave the strength out")
        out = Infilling(layout=self.prompt.lay_out(hole), ranked=[])
        if watch.interrupted():
            out.stopped = "cancelled"
            return out
        clock = time.perf_counter()
        self.fim.encode(out.layout)
        out.encode_s = time.perf_counter() - clock
        clock = time.perf_counter()
        branches = Branches(self.model, self.prefix.memory)
        try:
            found = [_scored(beam) for beam in self._search(out, branches, hole.kind, budget, watch)]
            checked = Checked(self.judge, hole, self.prompt, out.layout)
            out.ranked = checked.ordered(found, self.settings.hypotheses.ranking.syntax, budget.candidates)
        finally:
            branches.drop()
        out.denoise_s = time.perf_counter() - clock
        return out

    def _search(self, out: Infilling, branches: Branches, kind: GapKind, budget: Budget, watch: Watch) -> list[Beam]:
        """Whole hypotheses, the likeliest first: until the best are settled, the gap is too long or the time is out."""
        settings = self.settings
        width = max(settings.denoise.draws * len(settings.layout.slots), min(MAX_BEAMS, budget.candidates))
        limit = max(settings.layout.slots) * (LONGEST_SPAN if kind in self.prompt.many_lines else 1)
        ended = list[Beam]()
        for beams, ended in self.fim.steps(branches, out.layout, kind, width, limit):
            out.steps += 1
            done = known(beams, ended, min(width, budget.candidates))
            if watch.on_frame is not None:
                watch.on_frame(self._frame(out, limit, ended[0] if done else beams[0], done))
            if watch.interrupted():
                out.stopped = "cancelled"
                return []
            if done or watch.late():
                out.stopped = "settled" if done else "deadline"
                break
        return ended

    def _frame(self, out: Infilling, limit: int, beam: Beam, done: bool) -> Frame:
        """The likeliest hypothesis so far as a person would see it."""
        ids = list(beam.ids)
        cells = tuple(Cell(text=self.prompt.cell_text(token), state="settled") for token in ids)
        text = self.prompt.text(ids, out.layout)
        return Frame(step=out.steps, steps=limit, text=text, cells=cells, settled=done)


def _scored(beam: Beam) -> Scored:
    """As ranking and calibration take it; the end stands where a canvas checkpoint's suffix does."""
    values, end = beam.values, beam.end or 0.0
    known = {
        "gap_mean": sum(values) / len(values),
        "gap_min": min(values),
        "gap_sum": sum(values),
        "suffix_mean": end,
        "suffix_min": end,
    }
    features = tuple(known.get(name, 0.0) for name in FEATURES)
    likelihood = beam.log_probability
    return Scored(ids=beam.ids, log_probability=likelihood, standing=likelihood, features=features, ended=True)
