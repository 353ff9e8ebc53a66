"""A draft of which spans are wrong: their tokens are denoised again, the others stay; with a random network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from midspan.engine.api import Budget, Frame, Hole
from midspan.engine.autoregressive import Autoregressive
from midspan.engine.hypotheses.repair import RUNS
from midspan.engine.hypotheses.task import FillObserver, Infilling
from midspan.engine.infill import Infiller
from tests.engine.tiny import SOURCE, changed, tiny_infiller

PATIENT = FillObserver(interrupted=lambda: False, late=lambda: False)
BEGIN = SOURCE.index("result += item.price")
DRAFT = "reslut += item.price"
HOLE = Hole(
    prefix=SOURCE[:BEGIN], suffix=SOURCE[BEGIN + len(DRAFT) :], kind="line", draft=DRAFT, wrong=((0, len("reslut")),)
)


@pytest.fixture(scope="module")
def infiller(tmp_path_factory: pytest.TempPathFactory) -> Infiller:
    return tiny_infiller(tmp_path_factory.mktemp("tiny"))


def spans(*words: str) -> tuple[tuple[int, int], ...]:
    """Where these words stand in the draft."""
    return tuple((DRAFT.index(word), DRAFT.index(word) + len(word)) for word in words)


def texts(infiller: Infiller, hole: Hole) -> list[str]:
    out = infiller.infill(hole, Budget(candidates=3), PATIENT)
    return [infiller.prompt.text(list(one.ids), out.layout) for one in out.ranked]


@pytest.mark.parametrize("word", ["reslut", "item", "price"])
def test_only_what_is_wrong_is_written_anew(infiller: Infiller, word: str) -> None:
    [(begin, end)] = spans(word)
    found = texts(infiller, replace(HOLE, wrong=spans(word)))
    assert len(found) > 1
    assert DRAFT not in found
    head, tail = DRAFT[:begin].rstrip(), DRAFT[end:]
    # A blank may be part of a word's token.
    assert all(text.startswith(head) and text.endswith(tail) for text in found)


def test_a_repair_may_be_shorter_or_longer_than_what_was_wrong(infiller: Infiller) -> None:
    out = infiller.infill(HOLE, Budget(candidates=8), PATIENT)
    assert len({len(one.ids) for one in out.ranked}) > 1
    again = infiller.infill(HOLE, Budget(candidates=8), PATIENT)
    assert [one.ids for one in out.ranked] == [one.ids for one in again.ranked]


def test_several_spans_are_repaired_one_behind_the_other(infiller: Infiller) -> None:
    found = texts(infiller, replace(HOLE, wrong=spans("reslut", "price")))
    assert found
    for text in found:
        assert not text.startswith("reslut")
        assert not text.endswith("price")
        assert "item" in text


def test_no_more_runs_are_repaired_than_there_is_time_for(infiller: Infiller) -> None:
    words = "a, b, c, d, e"
    wrong = tuple((at, at + 1) for at, letter in enumerate(words) if letter.isalpha())
    found = texts(infiller, replace(HOLE, draft=words, wrong=wrong))
    assert found
    assert all(text.endswith(words[wrong[RUNS - 1][1] :]) for text in found)


def test_proposals_of_the_gap_compete_but_the_draft_does_not(tmp_path: Path) -> None:
    infiller = tiny_infiller(tmp_path, beams=4, similar_lines=4)
    hole = replace(HOLE, prefix=SOURCE[:BEGIN] + f"{DRAFT}\n                ")
    out = infiller.infill(hole, Budget(candidates=8), PATIENT)
    found = [infiller.prompt.text(list(one.ids), out.layout) for one in out.ranked]
    assert DRAFT not in found
    assert any(one.ids in out.proposals.beams for one in out.ranked)
    assert any(one.ids not in out.proposals.beams for one in out.ranked)


def test_what_the_judge_objects_to_comes_last(tmp_path: Path) -> None:
    infiller = tiny_infiller(tmp_path)
    last = texts(infiller, HOLE)[-1]
    infiller.judge = lambda _, fill: () if fill == last else ((0, 1),)
    assert texts(infiller, HOLE)[0] == last


def run(infiller: Infiller, hole: Hole, *, stop: int | None = None, late: Callable[[], bool]) -> Infilling:
    """A repair that is interrupted after so many frames, or late when the test says so."""
    frames = list[Frame]()
    observer = FillObserver(interrupted=lambda: len(frames) == stop, late=late, on_frame=frames.append)
    return infiller.infill(hole, Budget(), observer)


def test_a_cancelled_or_half_done_repair_gives_nothing(infiller: Infiller) -> None:
    both = replace(HOLE, wrong=spans("reslut", "price"))
    cut = run(infiller, both, stop=1, late=lambda: False)
    assert (cut.ranked, cut.stopped) == ([], "cancelled")
    half = run(infiller, both, late=lambda: True)
    assert (half.ranked, half.stopped) == ([], "deadline")
    # One that has come to its last span has something to show, as a fill has.
    whole = run(infiller, HOLE, late=lambda: True)
    assert whole.ranked
    assert whole.stopped == "deadline"


def test_a_draft_is_renoised_by_a_share_or_by_spans() -> None:
    with pytest.raises(ValueError, match="leave one of them out"):
        replace(HOLE, strength=0.5)
    assert HOLE.keeps_draft
    assert not replace(HOLE, wrong=()).keeps_draft


def test_what_writes_from_left_to_right_repairs_nothing(infiller: Infiller) -> None:
    twin = Autoregressive(infiller.backend, infiller.prompt, changed(infiller.settings, kind="fim"))
    with pytest.raises(ValueError, match="rewrites no part of a draft"):
        twin.infill(HOLE, Budget(), PATIENT)
