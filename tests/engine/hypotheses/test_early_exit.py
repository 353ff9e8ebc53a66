"""The early exit: a gap whose best proposal is sure or hopeless ends before a canvas is denoised; no other does."""

from __future__ import annotations

import json
import math
import re
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from midspan.engine.api import Budget, CheckpointError, Hole
from midspan.engine.cache import Cache
from midspan.engine.canvas import Canvas
from midspan.engine.denoise import Denoiser
from midspan.engine.engine import Engine
from midspan.engine.hypotheses.beam_search import Beam
from midspan.engine.hypotheses.early_exit import decide, rank_proposals
from midspan.engine.hypotheses.hypothesis import Hypothesis, Proposals
from midspan.engine.hypotheses.syntax import SyntaxChecker, with_syntax
from midspan.engine.hypotheses.task import FillObserver
from midspan.engine.infill import Infiller
from midspan.engine.settings import FEATURES, EarlyExit, Ranking
from midspan.engine.training.early_exit import Seen, best_of, fit, fit_folder
from midspan.engine.training.holes import HeldOut
from midspan.engine.training.ranking import WEIGHTS, Choice
from midspan.engine.weights.midspan_json import read_settings
from tests.engine.hypotheses.test_beam_search import HOLE, PATIENT
from tests.engine.tiny import changed, rewrite_settings, tiny_checkpoint, tiny_infiller

# The confidence is the logistic of the best proposal's FIM log-probability, plus four.
BY_FIM = (4.0, *(float(name == "fim_sum") for name in FEATURES))
RULE = EarlyExit(ranking=Ranking(gap=0, suffix=0, fim=1, end=1, evidence=2), calibration=BY_FIM, reject=0, accept=1)


def beam(ids: tuple[int, ...], nats: float) -> Beam:
    return Beam(ids=ids, values=(nats,), end=-0.5)


@pytest.fixture
def infiller(tmp_path: Path) -> Infiller:
    made = tiny_infiller(tmp_path, beams=4, similar_lines=4, early_exit=RULE)
    made.denoised = list[int]()  # type: ignore[attr-defined]
    bind = made.backend.bind

    def watched(cache: Cache, canvas: Canvas) -> Denoiser:
        made.denoised.append(len(canvas.ids))  # type: ignore[attr-defined]
        return bind(cache, canvas)

    made.backend.bind = watched  # type: ignore[method-assign]
    return made


def denoised(infiller: Infiller) -> list[int]:
    """The number of canvases in each batch since the last call."""
    found: list[int] = infiller.denoised  # type: ignore[attr-defined]
    out = list(found)
    found.clear()
    return out


def checked(wrong: tuple[int, ...] = (), asked: list[str] | None = None) -> SyntaxChecker:
    """A syntax check by which the text of `wrong` does not parse; checked texts are appended to `asked`."""

    class Spelled:
        def text(self, ids: list[int], layout: object) -> str:
            return str(ids)

    def judge(hole: Hole, text: str) -> tuple[tuple[int, int], ...]:
        if asked is not None:
            asked.append(text)
        return ((0, 1),) if text == str(list(wrong)) else ()

    return SyntaxChecker(judge, HOLE, Spelled(), None)  # type: ignore[arg-type]


@given(
    nats=st.floats(-12, 0),
    reject=st.floats(0, 1),
    width=st.floats(0, 1),
    least=st.floats(0, 1),
)
def test_a_gap_ends_early_above_accept_or_below_reject_and_not_between(
    nats: float, reject: float, width: float, least: float
) -> None:
    rule = replace(RULE, reject=reject, accept=reject + (1 - reject) * width)
    found, _ = decide(Proposals(beams={(9,): beam((9,), nats)}, read=lambda gaps: []), rule, checked(), least)
    confidence = 1 / (1 + math.exp(-(4 + nats)))
    if confidence < reject:
        assert found == []
    elif confidence >= rule.accept and confidence >= least:
        assert found is not None
        assert found[0].ids == (9,)
        # An early fill has its own confidence, whatever the calibration of fills with canvases.
        assert found[0].confidence((9.0,) * (len(FEATURES) + 1)) == pytest.approx(confidence)
    else:
        assert found is None


