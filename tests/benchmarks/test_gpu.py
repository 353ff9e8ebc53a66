"""The GPU benchmark: the whole script at tiny size, and that a wrong kernel is an error and not timed."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import NoReturn

import pytest
import torch

from midspan.engine.backends.cuda_graph import Size
from midspan.engine.bench import timing
from midspan.engine.bench.cases import Case
from midspan.server.bench.kernels import as_text, report
from midspan.server.cli import main

pytest.importorskip("triton", reason="no triton on this system")

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks/gpu.py"
OPS = {
    *("rms_norm_residual", "rms_norm_join", "qkv", "attention", "geglu", "router", "experts", "experts_4bit"),
    *("experts_fp8", "linear_fp8", "vocabulary", "settle"),
}


# The script with the interpreter as the kernels' tests have it, which is faster; it chooses and imports that itself.
TINY = """
import sys
sys.path.insert(0, "benchmarks")
import gpu
from tests.kernels import interpreter
interpreter.fix()
sys.exit(gpu.main(sys.argv[1:]))
"""


def run(*command: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, *command], cwd=ROOT, env=env, capture_output=True, text=True)


@pytest.mark.gpu_kernels
@pytest.mark.timeout(600)
def test_the_script_runs_end_to_end_at_tiny_size(tmp_path: Path) -> None:
    """Every phase and every form of the weights; transformers computes the same logits from the same weights."""
    out = tmp_path / "gpu.jsonl"
    done = run("-c", TINY, "--tiny", "--out", str(out))
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row for row in rows if "skipped" in row or "error" in row] == []
    assert {row["op"] for row in rows if row.get("measure") == "kernel"} == OPS
    for form in ("fp8", "bf16", "int4", "nvfp4"):
        mine = [row["measure"] for row in rows if row.get("form") == form and row["measure"] != "transformers"]
        assert mine == ["made", "prefill", "replay", "forward", "infill"]
    (decided,) = (row for row in rows if row["measure"] == "decisions")
    assert decided["steps"] == 4
    theirs = [row for row in rows if row["measure"] == "transformers"]
    assert [row["experts"] for row in theirs] == ["eager", "grouped_mm", "batched_mm"]
    # float32 in two orders of summation, through two layers.
    assert all(row["difference"] < 1e-4 and not row["wrong"] for row in theirs)
    (best,) = (row for row in rows if row["measure"] == "fastest")
    assert best["p50_ms"] == min(row["p50_ms"] for row in theirs)
    order = list(dict.fromkeys(row.get("form", row["measure"]) for row in rows))
    assert order == ["machine", "decisions", "kernel", "fp8", "bf16", "fastest", "int4", "nvfp4"]
    assert all(row["p20_ms"] <= row["p50_ms"] <= row["p80_ms"] for row in rows if "p50_ms" in row)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module; benchmarks/ is no package."""
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    return importlib.import_module("gpu")


def refused(*_: object) -> NoReturn:
    raise RuntimeError("out of resource: shared memory,\nrequired 102400")


