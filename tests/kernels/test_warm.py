"""What is compiled and captured while a checkpoint loads is what fills need later."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from midspan.engine.api import Budget, GapKind, Hole
from midspan.engine.captured import CapturedLoop
from midspan.engine.engine import warm_up
from tests.kernels.test_engine import PATIENT, pair

pytestmark = pytest.mark.timeout(400)
KINDS: tuple[GapKind, ...] = ("rest_of_line", "span")


def test_no_fill_waits_for_a_graph_that_is_not_there(tmp_path: Path) -> None:
    _, infiller = pair(tmp_path, slots=(4,), block_slots=(12,), keep=1, prefix_tokens=24)
    infiller.settings = replace(infiller.settings, steps=1)
    loop = infiller.loop
    assert isinstance(loop, CapturedLoop)
    warm_up(infiller)
    made, memory = dict(loop.graphs), infiller.prefix.memory
    assert len({size.width for size, _, _ in made}) == len(KINDS)
    for kind in KINDS:
        infiller.infill(
            Hole(prefix="def add(a, b):\n    retu", suffix="\n" + "x = 1\n" * 40, kind=kind), Budget(), PATIENT
        )
    assert loop.graphs.keys() == made.keys()
    assert all(loop.graphs[key] is made[key] for key in made)
    assert infiller.prefix.memory is memory
