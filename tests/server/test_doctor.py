"""doctor tells what runs, and exits 1 with the mend when something must be mended."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from midspan.server.cli import main
from tests.engine.tiny import tiny_checkpoint


def examine(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, dict[str, object]]:
    code = main(["doctor", "--json", *argv])
    return code, json.loads(capsys.readouterr().out)


def test_all_is_well(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    checkpoint = str(tiny_checkpoint(folder))
    code, found = examine(capsys, "--checkpoint", checkpoint, "--state-dir", str(tmp_path / "state"))
    assert (code, found["mend"]) == (0, [])
    assert found["checkpoint"] == checkpoint
    assert found["kernels"] == dict.fromkeys(
        ("attention", "rms_norm", "rope", "geglu", "router", "experts"), "reference"
    )
    assert {"torch", "pygls", "tokenizers"} <= set(found["packages"])  # type: ignore[call-overload]


def test_a_broken_checkpoint_and_an_unwritable_state_folder_are_both_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    state = tmp_path / "file" / "state"
    code, found = examine(capsys, "--checkpoint", str(tmp_path), "--state-dir", str(state))
    assert code == 1
    assert isinstance(found["mend"], list)
    one, two = found["mend"]
    assert "another --state-dir" in one
    assert "config.json: missing" in two


def test_cuda_without_a_gpu_is_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        return
    code, found = examine(capsys, "--device", "cuda", "--state-dir", str(tmp_path))
    assert (code, found["mend"]) == (1, [f"device cuda: {MEND}"])


MEND = "torch sees no GPU here; use --device cpu or install a CUDA build of torch"
