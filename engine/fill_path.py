"""How one family of checkpoints fills holes, as the worker needs it, and the candidates that it makes of a fill."""

from __future__ import annotations

from typing import Protocol

from midspan.engine.api import Budget, Candidate, ContextBudget, Hole, Judge
from midspan.engine.backends.backend import Backend
from midspan.engine.hypotheses.hypothesis import Hypothesis
from midspan.engine.hypotheses.task import FillObserver, Infilling
from midspan.engine.marks_settings import MarksSettings
from midspan.engine.prefix_cache import PrefixCache
from midspan.engine.prompts.prompt import Layout, Lettered
from midspan.engine.settings import CheckpointSettings


class FillPath(Protocol):
    """A backend, prompt rules and settings: they fill holes on the calling thread; not for two threads at once.

    See infill.py and left_to_right.py.
    """

    judge: Judge | None

    @property
    def backend(self) -> Backend:
        """The network."""

    @property
    def prompt(self) -> Lettered:
        """The tokenizer and its layout of holes."""

    @property
    def settings(self) -> CheckpointSettings | MarksSettings:
        """The checkpoint's settings."""

    @property
    def context_budget(self) -> ContextBudget | None:
        """How much text from elsewhere there is time for; None where that was not measured."""

    @property
    def prefix(self) -> PrefixCache:
        """The cache kept between fills."""

    def infill(self, hole: Hole, budget: Budget, observer: FillObserver) -> Infilling:
        """Fill a hole."""

    def confidence(self, hypothesis: Hypothesis, layout: Layout) -> float:
        """The share of such fills of such a gap that are right, 0 to 1."""

    def reset(self) -> None:
        """Release all memory but the weights', as after a failure in the middle of a fill."""


def candidates(path: FillPath, infilling: Infilling) -> list[Candidate]:
    """Distinct texts with something to insert, the likeliest first."""
    found: dict[str, Candidate] = {}
    for hypothesis in infilling.ranked:
        text = path.prompt.text(list(hypothesis.ids), infilling.layout)
        if text.strip() and text not in found:
            found[text] = Candidate(text=text, confidence=path.confidence(hypothesis, infilling.layout))
    return list(found.values())
