"""What a GPU is to show: the script end to end at tiny size, and that a wrong kernel is refused, not timed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from midspan.engine import timing
from midspan.engine.cases import Case
from midspan.server.bench.kernels import as_text, report
from midspan.server.cli import main

pytest.importorskip("triton", reason="no triton on this system")

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "docs/benchmarks/gpu.py"
OPS = {
    *("rms_norm_residual", "rms_norm_join", "qkv", "attention", "geglu", "router", "experts", "experts_4bit"),
    *("experts_fp8", "linear_fp8", "vocabulary", "settle"),
}


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, str(SCRIPT), *arguments], env=env, capture_output=True, text=True)


@pytest.mark.timeout(600)
def test_the_proof_runs_end_to_end_at_tiny_size(tmp_path: Path) -> None:
    """Every phase, every form of the weights; and transformers says the same of the same weights."""
    out = tmp_path / "gpu.jsonl"
    done = run("--tiny", "--out", str(out))
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row for row in rows if "skipped" in row or "error" in row] == []
    assert {row["op"] for row in rows if row.get("measure") == "kernel"} == OPS
    for form in ("bf16", "fp8", "int4"):
        mine = [row["measure"] for row in rows if row.get("form") == form and row["measure"] != "transformers"]
        assert mine == ["made", "prefill", "forward", "infill"]
    theirs = [row for row in rows if row["measure"] == "transformers"]
    assert [row["experts"] for row in theirs] == ["eager", "grouped_mm"]
    # float32 in two orders of summation, through two layers.
    assert all(row["difference"] < 1e-4 for row in theirs)
    assert all(row["p20_ms"] <= row["p50_ms"] <= row["p80_ms"] for row in rows if "p50_ms" in row)


@pytest.mark.timeout(60)
def test_without_a_gpu_both_say_so_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = run("--out", str(tmp_path / "none.jsonl"))
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
