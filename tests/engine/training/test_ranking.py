"""The fit of the ranking finds known weights, and is written where the engine reads it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from midspan.engine.api import Budget, Hole
from midspan.engine.infill import Infiller
from midspan.engine.settings import Ranking
from midspan.engine.training.holes import HeldOut
from midspan.engine.training.ranking import Choice, accuracy, fit, fit_folder, observe, signs_of
from midspan.engine.weights.midspan_json import read_settings
from tests.engine.hypotheses.test_beam_search import HOLE, PATIENT
from tests.engine.tiny import rewrite_settings, tiny_checkpoint, tiny_infiller


def choices_by(weights: list[float], count: int) -> list[Choice]:
    """Holes of five hypotheses each; the right one is sampled with logits from these weights."""
    generator = torch.Generator().manual_seed(0)
    out = []
    for _ in range(count):
        signs = torch.randn(5, len(weights), generator=generator)
        chances = (signs @ torch.tensor(weights)).softmax(dim=0)
        out.append(Choice(signs=signs, right=int(torch.multinomial(chances, 1, generator=generator))))
    return out


def test_the_weights_that_made_the_choices_are_found_again() -> None:
    found = fit(choices_by([1.0, 0.0, 3.0, 2.0, 0.5, 0.0, 1.5, 4.0], 4000))
    assert [found.gap, found.evidence, found.fim, found.root] == pytest.approx([1.0, 3.0, 2.0, 1.5], rel=0.1)
    assert found.syntax == pytest.approx(4.0, rel=0.1)
    assert found.suffix == pytest.approx(0.0, abs=0.05)


def test_a_hole_without_a_right_hypothesis_teaches_nothing_and_counts_as_wrong() -> None:
    choices = choices_by([1.0, 0.0, 3.0, 2.0, 0.5, 0.0, 1.5, 4.0], 100)
    lost = [*choices, *(Choice(signs=choice.signs, right=None) for choice in choices)]
    assert fit(lost) == fit(choices)
    assert accuracy(lost, fit(choices)) == accuracy(choices, fit(choices)) / 2 > 0.2


def test_signs_times_weights_are_the_score_that_the_engine_ranks_by(tmp_path: Path) -> None:
    ranking = Ranking(gap=0.5, suffix=2.0, evidence=3.0, fim=0.25, end=0.75, agreed=4.0, root=5.0, syntax=7.0)
    infiller: Infiller = tiny_infiller(tmp_path, beams=2, similar_lines=4, ranking=ranking)
    weights = torch.tensor([0.5, 2.0, 3.0, 0.25, 0.75, 4.0, 5.0, 0.0])
    out = infiller.infill(HOLE, Budget(candidates=4), PATIENT)
    assert len(out.ranked) > 3
    for one in out.ranked:
        assert float(torch.tensor(signs_of(one)) @ weights) == pytest.approx(one.score, abs=1e-3)


def test_every_hypothesis_has_its_syntax_checked_for_the_fit(tmp_path: Path) -> None:
    """The engine checks only the likeliest; for the fit the others' errors count as much."""
    texts = ["x = 1\nab\n" * 6, "total = one + two\n" * 3]
    (tmp_path / "heldout.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    # If an error weighs nothing, the engine would check only the first two.
    infiller = tiny_infiller(tmp_path, beams=4, ranking=Ranking(syntax=0.0))

    def wrong(hole: Hole, text: str) -> tuple[tuple[int, int], ...]:
        return ((0, 1),)

    infiller.judge = wrong
    choices = observe(infiller, HeldOut(file=tmp_path / "heldout.jsonl", count=6, seed=0))
    assert max(len(choice.signs) for choice in choices) > 2
    for choice in choices:
        assert choice.signs[:, -1].tolist() == [-1.0] * len(choice.signs)


def test_the_fit_is_written_where_the_engine_reads_it(tmp_path: Path) -> None:
    tiny_checkpoint(tmp_path)
    texts = ["x = 1\nab\n" * 6, "total = one + two\n" * 3]
    (tmp_path / "heldout.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    rewrite_settings(tmp_path, similar_lines=4)
    row = fit_folder(tmp_path, HeldOut(file=tmp_path / "heldout.jsonl", count=20, seed=0), judge=None)
    assert read_settings(tmp_path).hypotheses.ranking == Ranking(**row["ranking"])  # type: ignore[arg-type]
    # Every line has a similar line near by.
    assert row["any"] > 0.3  # type: ignore[operator]
