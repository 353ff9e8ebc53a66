"""Beams beside canvases: both are scored alike, and one ranking orders them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from midspan.engine.api import Budget, GapKind, Hole
from midspan.engine.cache import Cache
from midspan.engine.canvas import Canvas, Plan
from midspan.engine.denoise import Denoiser
from midspan.engine.hypotheses.beam_search import LOWEST, Beam, BeamCache, FimGap, is_below
from midspan.engine.hypotheses.blocks import MAX_BLOCKS
from midspan.engine.hypotheses.canvases import Block
from midspan.engine.hypotheses.hypothesis import Hypothesis, Proposals
from midspan.engine.hypotheses.lengths import MIN_WIDTH
from midspan.engine.hypotheses.task import FillObserver, Infilling
from midspan.engine.infill import Infiller
from midspan.engine.settings import FEATURES, Ranking, SearchFloor
from tests.engine.tiny import SOURCE, changed, tiny_infiller

PATIENT = FillObserver(interrupted=lambda: False, late=lambda: False)
HOLE = Hole(prefix=SOURCE + "\n\ndef add(a, b):\n    retu", suffix="\n\n\nprint(add(1, 2))\n", kind="rest_of_line")


@pytest.fixture
def infiller(tmp_path: Path) -> Infiller:
    return tiny_infiller(tmp_path, beams=4)


def gaps_of(out: Infilling) -> set[tuple[int, ...]]:
    return {one.ids for one in out.ranked}


@pytest.mark.parametrize("kind", ["rest_of_line", "line"])
def test_scoring_a_gap_gives_the_log_probabilities_of_the_search(infiller: Infiller, kind: GapKind) -> None:
    layout = infiller.prompt.lay_out(HOLE)
    fim = infiller.fim
    fim.prefix.encode(fim.prompt.fim_ids(layout))
    gap = fim.gap(layout, kind)
    with torch.inference_mode():
        with fim.beam_cache() as cache:
            *_, (_, written) = gap.steps(cache, 4, 8)
        # In another order, in a batch with gaps of other lengths.
        read = {beam.ids: beam for beam in gap.read([beam.ids for beam in reversed(written)])}
    assert len({len(beam.ids) for beam in written}) > 1
    for beam in written:
        assert read[beam.ids].values == pytest.approx(beam.values, abs=1e-3)
        assert read[beam.ids].end == pytest.approx(beam.end, abs=1e-3)


def test_beams_and_canvases_are_ranked_together(infiller: Infiller) -> None:
    both = infiller.infill(HOLE, Budget(candidates=4), PATIENT)
    beams = set(both.proposals.beams)
    infiller.settings = changed(infiller.settings, beams=0)
    alone = infiller.infill(HOLE, Budget(candidates=4), PATIENT)
    assert len(beams) == 4
    assert gaps_of(both) == gaps_of(alone) | beams
    found = {one.ids: one.features[FEATURES.index("beam")] for one in both.ranked}
    assert {ids for ids, searched in found.items() if searched} == beams


def test_fim_scores_have_the_ranking_s_weights(infiller: Infiller) -> None:
    infiller.settings = changed(infiller.settings, ranking=Ranking(gap=0.0, suffix=0.0, fim=1.0, end=1.0))
    out = infiller.infill(HOLE, Budget(candidates=4), PATIENT)
    # By FIM's own score the search's best beam is first, whatever canvases found.
    best = max(out.proposals.beams.values(), key=lambda beam: beam.log_probability)
    assert out.ranked[0].score == pytest.approx(best.log_probability, abs=1e-3)
    known = [dict(zip(FEATURES, one.features, strict=True)) for one in out.ranked]
    assert [one.score for one in out.ranked] == pytest.approx(
        [features["fim_sum"] + features["end"] for features in known], abs=1e-3
    )
    roots = [features["fim_root"] for features in known]
    assert roots == pytest.approx([math.exp(one.score / 2) for one in out.ranked], abs=1e-4)
    assert 0.0 < max(roots) < 1.0
    infiller.settings = changed(infiller.settings, ranking=Ranking(gap=0.0, suffix=0.0, root=3.0))
    weighed = infiller.infill(HOLE, Budget(candidates=4), PATIENT).ranked
    assert [one.score for one in weighed] == pytest.approx([3 * root for root in roots], abs=1e-3)
    infiller.settings = changed(infiller.settings, beams=0)
    alone = infiller.infill(HOLE, Budget(candidates=4), PATIENT).ranked
    assert {one.features[FEATURES.index("fim_root")] for one in alone} == {0.0}


def test_an_empty_gap_has_the_lowest_fim_score(infiller: Infiller) -> None:
    out = infiller.infill(HOLE, Budget(), PATIENT)
    assert out.proposals.read_all([()])[()].log_probability == LOWEST


def test_a_keystroke_encodes_only_the_tail_of_both_prompts(infiller: Infiller) -> None:
    infiller.infill(HOLE, Budget(), PATIENT)
    before = infiller.fim.prefix.encoded_tokens
    typed = replace(HOLE, prefix=HOLE.prefix + "rn a")
    kept = infiller.infill(typed, Budget(candidates=4), PATIENT)
    assert infiller.fim.prefix.encoded_tokens - before <= 4
    infiller.reset()
    fresh = infiller.infill(typed, Budget(candidates=4), PATIENT)
    assert [one.ids for one in kept.ranked] == [one.ids for one in fresh.ranked]
    assert infiller.fim.prefix.encoded_tokens == len(infiller.prompt.fim_ids(fresh.layout))


def test_a_cancelled_search_leaves_the_prompt_in_the_cache(infiller: Infiller) -> None:
    calls = list[bool]()

    def interrupted() -> bool:
        calls.append(True)
        return len(calls) > 2

    out = infiller.infill(HOLE, Budget(), FillObserver(interrupted=interrupted, late=lambda: False))
    assert (out.stopped, out.ranked) == ("cancelled", [])
    assert infiller.fim.prefix.memory.length == len(infiller.prompt.fim_ids(out.layout))


def test_a_gap_below_the_search_floor_ends_before_a_canvas_if_only_a_sure_fill_is_wanted(
    infiller: Infiller,
) -> None:
    """The gap goes on if one of the two bounds is reached, if any fill is wanted, or if there is no floor."""
    infiller.settings = changed(infiller.settings, similar_lines=4)
    least = infiller.settings.show.show_threshold
    whole = infiller.infill(HOLE, Budget(), PATIENT)
    best = max(beam.log_probability for beam in whole.proposals.beams.values())
    evidence = max(whole.proposals.similar_lines.values())

    def out(pair: tuple[float, float] | None, wanted: float) -> Infilling:
        floor = None if pair is None else SearchFloor(log_prob=pair[0], evidence=pair[1])
        infiller.settings = changed(infiller.settings, search_floor=floor)
        return infiller.infill(HOLE, Budget(min_confidence=wanted), PATIENT)

    nothing = out((best + 1e-3, evidence + 1e-3), least)
    assert (nothing.stopped, nothing.ranked, nothing.steps) == ("empty", [], 0)
    for floor, wanted in (
        ((best - 1e-3, evidence + 1e-3), least),
        ((best + 1e-3, evidence), least),
        ((best + 1e-3, evidence + 1e-3), 0.0),
        (None, least),
    ):
        assert gaps_of(out(floor, wanted)) == gaps_of(whole)


def test_an_interrupted_search_does_not_give_the_gap_up(infiller: Infiller) -> None:
    """If the search is cancelled or late, it is not known whether the gap is below the floor."""
    infiller.settings = changed(infiller.settings, search_floor=SearchFloor(log_prob=0.0, evidence=100.0))
    sure = Budget(min_confidence=infiller.settings.show.show_threshold)
    assert infiller.infill(HOLE, sure, PATIENT).stopped == "empty"
    overtaken = infiller.infill(HOLE, sure, FillObserver(interrupted=lambda: True, late=lambda: False))
    assert (overtaken.stopped, overtaken.ranked) == ("cancelled", [])
    late = infiller.infill(HOLE, sure, FillObserver(interrupted=lambda: False, late=lambda: True))
    assert late.stopped == "deadline"
    assert late.ranked


def test_a_search_ends_as_soon_as_no_beam_can_reach_the_floor(infiller: Infiller) -> None:
    layout, fim = infiller.prompt.lay_out(HOLE), infiller.fim
    fim.prefix.encode(fim.prompt.fim_ids(layout))
    with torch.inference_mode(), fim.beam_cache() as cache:
        seen = [(beams, ended) for beams, ended in fim.gap(layout, HOLE.kind).steps(cache, 4, 8)]
    best = seen[-1][1][0].log_probability
    assert not any(is_below(beams, ended, best) for beams, ended in seen)
    assert is_below(*seen[0], 0.0)
    # With this floor no beam is likely enough after the first token: the search takes one step.
    infiller.settings = changed(infiller.settings, search_floor=SearchFloor(log_prob=0.0, evidence=100.0))
    grown = list[int]()

    class Counted(BeamCache):
        def grow(self, parents: list[int], ids: list[int]) -> torch.Tensor:
            grown.append(len(ids))
            return super().grow(parents, ids)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("midspan.engine.hypotheses.beam_search.BeamCache", Counted)
        assert not infiller.infill(HOLE, Budget(min_confidence=0.5), PATIENT).ranked
    assert len(grown) == 1


def test_beams_of_a_span_may_contain_line_ends(infiller: Infiller) -> None:
    span = replace(HOLE, kind="span")
    out = infiller.infill(span, Budget(candidates=4), PATIENT)
    found = {one.ids: one.features[FEATURES.index("beam")] for one in out.ranked}
    assert len(out.proposals.beams) == 4
    assert {ids for ids, searched in found.items() if searched} == set(out.proposals.beams) < set(found)
    rules = infiller.fim.rules(out.layout, "span")
    line_ends = [token for token in range(infiller.prompt.vocab_size) if "\n" in infiller.prompt.cell_text(token)]
    assert bool(rules.inner[line_ends].all())
    assert not bool(rules.stops[line_ends].any())


def test_a_beam_of_a_span_may_be_as_long_as_its_longest_canvas(
    infiller: Infiller, monkeypatch: pytest.MonkeyPatch
) -> None:
    infiller.settings = changed(infiller.settings, slots=(4,), block_slots=(4, 12))
    depths, steps = list[int](), FimGap.steps

    def watched(gap: FimGap, cache: BeamCache, width: int, limit: int) -> Iterator[tuple[list[Beam], list[Beam]]]:
        depths.append(limit)
        return steps(gap, cache, width, limit)

    monkeypatch.setattr(FimGap, "steps", watched)
    infiller.infill(replace(HOLE, kind="span"), Budget(), PATIENT)
    infiller.infill(replace(HOLE, kind="line"), Budget(), PATIENT)
    assert depths == [12, 4]


def test_beams_of_a_span_compete_in_its_first_block_alone(infiller: Infiller, monkeypatch: pytest.MonkeyPatch) -> None:
    """A beam is for the whole gap: in a later block it would repeat the blocks before."""
    given, denoise = list[Proposals](), Block.denoise

    def watched(block: Block, canvas: Canvas, plan: Plan, proposals: Proposals) -> list[Hypothesis]:
        given.append(proposals)
        return [replace(one, ended=False) for one in denoise(block, canvas, plan, proposals)]

    monkeypatch.setattr(Block, "denoise", watched)
    infiller.infill(replace(HOLE, kind="span"), Budget(), PATIENT)
    assert [bool(proposals.beams) for proposals in given] == [True, *[False] * (MAX_BLOCKS - 1)]


def test_a_span_that_does_not_parse_is_ranked_below_one_that_does(infiller: Infiller) -> None:
    first = infiller.infill(replace(HOLE, kind="span"), Budget(candidates=4), PATIENT).ranked[0]
    wrong = infiller.prompt.text(list(first.ids), infiller.prompt.lay_out(HOLE))
    infiller.judge = lambda hole, fill: ((0, len(fill)),) if fill == wrong else ()
    ranked = infiller.infill(replace(HOLE, kind="span"), Budget(candidates=4), PATIENT).ranked
    assert ranked[0].ids != first.ids
    assert [one.parses for one in ranked if one.ids == first.ids] == [False]


def test_canvas_lengths_are_near_those_of_beams_unless_several_fills_are_wanted(infiller: Infiller) -> None:
    tried, widths, bind = list[list[int]](), list[int](), infiller.backend.bind

    def watched(cache: Cache, canvas: Canvas) -> Denoiser:
        tried.append(sorted(set(canvas.gap_sizes)))
        widths.append(canvas.ids.shape[1])
        return bind(cache, canvas)

    infiller.backend.bind = watched  # type: ignore[method-assign]
    slots = tuple(range(1, 13))
    infiller.settings = changed(infiller.settings, slots=slots, beams=2, length_slack=1)
    out = infiller.infill(HOLE, Budget(), PATIENT)
    lengths = {len(beam) for beam in out.proposals.beams}
    assert tried == [[size for size in slots if min(abs(size - length) for length in lengths) <= 1]]
    assert len(tried[0]) < len(slots)
    assert widths == [max(MIN_WIDTH, 2 * max(tried[0]))]
    infiller.infill(HOLE, Budget(candidates=3), PATIENT)
    infiller.infill(replace(HOLE, kind="span"), Budget(), PATIENT)
    infiller.settings = changed(infiller.settings, length_slack=None)
    infiller.infill(HOLE, Budget(), PATIENT)
    assert tried[1] == tried[-1] == list(slots)
    assert widths[1] == 2 * max(slots)
    assert set(tried[2]) == set(infiller.settings.layout.block_slots)
