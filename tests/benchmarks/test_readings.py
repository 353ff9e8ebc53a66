"""readings.py: a real run on a tiny checkpoint, what counts as a pass, and the row's tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.other_tables import others, render_demand, render_readings, render_teams
from benchmarks.readings import Afresh, Forwards, Outcome, as_in_an_editor, figures, main, saved
from midspan.engine.api import Budget, Hole
from midspan.engine.backends.plain import TorchCanvasBackend
from midspan.engine.canvas import Canvas, Plan, Rng
from midspan.server.bench.quality import Task
from midspan.server.text.syntax_check import load_with_syntax
from tests.engine.tiny import config_json, random_model, rewrite_settings, tiny_checkpoint

TASKS = Path(__file__).parents[2] / "fixtures" / "bench" / "mbpp-sample.jsonl"
READINGS = ("diffusion", "autoregressive", "router")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tiny_checkpoint(tmp_path_factory.mktemp("checkpoint"))
    rewrite_settings(folder, beams=3)
    return str(folder)


def test_a_run_asks_all_three_the_same_gaps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], checkpoint: str
) -> None:
    spans = tmp_path / "spans.jsonl"
    span = json.loads(TASKS.read_text().splitlines()[0]) | {"task_id": "random-span/1", "suffix": "x = 1\n"}
    spans.write_text(json.dumps(span) + "\n")
    assert main(["--tasks", str(TASKS), str(spans), "--limit", "3", "--checkpoint", checkpoint]) == 0
    row = json.loads(capsys.readouterr().out)
    assert (row["n"], row["tasks"]) == (4, {"mbpp-sample.jsonl": 3, "spans.jsonl": 1})
    assert set(row["engines"]) == set(READINGS)
    for found in row["engines"].values():
        low, high = found["forwards"]["ci95"]
        assert 0 < low <= found["forwards"]["mean"] <= high
        assert 0 <= found["pass@1"]["mean"] <= 1
        assert 0 < found["ms"]["p50"] <= found["ms"]["p95"]
    assert sum(sum(v for k, v in one.items() if k != "asked again") for one in row["chosen"].values()) == 4
    # A whole line ends as in an editor, so that the policy takes it for the end of a line.
    assert set(row["chosen"]) == {"line_end", "lines_between"}
    assert set(row["saved"]) == {"diffusion", "autoregressive"}
    shown = render_readings(row | {"commit": "abc1234", "machine": "A machine"})
    assert shown.startswith("4 gaps (3 of `mbpp-sample`, 1 of `spans`), ")


def test_files_without_a_task_and_checkpoints_without_canvases_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"none\.jsonl: No such file"):
        main(["--tasks", str(tmp_path / "none.jsonl")])
    folder = tiny_checkpoint(tmp_path)
    rewrite_settings(folder, kind="fim")
    with pytest.raises(SystemExit, match="has no canvases; give a checkpoint that denoises them"):
        main(["--tasks", str(TASKS), "--limit", "1", "--checkpoint", str(folder)])


def test_every_pass_through_the_layers_counts() -> None:
    backend = TorchCanvasBackend(random_model(config_json(100)))
    forwards = Forwards(backend)
    cache = backend.new_cache(8)
    backend.prefill(torch.tensor([[5, 6, 7]]), cache)
    assert forwards.count == 1
    backend.score([[5, 6], [7]], cache)
    assert forwards.count == 2
    canvas = Canvas(ids=torch.tensor([[5, 6]]), free=torch.ones(1, 2, dtype=torch.bool))
    steps = list(backend.bind(cache, canvas).steps(Plan(steps=3), Rng(0)))
    assert forwards.count == 2 + len(steps)
    backend.bind(cache, canvas).read(canvas.ids)
    assert forwards.count == 3 + len(steps)


def test_a_fill_begins_with_empty_caches(checkpoint: str) -> None:
    local: Any = load_with_syntax(checkpoint, "cpu")
    engine = Afresh(local, local._infiller)
    hole = Hole(prefix="def total(items):\n    result = 0\n    ", suffix="\n")
    engine.fill(hole, Budget()).result(60)
    first = local.encoded_tokens
    engine.fill(hole, Budget()).result(60)
    # The same text once more, from its beginning.
    assert local.encoded_tokens == first > 0
    engine.close()


def test_the_line_end_behind_a_whole_line_stays() -> None:
    def task(kind: str, suffix: str) -> Task:
        return Task(f"{kind}/1", "f", "def f():\n", suffix, "    return 1\n", "")

    hole, line_end = as_in_an_editor(task("single-line", "x = 1\n"))
    assert (hole.kind, hole.suffix, line_end) == ("line", "\nx = 1\n", "\n")
    hole, line_end = as_in_an_editor(task("single-line", "\nx = 1\n"))
    assert (hole.suffix, line_end) == ("\nx = 1\n", "")
    hole, line_end = as_in_an_editor(task("multi-line", "x = 1\n"))
    assert (hole.kind, hole.suffix, line_end) == ("span", "x = 1\n", "")


def outcomes(*found: tuple[str, bool, float, int]) -> list[Outcome]:
    return [Outcome(entry_point=name, passed=ok, exact=False, ms=ms, forwards=n) for name, ok, ms, n in found]


def test_the_figures_of_known_outcomes() -> None:
    one = outcomes(("f", True, 10.0, 4), ("f", False, 30.0, 8), ("g", True, 20.0, 6))
    found = figures(one, 0)
    assert found["pass@1"]["mean"] == 2 / 3
    assert found["exact"] == {"mean": 0.0, "ci95": [0.0, 0.0]}
    assert (found["ms"], found["useful_ms"]) == ({"p50": 20.0, "p95": 30.0}, {"p50": 10.0, "p95": 20.0})
    assert (found["forwards"]["mean"], found["forwards_per_pass"]) == (6.0, 9.0)
    # Both gaps of one function are drawn together: half of them pass, or all.
    assert found["pass@1"]["ci95"] == [0.5, 1.0]
    assert figures(outcomes(("f", False, 1.0, 1)), 0)["forwards_per_pass"] is None


def test_what_is_saved_is_counted_gap_by_gap() -> None:
    slow = outcomes(("f", False, 30.0, 9), ("g", True, 10.0, 5))
    quick = outcomes(("f", True, 10.0, 4), ("g", True, 10.0, 5))
    found = saved({"diffusion": slow, "autoregressive": quick, "router": quick}, 0)
    assert found["diffusion"]["pass@1"]["mean"] == 0.5
    assert found["diffusion"]["ms"]["mean"] == -10.0
    assert found["diffusion"]["forwards"] == {"mean": -2.5, "ci95": [-5.0, 0.0]}
    assert found["autoregressive"]["forwards"] == {"mean": 0.0, "ci95": [0.0, 0.0]}


MEAN = {"mean": 0.25, "ci95": [0.2, 0.3]}
ENGINE = {
    "pass@1": MEAN,
    "exact": MEAN,
    "ms": {"p50": 20.0, "p95": 41.0},
    "useful_ms": None,
    "forwards": {"mean": 6.25, "ci95": [5.0, 7.0]},
    "forwards_per_pass": None,
}
ROW: dict[str, Any] = {
    "command": "readings.py --tasks a.jsonl",
    "commit": "abc1234",
    "machine": "A machine",
    "checkpoint": "embedded",
    "n": 3,
    "tasks": {"a.jsonl": 3},
    "engines": dict.fromkeys(READINGS, ENGINE),
    "chosen": {"line_end": {"autoregressive": 2, "diffusion": 1, "asked again": 1}},
    "saved": {"diffusion": {"pass@1": MEAN, "ms": {"mean": -3.0, "ci95": [-5.0, 1.0]}, "forwards": MEAN}},
}
DEMAND: dict[str, Any] = {
    "command": "typing_demand.py",
    "commit": "abc1234",
    "people": 20,
    "seconds": 120.0,
    "by_delay": [
        {
            "delay_ms": delay_ms,
            "keys_per_minute": 199.6,
            "requests_per_s": 3.127,
            "answers_per_s": 3.0,
            "cancelled": 0.04,
            "at_once": at_once,
        }
        for delay_ms, at_once in ((200, 0.5), (400, 0.7))
    ],
}


def test_the_readings_stand_side_by_side() -> None:
    lines = render_readings(ROW).splitlines()
    assert lines[0] == "3 gaps (3 of `a`), `embedded`, commit `abc1234`, A machine:"
    assert "|  | canvases | left to right | the router |" in lines
    assert "| pass@1 | 25.0 % (20.0 to 30.0 %) | 25.0 % (20.0 to 30.0 %) | 25.0 % (20.0 to 30.0 %) |" in lines
    assert "| time to a fill that passes | none | none | none |" in lines
    assert "| time to any fill | p50 20 ms, p95 41 ms | p50 20 ms, p95 41 ms | p50 20 ms, p95 41 ms |" in lines
    saves = "| canvases | +25.0 points (+20.0 to +30.0) | -3.0 ms (-5.0 to +1.0) | +0.2 (+0.2 to +0.3) |"
    assert saves in lines
    assert lines[-1] == "| `line_end` | 1 | 2 | 0 | 1 |"


def test_the_latest_row_of_each_kind_has_its_place() -> None:
    newer = ROW | {"n": 4}
    found = others([ROW, DEMAND, {"command": "midspan bench quality"}, newer])
    assert [(page, name) for page, name, _ in found] == [
        ("docs/benchmarks.md", "readings"),
        ("docs/serving.md", "demand"),
        ("docs/serving.md", "teams"),
    ]
    assert found[0][2].startswith("4 gaps")
    assert (found[1][2], found[2][2]) == (render_demand(DEMAND), render_teams(DEMAND))


def test_the_demand_of_one_person_says_what_a_team_takes() -> None:
    assert render_demand(DEMAND).splitlines()[-1] == "| 400 ms | 200 | 3.13 | 3.00 | 4 % | 0.70 |"
    # Two fills at once for 0.7 of the time: 2.8 people at half a request each, two at 0.7.
    lines = render_teams(DEMAND).splitlines()
    assert lines[2:4] == ["| 5 | all: 5 | 2 | 3 |", "| 5 | one in five: 1 | 1 | 1 |"]
    assert lines[-2:] == ["| 500 | all: 500 | 179 | 250 |", "| 500 | one in five: 100 | 36 | 50 |"]
