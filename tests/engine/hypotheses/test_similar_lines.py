"""Similar lines as proposals for a gap: pictures with the gap as ‸, their evidence, and their place in the ranking."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from midspan.engine.api import Budget, Hole, Line
from midspan.engine.hypotheses.similar_lines import SimilarLine, similar_gaps, similar_lines
from midspan.engine.hypotheses.task import FillObserver, Infilling
from midspan.engine.settings import Ranking
from tests.engine.tiny import changed, tiny_infiller

PATIENT = FillObserver(interrupted=lambda: False, late=lambda: False)

PICTURES = {
    "the same beginning": ("    self.one = parse(one)\n    self.one‸", [" = parse(one)"]),
    "a line below": ("if found‸\nif found is None:\n", [" is None:"]),
    "the longest beginning first": (
        "return json.loads(text)\nraise ValueError(text)\nreturn json.dumps(x)\nreturn json.l‸\n",
        ["oads(text)"],
    ),
    "a word is not cut": ("sunset = 1\nset‸", []),
    "the rest of the gap's line is not repeated": ("call(one, two)\ncall(‸)\n", ["one, two"]),
    "a line between the same lines": (
        "try:\n    run()\nfinally:\n    end()\ntry:\n    ‸\nfinally:\n",
        ["run()"],
    ),
    "nothing to go by": ("‸", []),
}


def hole(picture: str) -> Hole:
    prefix, _, suffix = picture.partition("‸")
    return Hole(prefix=prefix, suffix=suffix)


@pytest.mark.parametrize("name", PICTURES)
def test_proposals_from_lines_of_the_same_file(name: str) -> None:
    picture, expected = PICTURES[name]
    found = [one.text for one in similar_lines(hole(picture), 4)]
    assert found[: len(expected)] == expected
    assert bool(expected) == bool(found)


def test_a_text_found_twice_comes_before_a_nearer_one() -> None:
    picture = "x = first(a)\nx = first(a)\ny = 0\ny = 0\nx = other(b)\nx = ‸"
    assert [one.text for one in similar_lines(hole(picture), 2)] == ["first(a)", "other(b)"]


def test_evidence_grows_with_the_common_beginning_and_with_the_lead_over_others() -> None:
    def evidence(picture: str) -> float:
        return similar_lines(hole(picture), 2)[0].evidence

    alone, longer = "value = parse(one)\n\nvalue = ‸", "the_value = parse(one)\n\nthe_value = ‸"
    contested = "value = other(two)\nvalue = parse(one)\n\nvalue = ‸"
    assert 0 < evidence(contested) < evidence(alone) < evidence(longer)
    assert evidence("f(1)\ng(2)\nh(‸") == 0


def elsewhere(picture: str, *others: Line) -> list[SimilarLine]:
    return similar_lines(replace(hole(picture), other_lines=others), 4)


def test_lines_of_other_files_count_as_lines_of_the_same_file_but_for_distance() -> None:
    picture = "total = price_of(thing)\n‸\nreturn total"
    twin = Line("self.add(total)", "total = price_of(item)", "return total")
    [one, other] = elsewhere(f"x = 1\n{picture}", Line("self.drop(total)", "", ""), twin)[:2]
    assert one.text == "self.add(total)"
    assert one.evidence > other.evidence
    [near] = similar_lines(hole("find(1, 2)\nz = 0\nfind(‸"), 1)
    [far] = elsewhere("z = 0\nfind(‸", Line("find(1, 2)", "", "z = 0"))
    assert near.text == far.text == "1, 2)"
    assert near.evidence > far.evidence > 0


def test_a_text_found_in_this_file_and_in_others_has_more_evidence() -> None:
    picture = "value = parse(one)\nvalue = other(two)\nvalue = ‸"
    near = {one.text: one.evidence for one in similar_lines(hole(picture), 4)}
    both = {one.text: one.evidence for one in elsewhere(picture, Line("value = parse(one)", "", ""))}
    assert near.keys() == both.keys() == {"parse(one)", "other(two)"}
    assert both["parse(one)"] - near["parse(one)"] > 1.0
    assert both["other(two)"] == pytest.approx(near["other(two)"], abs=0.2)


def test_a_line_of_another_file_is_cut_at_the_end_of_the_gap() -> None:
    [one] = elsewhere("call(‸)\n", Line("call(one, two)", "", ""))
    assert one.text == "one, two"


LINES = st.lists(st.text("ab (.=", max_size=8), max_size=6).map("\n".join)


@given(prefix=LINES, suffix=LINES, count=st.integers(0, 4))
def test_proposals_are_distinct_single_lines_of_the_text(prefix: str, suffix: str, count: int) -> None:
    found = [one.text for one in similar_lines(Hole(prefix=prefix, suffix=suffix), count)]
    assert len(found) == len(set(found)) <= count
    for text in found:
        assert "\n" not in text
        assert text.strip()
        assert text in prefix or text in suffix


def test_the_engine_ranks_similar_lines_with_canvases(tmp_path: Path) -> None:
    infiller = tiny_infiller(tmp_path)
    asked = hole("left = parse(one, two)\nright = ‸\n")
    alone = infiller.infill(asked, Budget(), PATIENT)
    infiller.settings = changed(infiller.settings, similar_lines=4, ranking=Ranking(evidence=100.0, syntax=0.0))
    both = infiller.infill(asked, Budget(), PATIENT)

    def texts(out: Infilling) -> set[str]:
        return {infiller.prompt.text(list(one.ids), both.layout) for one in out.ranked}

    assert texts(both) == texts(alone) | {"parse(one, two)"}
    # With this weight the evidence decides.
    assert infiller.prompt.text(list(both.ranked[0].ids), both.layout) == "parse(one, two)"
    drawn, similar = both.ranked[0].features[5:7]
    assert drawn == 0
    assert similar > 0
    assert {one.features[5:7] for one in alone.ranked} == {(1.0, 0.0)}


def test_a_similar_line_is_a_gap_if_it_is_short_enough_and_healing_allows_its_first_token(tmp_path: Path) -> None:
    asked, prompt = hole("left = parse(one, two)\nright = ‸\n"), tiny_infiller(tmp_path).prompt
    layout = prompt.lay_out(asked)
    [(gap, evidence)] = similar_gaps(asked, 1, prompt, layout.heal, 32).items()
    assert prompt.text(list(gap), layout) == "parse(one, two)"
    assert evidence == similar_lines(asked, 1)[0].evidence
    assert list(similar_gaps(asked, 1, prompt, layout.heal, len(gap))) == [gap]
    assert similar_gaps(asked, 1, prompt, layout.heal, len(gap) - 1) == {}
    assert similar_gaps(asked, 0, prompt, layout.heal, 32) == {}
    prompt.allowed_first = lambda heal: torch.arange(prompt.vocab_size) != gap[0]  # type: ignore[method-assign]
    assert similar_gaps(asked, 1, prompt, layout.heal, 32) == {}


def test_a_similar_line_longer_than_all_slots_is_renoised_as_a_whole(tmp_path: Path) -> None:
    infiller = tiny_infiller(tmp_path, slots=(1,), similar_lines=4, ranking=Ranking(evidence=100.0, syntax=0.0))
    infiller.judge = lambda _, fill: ((0, len(fill)),)
    out = infiller.infill(hole("left = parse(one, two)\nright = ‸\n"), Budget(), PATIENT)
    # One is from the canvas and one is the similar line; the others come from renoising that.
    assert len(out.ranked) > 2
    assert sum(one.features[6] > 0 for one in out.ranked) == 1
