"""What a repair comes to: `python -m benchmarks.repairs [--count 100] [--checkpoint embedded]`.

The true text of gaps in Python's standard library gets one name misspelt, of which the validator says that nothing
defines it. The engine renoises that name; up to three repairs come back, each of which is tried as in an editor. Prints
one JSON object: how many gaps had a repair that `passes`, the `true` text among them, one sure enough to be `shown`
unasked, and how many of those shown are `right`; with milliseconds, behind a fill of the same gap, as in life.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from benchmarks.validators import Gap, misspelt, python_gaps
from midspan.engine.api import Budget, Engine
from midspan.server.postprocess.trim import trim
from midspan.server.statistics import quantile
from midspan.server.text.documents import Document
from midspan.server.text.hole import build_hole
from midspan.server.text.syntax_check import load_with_syntax
from midspan.server.text.trial import Trial
from midspan.server.validation.remedies import CANDIDATES
from midspan.server.validation.splice import Objection
from midspan.server.validation.validators import judged


def damaged(chance: random.Random) -> Iterator[tuple[Gap, Document, str, Objection]]:
    """Gaps of one line with a text in which a name is wrong, and what the validator says of it."""
    for gap in python_gaps(chance):
        text = None if "\n" in gap.text else misspelt(chance, gap)
        if text is None:
            continue
        document = Document(gap.uri, gap.language, 1, gap.before + gap.after)
        document.parse(math.inf)
        verdict = judged(trial_of(gap, document), [text])
        if verdict.objected and verdict.objected[0][1].spans:
            yield gap, document, text, verdict.objected[0][1]


def trial_of(gap: Gap, document: Document) -> Trial:
    """The gap, to be tried."""
    place = gap.before.count("\n"), len(gap.before) - gap.before.rfind("\n") - 1
    return Trial(document, place, place)


def repaired(engine: Engine, gap: Gap, document: Document, text: str, wrong: Objection) -> tuple[Counter[str], float]:
    """What one repair came to, and its milliseconds."""
    trial, threshold = trial_of(gap, document), engine.about.show_threshold
    hole, budget = build_hole(document, trial.start), Budget(candidates=CANDIDATES, min_confidence=threshold)
    engine.fill(hole, budget).result()
    began = time.perf_counter()
    fill = engine.fill(replace(hole, draft=text, wrong=wrong.spans), budget).result()
    took = 1000 * (time.perf_counter() - began)
    confidences = {whole: one.confidence for one in fill.candidates if (whole := trim(hole, one.text))}
    sure = judged(trial, list(confidences)).sure
    shown = [one for one in sure if confidences[one] >= threshold][:1]
    found = {"passes": bool(sure), "true": gap.text in sure, "shown": bool(shown), "right": shown == [gap.text]}
    return Counter({name: int(value) for name, value in found.items()}), took


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--checkpoint", default="embedded")
    arguments = parser.parse_args()
    engine = load_with_syntax(arguments.checkpoint, "cpu")
    gaps, found, ms = damaged(random.Random(0)), Counter[str](), list[float]()
    for _ in range(arguments.count):
        outcome, took = repaired(engine, *next(gaps))
        found.update(outcome)
        ms.append(took)
    engine.close()
    took_ms = {"p50": round(quantile(ms, 0.5), 1), "p90": round(quantile(ms, 0.9), 1)}
    sys.stdout.write(json.dumps({"count": arguments.count, **found, "ms": took_ms}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