def test_a_failure_is_a_row_and_the_run_goes_on(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel, a form and the tiny network fail with one line each; everything after them still runs."""
    right = torch.ones(2)

    def three(*_: object, fp8: bool) -> Iterator[Case]:
        assert fp8
        for name, once in (("first", lambda: (right,)), ("broken", refused), ("last", lambda: (right,))):
            yield Case(op=name, shape="2", run=once, reference=lambda: (right,), bytes=8)

    monkeypatch.setattr(script, "cases", three)
    monkeypatch.setattr(script, "random_backend", refused)
    monkeypatch.setattr(script, "decisions_row", refused)
    ends = time.monotonic() + 600
    told = script.Run(extent=script.SMALL, device=torch.device("cpu"), ends=ends, out=tmp_path / "rows.jsonl")
    script.measure(told, ("fp8", "bf16"))
    said = "RuntimeError: out of resource: shared memory, required 102400"
    names = [row.get("op") or row.get("phase") or row["measure"] for row in told.rows]
    assert names == ["machine", "decisions", "first", "broken", "last", "fp8", "bf16"]
    assert [row.get("error") for row in told.rows] == [None, said, None, said, None, said, said]


def test_a_failing_shape_does_not_end_the_others(script: ModuleType) -> None:
    assert script.attempt({"width": 4}, refused)["error"].startswith("RuntimeError")
    assert script.attempt({"width": 4}, lambda: {"p50_ms": 1.0}) == {"width": 4, "p50_ms": 1.0}

    def full() -> NoReturn:
        raise torch.OutOfMemoryError("CUDA out of memory")

    assert "error" not in script.attempt({}, full)
    assert "out of GPU memory" in script.attempt({}, full)["why"]


def test_a_wrong_expert_implementation_is_never_the_fastest(script: ModuleType) -> None:
    shape = {"canvases": 1, "width": 4, "context": 3}
    ways = (("eager", 3.0, False), ("grouped_mm", 2.0, False), ("batched_mm", 1.0, True))
    rows = [
        {"experts": name, "p20_ms": ms, "p50_ms": ms, "p80_ms": ms, "wrong": wrong, **shape} for name, ms, wrong in ways
    ]
    assert [row["experts"] for row in script.fastest(rows)] == ["grouped_mm"]
    assert list(script.fastest(rows[2:])) == []


class Step:
    """The parts of a StepGraph that replay_row uses; its replays may have another entropy or not count the step."""

    def __init__(self, *, entropy: float = 1.0, counts: bool = True) -> None:
        self.size, self._graph = Size(batch=1, rows=1, width=1, free=1, steps=4), object()
        self._entropy, self._counts = entropy, counts
        self.current, self.draft, self.soft, self.entropy, self.finished, self.step = torch.zeros(6, 1)

    def run(self) -> None:
        self._launch()
        self.entropy.fill_(self._entropy)
        self.step -= 0 if self._counts else 1

    def _launch(self) -> None:
        self.entropy.fill_(1.0)
        self.step += 1


def test_a_replay_that_differs_from_its_launches_is_an_error(script: ModuleType) -> None:
    assert script.replay_row(Step()) == {"canvases": 1, "width": 1, "captured": True}
    assert script.replay_row(Step(entropy=2.0))["error"] == "a replay differs from its launches: entropy"
    assert "step is 0 after 2" in script.replay_row(Step(counts=False))["error"]


@pytest.mark.timeout(60)
def test_without_a_gpu_script_and_bench_kernels_fail_with_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = run(str(SCRIPT), "--out", str(tmp_path / "none.jsonl"))
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "torch sees no GPU here" in done.stderr
    assert main(["bench", "kernels", "--device", "cpu", "--json"]) == 1
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert "timed on a GPU" in said.err


def test_a_kernel_that_differs_from_its_reference_is_not_timed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    right, calls = torch.tensor([1.0, 2.0]), list[str]()

    def case(op: str, result: torch.Tensor) -> Case:
        def once() -> tuple[torch.Tensor]:
            calls.append(op)
            return (result,)

        return Case(op=op, shape="2", run=once, reference=lambda: (right,), bytes=8, tolerance=0.01)

    def three(*_: object, fp8: bool) -> Iterator[Case]:
        assert fp8
        yield from (case("right", right * 1.001), case("wrong", right * 1.1), case("nan", right * torch.nan))

    monkeypatch.setattr(timing, "cases", three)
    rows = list(timing.kernel_rows(torch.device("cpu"), repeats=2))
    assert ["error" in row for row in rows] == [False, True, True]
    assert {name: calls.count(name) for name in calls} == {"right": 3, "wrong": 1, "nan": 1}
    assert report(rows, as_json=True) == 1
    said = capsys.readouterr()
    assert all(json.loads(line)["commit"] for line in said.out.splitlines())
    assert said.err.count("\n") == 2
    assert report(rows[:1], as_json=False) == 0


def test_the_share_of_the_roofline_is_the_least_time_over_the_time_taken() -> None:
    case = Case(op="copy", shape="", run=tuple, reference=tuple, bytes=4_800_000_000, flops=989_000_000_000)
    assert timing.share(case, 2.0, "NVIDIA H200") == pytest.approx(0.5)
    assert timing.share(case, 2.0, "another") is None
    row = {"op": "copy", "shape": "1", "p20_ms": 1.0, "p50_ms": 2.0, "p80_ms": 3.0, "share_of_roofline": 0.5}
    assert "50% of the roofline" in as_text(row)
    assert "unknown rates" in as_text(row | {"share_of_roofline": None})