def test_similar_lines_are_scored_once_and_ranked_with_beams() -> None:
    asked = list[list[tuple[int, ...]]]()

    def read(gaps: list[tuple[int, ...]]) -> list[Beam]:
        asked.append(gaps)
        return [beam(gap, -3.0) for gap in gaps]

    proposals = Proposals(similar_lines={(7,): 2.0, (9,): 0.1}, beams={(9,): beam((9,), -1.5)}, read=read)
    ranked, known = rank_proposals(proposals, RULE.ranking)
    assert [one.ids for one in ranked] == [(7,), (9,)]
    assert [one.score for one in ranked] == pytest.approx([-3.5 + 4.0, -2.0 + 0.2])
    both = [one.features[FEATURES.index("similar_root")] for one in ranked]
    assert both == pytest.approx([2.0 * math.exp(-3.5 / 2), 0.1 * math.exp(-2.0 / 2)])
    assert known.read_all([(7,), (9,), (5,)])[(5,)] == beam((5,), -3.0)
    assert asked == [[(7,)], [(5,)]]


def test_a_fill_that_does_not_parse_is_not_accepted_and_each_text_is_checked_once() -> None:
    asked = list[str]()
    verdicts = checked((9,), asked)
    proposals = Proposals(beams={(9,): beam((9,), -0.1), (5,): beam((5,), -2.0)}, read=lambda gaps: [])
    found, _ = decide(proposals, replace(RULE, accept=0.5), verdicts, 0.0)
    assert found is not None
    assert found[0].ids == (5,)
    decide(proposals, RULE, verdicts, 0.0)
    assert sorted(asked) == ["[5]", "[9]"]
    assert SyntaxChecker(None, HOLE, None, None).errors((9,)) == ()  # type: ignore[arg-type]


def test_proposals_too_far_below_the_best_are_not_checked() -> None:
    asked = list[str]()
    beams: dict[tuple[int, ...], Beam] = {(number,): beam((number,), -float(number)) for number in range(1, 6)}
    found, _ = decide(Proposals(beams=beams, read=lambda gaps: []), replace(RULE, accept=0.5), checked((), asked), 0.0)
    assert found is not None
    assert asked == ["[1]", "[2]"]


def hypotheses(scores: list[float]) -> list[Hypothesis]:
    features = (0.0,) * len(FEATURES)
    return [
        Hypothesis(ids=(number,), log_probability=at, score=at, features=features, ended=True)
        for number, at in enumerate(scores)
    ]


@given(
    scores=st.lists(st.integers(-20, 0).map(float), min_size=1, max_size=8, unique=True),
    wrong=st.sets(st.integers(0, 7)),
    penalty=st.integers(0, 15).map(lambda whole: whole + 0.5),
    wanted=st.integers(1, 4),
)
def test_the_first_hypotheses_are_as_if_all_had_been_checked(
    scores: list[float], wrong: set[int], penalty: float, wanted: int
) -> None:
    found, asked = hypotheses(scores), list[int]()

    def parses(one: Hypothesis) -> bool:
        asked.append(one.ids[0])
        return one.ids[0] not in wrong

    whole = with_syntax(found, parses, penalty)
    assert sorted(asked) == list(range(len(found)))
    ends = {one.ids: one.score - penalty * (one.ids[0] in wrong) for one in found}
    assert [one.ids for one in whole] == sorted(ends, key=lambda ids: -ends[ids])
    asked.clear()
    some = with_syntax(found, parses, penalty, lambda order: len(order) > wanted)
    assert some[:wanted] == whole[:wanted]
    assert {one.ids for one in some} == {one.ids for one in whole}
    # A hypothesis below the last wanted one that parses is not checked.
    best = sorted((at for number, at in enumerate(scores) if number not in wrong), reverse=True)
    if len(best) > wanted:
        assert all(scores[number] >= best[wanted] for number in asked)


