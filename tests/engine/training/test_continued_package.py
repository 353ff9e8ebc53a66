"""Packaging a continued checkpoint: small files, settings for its prompt, and the cost of fewer bits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import midspan.engine
from midspan.engine.api import Budget, CheckpointError, Hole
from midspan.engine.training.continued import package as module
from midspan.engine.training.continued.evaluate import sizes
from midspan.engine.training.continued.package import measure, package
from midspan.engine.training.continued.texts import Corpus, Text
from midspan.engine.weights.load_llama import Bits, open_llama
from tests.engine.llama_tiny import SOURCE, write_checkpoint

HOLE = Hole(prefix=SOURCE[:140], suffix="\n    return result\n")


def run_of(folder: Path) -> Path:
    """A run that has written its checkpoint."""
    write_checkpoint(folder / "checkpoint", spread=0.3)
    (folder / "log.jsonl").write_text('{"event": "finished"}\n')
    return folder


@pytest.mark.parametrize("bits", [4, 8])
def test_a_package_is_small_and_fills_gaps(tmp_path: Path, bits: Bits) -> None:
    row = package(run_of(tmp_path / "run"), tmp_path / "out", bits)
    assert (row["bits"], row["files"], row["from"]) == (bits, 1, str(tmp_path / "run" / "checkpoint"))
    assert row["bytes"] < (tmp_path / "run/checkpoint/model.safetensors").stat().st_size / 2
    assert json.loads((tmp_path / "out/log.jsonl").read_text()) == {"event": "finished"}
    engine = midspan.engine.load(str(tmp_path / "out"), "cpu")
    try:
        assert (engine.about.layout, engine.about.calibrated) == ("marks", False)
        assert {"python", "go", "rust"} < set(engine.about.languages)
        assert engine.fill(HOLE, Budget()).result(60).text
    finally:
        engine.close()
    network = open_llama(tmp_path / "out")
    assert sizes(network)["parameters"] == sizes(open_llama(tmp_path / "run/checkpoint"))["parameters"]


def test_the_cost_of_fewer_bits_is_measured_on_the_same_gaps(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "source", spread=0.3)
    corpus = Corpus([Text(language="python", package="p", path="p.py", text=SOURCE)])
    exact = measure(source, corpus, 6)
    package(source, tmp_path / "eight", 8)
    package(source, tmp_path / "four", 4)
    off = [abs(measure(tmp_path / name, corpus, 6)["python"] - exact["python"]) for name in ("eight", "four")]
    assert exact["python"] > 1
    assert off[0] < off[1]


def test_a_package_that_is_too_large_or_would_overwrite_its_source_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_checkpoint(tmp_path / "source", spread=0.3)
    with pytest.raises(CheckpointError, match="is the checkpoint itself; give another folder"):
        package(source, source, 4)
    monkeypatch.setattr(module, "MOST_ALL", 1000)
    with pytest.raises(CheckpointError, match="a package has 1000 and 16777216 at most: give fewer --bits"):
        package(source, tmp_path / "out", 8)


def test_a_smaller_package_leaves_no_file_of_a_larger_one(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "source", spread=0.3)
    out = tmp_path / "out"
    out.mkdir()
    for name in ("model-00001-of-00002.safetensors", "model.safetensors.index.json"):
        (out / name).write_text("{}")
    package(source, out, 4)
    assert [file.name for file in out.glob("model*")] == ["model.safetensors"]
