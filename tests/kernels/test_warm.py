"""Warm-up: the kernels and graphs that fills need are compiled and captured while a checkpoint loads."""

from __future__ import annotations

from pathlib import Path

import pytest

from midspan.engine.api import Budget, GapKind, Hole
from midspan.engine.backends.gpu import TritonBackend
from midspan.engine.engine import Engine, fill_examples
from tests.engine.tiny import changed
from tests.kernels.test_engine import PATIENT, pair

pytestmark = [pytest.mark.gpu_kernels, pytest.mark.timeout(400)]
KINDS: tuple[GapKind, ...] = ("rest_of_line", "span")


def test_after_the_warm_up_no_fill_captures_a_graph(tmp_path: Path) -> None:
    _, infiller = pair(tmp_path, layers=1, slots=(4,), block_slots=(12,), survivors=1, prefix_tokens=24)
    infiller.settings = changed(infiller.settings, steps=1)
    assert isinstance(infiller.backend, TritonBackend)
    loop = infiller.backend.loop
    infiller.backend.warm(lambda: fill_examples(infiller))
    made, memory = dict(loop.graphs), infiller.prefix.memory
    assert len({size.width for size, _ in made}) == len(KINDS)
    for kind in KINDS:
        infiller.infill(
            Hole(prefix="def add(a, b):\n    retu", suffix="\n" + "x = 1\n" * 40, kind=kind), Budget(), PATIENT
        )
    assert loop.graphs.keys() == made.keys()
    assert all(loop.graphs[key] is made[key] for key in made)
    assert infiller.prefix.memory is memory


def test_loading_an_engine_warms_its_kernels_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, infiller = pair(tmp_path, layers=1, slots=(4,), block_slots=(4,), survivors=1, prefix_tokens=24)
    infiller.settings = changed(infiller.settings, steps=1)
    monkeypatch.setattr("midspan.engine.engine.load_path", lambda checkpoint, device, progress: infiller)
    engine = Engine.load(str(tmp_path), "cpu")
    engine.close()
    assert isinstance(infiller.backend, TritonBackend)
    assert infiller.backend.loop.graphs


def test_the_prefix_cache_of_captured_steps_has_its_full_size_from_the_start(tmp_path: Path) -> None:
    plain, infiller = pair(tmp_path, slots=(4,), prefix_tokens=900, context_tokens=200)
    capacities = [one.prefix.memory.whole(0)[0].shape[2] for one in (plain, infiller)]
    assert capacities[0] < 900 + 200 < capacities[1]