def test_hypotheses_are_checked_until_enough_distinct_texts_are_known() -> None:
    class Spelled:
        def text(self, ids: list[int], layout: object) -> str:
            return {0: "  ", 1: "same", 2: "same"}.get(ids[0], str(ids))

    asked = list[str]()

    def judge(hole: Hole, text: str) -> tuple[tuple[int, int], ...]:
        asked.append(text)
        return ()

    verdicts = SyntaxChecker(judge, HOLE, Spelled(), None, 3.0)  # type: ignore[arg-type]
    ranked = verdicts.order(hypotheses([-1.0, -2.0, -3.0, -4.0, -5.0, -6.0]))
    assert asked == ["  ", "same", "same", "[3]"]
    assert [one.features[-2] for one in ranked][:4] == [1.0] * 4


def test_without_proposals_a_gap_is_given_up_only_if_reject_is_above_zero() -> None:
    assert decide(Proposals(), RULE, checked(), 0.0)[0] is None
    assert decide(Proposals(), replace(RULE, reject=0.1), checked(), 0.0)[0] == []


def test_no_canvas_is_denoised_after_an_early_exit(infiller: Infiller) -> None:
    least = infiller.settings.show.show_threshold
    sure = replace(RULE, accept=least, calibration=(9.0, *BY_FIM[1:]))
    infiller.settings = changed(infiller.settings, early_exit=sure)
    out = infiller.infill(HOLE, Budget(min_confidence=least), PATIENT)
    assert (len(out.ranked), out.stopped, out.steps, denoised(infiller)) == (1, "settled", 0, [])
    assert out.ranked[0].early_confidence is not None
    infiller.settings = changed(infiller.settings, early_exit=replace(RULE, reject=1.0))
    out = infiller.infill(HOLE, Budget(min_confidence=least), PATIENT)
    assert (out.ranked, out.stopped, denoised(infiller)) == ([], "empty", [])


def test_between_the_bounds_the_fill_is_the_same_as_without_an_early_exit(infiller: Infiller) -> None:
    between = infiller.infill(HOLE, Budget(min_confidence=infiller.settings.show.show_threshold), PATIENT)
    assert denoised(infiller)
    infiller.settings = changed(infiller.settings, early_exit=None)
    plain = infiller.infill(HOLE, Budget(min_confidence=infiller.settings.show.show_threshold), PATIENT)
    assert [one.ids for one in between.ranked] == [one.ids for one in plain.ranked]
    for mine, theirs in zip(between.ranked, plain.ranked, strict=True):
        assert mine.features == pytest.approx(theirs.features, abs=1e-3)


@pytest.mark.parametrize("budget", [Budget(), Budget(min_confidence=0.5, candidates=3)])
def test_requests_for_more_than_one_sure_fill_get_canvases(infiller: Infiller, budget: Budget) -> None:
    infiller.settings = changed(infiller.settings, early_exit=replace(RULE, reject=1.0))
    assert infiller.infill(HOLE, budget, PATIENT).ranked
    assert denoised(infiller)


def test_an_interrupted_search_causes_no_early_exit(infiller: Infiller) -> None:
    infiller.settings = changed(infiller.settings, early_exit=replace(RULE, reject=1.0))
    late = infiller.infill(HOLE, Budget(min_confidence=0.5), FillObserver(interrupted=lambda: False, late=lambda: True))
    assert late.ranked
    assert denoised(infiller)


def test_the_engine_gives_an_early_fill_its_own_confidence(infiller: Infiller) -> None:
    rule = replace(RULE, accept=0.5, calibration=(9.0, *(0.0 for _ in FEATURES)))
    infiller.settings = changed(infiller.settings, early_exit=rule)
    engine = Engine(infiller, name="tiny", load_ms=0.0)
    try:
        fill = engine.fill(HOLE, Budget(min_confidence=0.5)).result(60)
    finally:
        engine.close()
    assert fill.confidence == pytest.approx(1 / (1 + math.exp(-9)))
    assert fill.text


