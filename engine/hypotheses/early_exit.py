"""An early exit: where beams and lines near by make an answer sure, or hopeless, no canvas is denoised."""

from __future__ import annotations

from dataclasses import replace

from midspan.engine.api import Hole, Judge
from midspan.engine.hypotheses.ranking import Gap, Rivals, Scored, judged, rank_rivals
from midspan.engine.prompts.prompt import Layout, Prompt
from midspan.engine.settings import EarlyExit


class Checked:
    """A judge's verdicts on one hole's hypotheses; each is asked for once."""

    def __init__(self, judge: Judge | None, hole: Hole, prompt: Prompt, layout: Layout) -> None:
        self._judge, self._hole, self._prompt, self._layout = judge, hole, prompt, layout
        self._errors: dict[Gap, tuple[tuple[int, int], ...]] = {}
        self._texts: dict[Gap, str] = {}

    def text(self, ids: Gap) -> str:
        """What a hypothesis inserts."""
        if ids not in self._texts:
            self._texts[ids] = self._prompt.text(list(ids), self._layout)
        return self._texts[ids]

    def errors(self, ids: Gap) -> tuple[tuple[int, int], ...]:
        """Where the inserted text is wrong, as character ranges of it; none without a judge."""
        if self._judge is None:
            return ()
        if ids not in self._errors:
            self._errors[ids] = self._judge(self._hole, self.text(ids))
        return self._errors[ids]

    def parses(self, one: Scored) -> bool:
        """Whether nothing is wrong with a hypothesis."""
        return not self.errors(one.ids)

    def ordered(self, ranked: list[Scored], penalty: float, wanted: int) -> list[Scored]:
        """See `judged`; known are the `wanted` first texts to insert, and how far the last stands before the next."""

        def enough(order: list[Scored]) -> bool:
            return len({text for one in order if (text := self.text(one.ids)).strip()}) > wanted

        return judged(ranked, self.parses, penalty, enough)


def early(rivals: Rivals, rule: EarlyExit, checked: Checked, least: float) -> tuple[list[Scored] | None, Rivals]:
    """The fill of which canvases would change nothing, if that is sure and has `least` confidence.

    An empty list where they would not make it sure, None where they have to be asked; and the rivals as they were read.
    """
    ranked, read = rank_rivals(rivals, rule.ranking)
    ranked = judged(ranked, checked.parses, rule.ranking.syntax, lambda order: len(order) > 1)
    confidence = ranked[0].confidence(rule.calibration) if ranked else 0.0
    if confidence < rule.reject:
        return [], read
    return ([replace(ranked[0], early=confidence)] if confidence >= max(rule.accept, least) else None), read
