"""Command `bench quality`: the object of the contract, its figures for known outcomes, and one real run."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from midspan.engine.api import About
from midspan.server.bench.quality import Outcome, Task, completed, hole_of, interval, lines, read_tasks, summarise
from midspan.server.cli import main
from midspan.server.statistics import quantile
from tests.engine.tiny import tiny_checkpoint

TASKS = Path(__file__).parents[3] / "fixtures" / "bench" / "mbpp-sample.jsonl"
ABOUT = About(
    checkpoint="c",
    device="cpu",
    dtype="float32",
    threads=1,
    parameters=0,
    layout="filler",
    languages=("python",),
    show_threshold=0.5,
    kernels=(),
    load_ms=0.0,
)


def outcome(name: str, passed: bool, *, shown: bool = False, latency_ms: float = 1.0) -> Outcome:
    return Outcome(entry_point=name, passed=passed, exact=passed, shown=shown, latency_ms=latency_ms, steps=4)


def test_the_figures_of_known_outcomes() -> None:
    outcomes = [
        outcome("f", True, shown=True, latency_ms=10),
        outcome("f", False, shown=True, latency_ms=20),
        outcome("g", False, latency_ms=30),
        outcome("h", True, latency_ms=40),
    ]
    found = summarise(outcomes, ABOUT, seed=0)
    assert (found["n"], found["pass@1"], found["exact_match"]) == (4, 0.5, 0.5)
    assert (found["shown"], found["pass@1_when_shown"]) == (0.5, 0.5)
    assert found["latency_ms"] == {"p50": 20, "p95": 40}
    assert summarise([outcome("f", True)], ABOUT, seed=0)["pass@1_when_shown"] is None
    assert [*lines(found, "clamped")][-1].endswith(f"{ABOUT.checkpoint} on {ABOUT.device}, layout clamped")


def test_the_interval_resamples_functions_not_tasks() -> None:
    # A hundred tasks of two functions, one always right: resampling tasks would give an interval within 0.4 and 0.6.
    outcomes = [outcome("f", True) for _ in range(50)] + [outcome("g", False) for _ in range(50)]
    assert interval(outcomes, seed=1) == (0.0, 1.0)


def test_quantiles_are_among_the_values() -> None:
    assert [quantile([3, 1, 2, 4], share) for share in (0.25, 0.5, 0.95, 1.0)] == [1, 2, 4, 4]


def test_tasks_are_read_from_plain_and_compressed_files_and_sampled_by_seed(tmp_path: Path) -> None:
    packed = tmp_path / "tasks.jsonl.gz"
    packed.write_bytes(gzip.compress(TASKS.read_bytes()))
    assert read_tasks(packed, None, 0) == read_tasks(TASKS, None, 0)
    few = read_tasks(TASKS, 4, 1)
    assert len(few) == 4
    assert few == read_tasks(TASKS, 4, 1) != read_tasks(TASKS, 4, 2)


def test_the_program_is_prompt_fill_suffix_and_test() -> None:
    task = Task("single-line/x", "f", "def f():\n", "\n", "    return 1\n", "def check(g):\n    assert g() == 1\n")
    assert hole_of(task).kind == "line"
    assert completed(task, "    return 1") == (
        "def f():\n    return 1\n\ndef check(g):\n    assert g() == 1\n\ncheck(f)\n"
    )
    assert hole_of(Task("RandomSpanInfilling/x", "f", "", "", "", "")).kind == "span"


def test_a_real_run_prints_the_contracts_object_last(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    argv = ["bench", "quality", "--tasks", str(TASKS), "--limit", "3", "--json"]
    assert main([*argv, "--checkpoint", str(tiny_checkpoint(tmp_path))]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(found) == {
        "n", "pass@1", "exact_match", "ci95", "shown", "pass@1_when_shown", "latency_ms", "steps_mean", "checkpoint",
        "device",
    }  # fmt: skip
    assert (found["n"], found["device"]) == (3, "cpu")