def test_the_rule_is_read_as_it_was_written_and_checked(tmp_path: Path) -> None:
    rewrite_settings(tiny_checkpoint(tmp_path), early_exit=asdict(RULE))
    assert read_settings(tmp_path).show.early_exit == RULE
    whole = asdict(RULE)
    for broken, said in (
        (5, "show.early_exit is 5; give an object or null"),
        ({"reject": 0.1}, "show.early_exit.accept is missing"),
        (whole | {"calibration": [1.0]}, "show.early_exit.calibration is a list of 1; give a list of 16 numbers"),
        (whole | {"ranking": {"luck": 1}}, "show.early_exit.ranking.luck is an unknown key"),
        (whole | {"reject": 0.7, "accept": 0.6}, "show.early_exit.reject is above accept"),
    ):
        rewrite_settings(tmp_path, early_exit=broken)
        with pytest.raises(CheckpointError, match=re.escape(f"midspan.json: {said}")):
            read_settings(tmp_path)


def seen(nats: float, *, early_right: bool, shown: bool, right: bool) -> Seen:
    """A gap with two hypotheses: the first with `nats` by FIM, the other with much less."""
    signs, features = torch.zeros(2, len(WEIGHTS)), torch.zeros(2, len(FEATURES))
    signs[:, WEIGHTS.index("fim")] = torch.tensor([nats, nats - 5])
    features[:, FEATURES.index("fim_sum")] = torch.tensor([nats, nats - 5])
    return Seen(
        choice=Choice(signs=signs, right=0 if early_right else None), features=features, shown=shown, right=right
    )


def sampled(count: int) -> list[Seen]:
    """Random gaps: the likelier the best hypothesis, the more often it is right; canvases change nothing."""
    generator, out = torch.Generator().manual_seed(0), []
    for nats in (-6 * torch.rand(count, generator=generator)).tolist():
        right = bool(torch.rand(1, generator=generator) < 1 / (1 + math.exp(-(3 + 2 * nats))))
        out.append(seen(nats, early_right=right, shown=nats > -1.5, right=right))
    return out


def test_the_best_hypothesis_and_its_margin_are_by_the_ranking() -> None:
    features, right = best_of([seen(-1.0, early_right=True, shown=True, right=True)], Ranking(gap=0, suffix=0, fim=1))
    assert right.tolist() == [1.0]
    known = dict(zip(FEATURES, features[0].tolist(), strict=True))
    assert (known["fim_sum"], known["margin"]) == (-1.0, 5.0)


def test_where_canvases_change_nothing_the_fit_answers_nearly_all_shown_fills_early() -> None:
    rule, figures = fit(sampled(600), 0.02)
    assert 0 < rule.reject < rule.accept < 1
    assert figures["of_shown"] > 0.95
    assert figures["answered_right"] == figures["right_in_the_end"]
    assert figures["lost_of_right"] <= 0.02
    assert figures["stopped"] > 0.4
    assert (rule.ranking.gap, rule.ranking.suffix, rule.ranking.agreed) == (0, 0, 0)


def test_where_canvases_find_better_fills_the_fit_accepts_nothing_early() -> None:
    """A third of the fills that are right in the end are not found early."""
    lost = [
        replace(one, choice=replace(one.choice, right=None)) if number % 3 == 0 else one
        for number, one in enumerate(sampled(600))
    ]
    assert fit(lost, 0.02)[0].accept == 1.0


def test_the_fit_is_written_where_the_engine_reads_it(tmp_path: Path) -> None:
    rewrite_settings(tiny_checkpoint(tmp_path), beams=2, similar_lines=4)
    (tmp_path / "heldout.jsonl").write_text(json.dumps({"text": "x = 1\nab\n" * 6}) + "\n")
    row = fit_folder(tmp_path, HeldOut(file=tmp_path / "heldout.jsonl", count=12, seed=0), 0.01, judge=None)
    rule = read_settings(tmp_path).show.early_exit
    assert rule is not None
    assert json.loads(json.dumps(asdict(rule))) == json.loads(json.dumps(row["early_exit"]))
