"""The comparison with transformers' generate: a real run on a tiny checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks.versus_transformers import Ours, Theirs, Times, main
from midspan.engine.api import Hole
from midspan.engine.weights.export import export
from tests.engine.tiny import SOURCE, tiny_checkpoint, tiny_infiller

pytestmark = pytest.mark.parity


@pytest.fixture(autouse=True)
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    # Nothing is compiled here, and marking a step would import the whole compiler.
    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", lambda: None)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A tiny checkpoint whose config has no image token, as that of the embedded one."""
    folder = tiny_checkpoint(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"image_token_id": None}))
    return folder


def test_one_run_times_both_sides_in_both_shapes(capsys: pytest.CaptureFixture[str], checkpoint: Path) -> None:
    files = checkpoint / "heldout.jsonl"
    files.write_text(json.dumps({"package": "p", "path": "a.py", "text": SOURCE}) + "\n")
    argv = ["--files", str(files), "--gaps", "2", "--rounds", "2", "--threads", "1", "--device", "cpu"]
    assert main([*argv, "--checkpoint", str(checkpoint)]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (found["gaps"], found["rounds"], found["threads"], found["canvas_length"]) == (2, 2, 1, 32)
    for shape in ("shipped", "one_canvas", "shipped_next_key", "one_canvas_next_key"):
        row = found[shape]
        assert row["midspan_ms"] > 0 < row["transformers_ms"]
        assert row["ratio_quartiles"][0] <= row["ratio_quartiles"][1]
        assert row["steps_mean"] == 4
    assert (found["shipped"]["slots"], found["one_canvas"]["slots"], found["one_canvas"]["draws"]) == ([4, 8], [32], 1)


def test_the_prefix_cache_is_empty_or_from_the_key_before(tmp_path: Path) -> None:
    infiller, hole = tiny_infiller(tmp_path), Hole(prefix="def total(items):\n    result = ", suffix="\n")
    ours, typing = Ours(infiller), Ours(infiller, next_key=True)
    whole = len(infiller.prompt.lay_out(hole).prefix)
    for _ in range(2):
        ours.come_to(hole)
        assert infiller.prefix.encoded_tokens == 0
        ours.fill(hole)
        assert infiller.prefix.encoded_tokens == whole
    typing.come_to(hole)
    before = infiller.prefix.encoded_tokens
    typing.fill(hole)
    assert 0 < infiller.prefix.encoded_tokens - before < whole / 2


@pytest.mark.parametrize("steps", [1, 3])
def test_generate_takes_exactly_the_steps_it_is_given(checkpoint: Path, tmp_path: Path, steps: int) -> None:
    # With this threshold a canvas is always confident: only stability could end it early.
    infiller = tiny_infiller(tmp_path, confidence_threshold=1e9)
    export(str(checkpoint), tmp_path / "out", torch.float32)
    theirs = Theirs(tmp_path / "out", infiller, torch.float32, None)
    with torch.no_grad():
        for parameter in theirs.model.parameters():
            parameter.zero_()
    theirs.generate([2, 5, 6], steps)
    assert theirs.forwards == steps


def test_the_ratio_is_that_of_the_medians() -> None:
    row = Times(midspan=[1.0, 2.0, 30.0], transformers=[8.0, 10.0, 12.0], steps=[4, 4, 1]).row()
    assert (row["midspan_ms"], row["transformers_ms"], row["ratio"], row["steps_mean"]) == (2, 10, 5, 3)
    # Pair by pair: 8, 5 and 0.4 times.
    assert row["ratio_quartiles"] == [2.7, 6.5]


def test_bad_arguments_name_the_fix(capsys: pytest.CaptureFixture[str], checkpoint: Path) -> None:
    assert main(["--files", str(checkpoint / "none.jsonl"), "--checkpoint", str(checkpoint)]) == 1
    assert "No such file" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["--files", "x", "--rounds", "3"])
    assert "give an even number" in capsys.readouterr().err
