"""The final order of hypotheses: a judge checks their syntax, and an error costs them a penalty."""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import zip_longest

from midspan.engine.api import Hole, Judge
from midspan.engine.hypotheses.hypothesis import Gap, Hypothesis
from midspan.engine.prompts.prompt import Layout, Lettered
from midspan.engine.settings import Ranking

# The largest margin (nats) between two hypotheses that a confidence distinguishes.
FARTHEST = 10.0


@dataclass(slots=True)
class SyntaxChecker:
    """Checks the syntax of one hole's hypotheses; the judge is asked once for each.

    An error costs `penalty` nats. No more are checked than it takes to know the first `wanted` texts.
    """

    judge: Judge | None
    hole: Hole
    prompt: Lettered
    layout: Layout
    penalty: float = Ranking().syntax
    wanted: int = 1
    _errors: dict[Gap, tuple[tuple[int, int], ...]] = field(default_factory=dict, init=False, repr=False)
    _texts: dict[Gap, str] = field(default_factory=dict, init=False, repr=False)

    def text(self, ids: Gap) -> str:
        """What a hypothesis inserts."""
        if ids not in self._texts:
            self._texts[ids] = self.prompt.text(list(ids), self.layout)
        return self._texts[ids]

    def errors(self, ids: Gap) -> tuple[tuple[int, int], ...]:
        """Character ranges of the inserted text that are wrong; none without a judge."""
        if self.judge is None:
            return ()
        if ids not in self._errors:
            self._errors[ids] = self.judge(self.hole, self.text(ids))
        return self._errors[ids]

    def parses(self, one: Hypothesis) -> bool:
        """Whether a hypothesis has no syntax error."""
        return not self.errors(one.ids)

    def order(self, ranked: list[Hypothesis]) -> list[Hypothesis]:
        """See `with_syntax`; checks until the first `wanted` texts and the margin behind the last of them are known."""

        def enough(order: list[Hypothesis]) -> bool:
            return len({text for one in order if (text := self.text(one.ids)).strip()}) > self.wanted

        return with_syntax(ranked, self.parses, self.penalty, enough)


def with_syntax(
    ranked: list[Hypothesis],
    parses: Callable[[Hypothesis], bool],
    penalty: float = Ranking().syntax,
    enough: Callable[[list[Hypothesis]], bool] = lambda order: False,
) -> list[Hypothesis]:
    """Hypotheses in their final order, with `margin` and `parses`; a syntax error costs `penalty` nats.

    The likeliest are checked first, until `enough` of the order is known, because a parse may cost as much as a denoise
    step. The rest follows unchecked.
    """

    def score(one: Hypothesis) -> float:
        return one.score - (0.0 if one.parses else penalty)

    left = sorted(ranked, key=lambda one: one.score, reverse=True)
    wrong, order = list[Hypothesis](), list[Hypothesis]()
    while (left or wrong) and not enough(order):
        if wrong and (not left or score(wrong[0]) > left[0].score):
            order.append(wrong.pop(0))
        elif parses(one := left.pop(0)):
            order.append(replace(one, parses=True))
        else:
            insort(wrong, replace(one, parses=False), key=lambda one: -score(one))
    order += sorted((*wrong, *left), key=score, reverse=True)
    out = []
    for one, after in zip_longest(order, order[1:]):
        margin = FARTHEST if after is None else min(FARTHEST, score(one) - score(after))
        out.append(replace(one, features=(*one.features[:-2], margin, float(one.parses))))
    return out
