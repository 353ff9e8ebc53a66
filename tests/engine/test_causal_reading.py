"""A canvas checkpoint read from left to right: beams alone, on the worker of the engine that it came from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import midspan.engine
from midspan.engine.api import Budget, CheckpointError, Frame, Hole
from midspan.engine.causal_reading import CausalReading
from midspan.engine.engine import Engine
from midspan.engine.hypotheses.task import FillObserver
from midspan.engine.infill import Infiller
from midspan.engine.settings import SearchFloor
from tests.engine.tiny import SOURCE, changed, tiny_infiller
from tests.server.scripted import ScriptedEngine

HOLE = Hole(prefix=SOURCE + "\n\ndef add(a, b):\n    retu", suffix="\n\n\nprint(add(1, 2))\n")
PATIENT = FillObserver(interrupted=lambda: False, late=lambda: False)
WAIT_S = 60


@pytest.fixture
def infiller(tmp_path: Path) -> Infiller:
    return tiny_infiller(tmp_path, beams=4)


@pytest.fixture
def engine(infiller: Infiller) -> Iterator[Engine]:
    engine = Engine(infiller, name="tiny", load_ms=0.0)
    yield engine
    engine.close()


@pytest.mark.parametrize("kind", ["rest_of_line", "span"])
def test_what_is_ranked_are_the_beams_and_no_canvas_is_denoised(
    infiller: Infiller, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(infiller.backend, "bind", None)
    out = CausalReading(infiller, "tiny").infill(replace(HOLE, kind=kind), Budget(candidates=2), PATIENT)  # type: ignore[arg-type]
    assert out.stopped == "settled"
    assert {one.ids for one in out.ranked} <= {*out.proposals.beams, *out.proposals.similar_lines}
    assert all(infiller.backend.canvas_length > 0 and one.parses for one in out.ranked[:1])
    assert 0 < out.steps <= 8 * (1 if kind == "rest_of_line" else 4)


def test_its_fills_are_deterministic_and_a_judge_puts_errors_behind(infiller: Infiller) -> None:
    reading = CausalReading(infiller, "tiny")
    plain, again = (reading.infill(HOLE, Budget(), PATIENT) for _ in range(2))
    assert [one.ids for one in plain.ranked] == [one.ids for one in again.ranked]
    texts = [infiller.prompt.text(list(one.ids), plain.layout) for one in plain.ranked]
    assert len(set(texts)) > 1
    reading.judge = lambda _, fill: () if fill == texts[1] else ((0, len(fill)),)
    judged = reading.infill(HOLE, Budget(), PATIENT)
    assert infiller.prompt.text(list(judged.ranked[0].ids), judged.layout) == texts[1]


def test_a_search_that_cannot_reach_the_floor_ends_early(infiller: Infiller) -> None:
    infiller.settings = changed(infiller.settings, search_floor=SearchFloor(log_prob=0.0, evidence=1000.0))
    reading = CausalReading(infiller, "tiny")
    sure = reading.infill(HOLE, Budget(min_confidence=infiller.settings.show.show_threshold), PATIENT)
    assert (sure.stopped, sure.ranked) == ("empty", [])
    assert reading.infill(HOLE, Budget(), PATIENT).steps > sure.steps


def test_a_stop_ends_it_between_two_tokens(infiller: Infiller) -> None:
    frames = list[Frame]()
    observer = FillObserver(interrupted=lambda: len(frames) == 2, late=lambda: False, on_frame=frames.append)
    out = CausalReading(infiller, "tiny").infill(HOLE, Budget(), observer)
    assert (out.stopped, out.steps, out.ranked) == ("cancelled", 2, [])
    late = FillObserver(interrupted=lambda: False, late=lambda: True)
    assert CausalReading(infiller, "tiny").infill(HOLE, Budget(), late).steps == 1


def test_it_shares_the_engines_worker_and_the_newest_request_wins(engine: Engine) -> None:
    reading = midspan.engine.without_canvases(engine)
    assert (reading.about.layout, reading.about.checkpoint) == ("fim", "tiny")
    assert "lightly" not in reading.about.actions
    by_canvases = engine.fill(HOLE, Budget()).result(WAIT_S)
    by_beams = reading.fill(HOLE, Budget()).result(WAIT_S)
    assert by_beams.candidates
    assert by_beams.steps != by_canvases.steps
    with pytest.raises(ValueError, match="rewrites no part of a draft"):
        reading.fill(replace(HOLE, draft="x", strength=0.5), Budget()).result(WAIT_S)
    reading.close()
    assert engine.fill(HOLE, Budget()).result(WAIT_S).candidates == by_canvases.candidates


def test_a_checkpoint_without_beams_says_so(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"tiny: has no `beams` in its midspan\.json"):
        CausalReading(tiny_infiller(tmp_path), "tiny")


def test_an_engine_that_is_none_of_ours_says_so() -> None:
    with pytest.raises(CheckpointError, match="scripted: has no reading but its own"):
        midspan.engine.without_canvases(ScriptedEngine())
