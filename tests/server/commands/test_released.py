"""The released layouts on a stand-in: `fill`, `doctor` and `bench quality`, in a process of its own too."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from midspan.server.cli import main
from tests.engine.chatting import SPECIAL, chat_checkpoint
from tests.engine.tiny import SOURCE

TASKS = Path(__file__).parents[3] / "fixtures" / "bench" / "mbpp-sample.jsonl"
MIDSPAN = [sys.executable, "-m", "midspan.server"]
LAYOUTS: dict[str, dict[str, Any]] = {
    "without a midspan.json": {},
    "prompted": {"kind": "prompted", "quantize": "fp8"},
    "clamped": {"kind": "clamped", "quantize": "int4", "slots": [1, 2, 4, 8], "block_slots": [8, 16]},
}


def run(capsys: pytest.CaptureFixture[str], *argv: object) -> dict[str, Any]:
    """The JSON object that a command prints last, run in this process."""
    code = main([*map(str, argv)])
    said = capsys.readouterr()
    assert code == 0, said.err
    out: dict[str, Any] = json.loads(said.out.splitlines()[-1])
    return out


def run_apart(*argv: object) -> dict[str, Any]:
    """The same of a process of its own."""
    done = subprocess.run([*MIDSPAN, *map(str, argv)], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    out: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return out


@pytest.mark.timeout(300)
@pytest.mark.parametrize("given", LAYOUTS.values(), ids=LAYOUTS)
def test_fill_and_bench_quality(capsys: pytest.CaptureFixture[str], tmp_path: Path, given: dict[str, Any]) -> None:
    checkpoint, file = chat_checkpoint(tmp_path, **given), tmp_path / "shop.py"
    file.write_text(SOURCE)
    here = ("--checkpoint", checkpoint, "--device", "cpu", "--state-dir", tmp_path / "state", "--json")
    line = SOURCE.split("\n").index("        if item.price > 0:") + 1
    fill = run(capsys, "fill", file, "--at", f"{line}:21", "--to", f"{line}:25", *here)
    again = run_apart("fill", file, "--at", f"{line}:21", "--to", f"{line}:25", *here)
    assert {key: fill[key] for key in ("text", "candidates", "steps")} == {
        key: again[key] for key in ("text", "candidates", "steps")
    }
    assert fill["checkpoint"] == str(checkpoint)
    assert fill["steps"] > 1
    assert not [token for token in SPECIAL if token in fill["text"]]
    summary = run(capsys, "bench", "quality", "--tasks", TASKS, "--limit", 2, *here)
    assert summary["n"] == 2
    assert summary["checkpoint"] == str(checkpoint)
    assert summary["steps_mean"] > 1
    # The confidence is not calibrated, so every fill is shown.
    assert summary["shown"] in (0.0, 0.5, 1.0)


def test_doctor_names_layout_and_precision(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    checkpoint = chat_checkpoint(tmp_path, kind="clamped", quantize="int4", slots=[2, 4])
    here = ("--checkpoint", checkpoint, "--device", "cpu", "--state-dir", tmp_path / "state", "--json")
    found = run(capsys, "doctor", *here)
    assert found["layout"] == "clamped"
    assert "old_keys" not in found
    assert found["dtype"].endswith(" + int4 experts")
    assert "rust" in found["trained_on"]


def test_loading_is_shown_in_a_terminal(tmp_path: Path) -> None:
    file = tmp_path / "shop.py"
    file.write_text(SOURCE)
    checkpoint = chat_checkpoint(tmp_path)
    ours, theirs = pty.openpty()
    argv = ["fill", str(file), "--at", "2:1", "--checkpoint", str(checkpoint), "--device", "cpu"]
    running = subprocess.Popen([*MIDSPAN, *argv], stdout=subprocess.DEVNULL, stderr=theirs)
    os.close(theirs)
    said = b""
    while chunk := _read(ours):
        said += chunk
    os.close(ours)
    assert running.wait(60) == 0
    assert b"loading" in said
    assert b"bytes" in said or b"kB" in said


def _read(end: int) -> bytes:
    """The bytes written to the other side of a terminal; empty once it is closed."""
    try:
        return os.read(end, 65536)
    except OSError:
        return b""
