"""Confidence: the fit finds known weights, the threshold keeps its precision, a run becomes a checkpoint that loads."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from midspan.engine.api import Hole
from midspan.engine.engine import load_infiller
from midspan.engine.hypotheses.hypothesis import Hypothesis
from midspan.engine.model import DiffusionGemma, ModelConfig
from midspan.engine.settings import FEATURES
from midspan.engine.training.calibrate import by_the_other_half, calibrate, cost, cost_without, fit, threshold
from midspan.engine.training.holes import HeldOut, heldout_holes
from midspan.engine.training.package import package
from midspan.engine.training.run import Recipe, Run
from midspan.engine.weights.load import load_weights, read_config
from midspan.engine.weights.midspan_json import read_settings
from tests.engine.tiny import tiny_checkpoint
from tests.engine.training.test_training import tiny_corpus


def test_the_fit_finds_the_weights_that_made_the_data() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(20_000, len(FEATURES), generator=generator)
    features *= torch.tensor([1.0, 2.0, 5.0, 1.0, 0.5, 1.0, 1.0, 4.0, 0.7, 2.0, 1.0, 1.0, 1.0, 3.0, 1.0])
    weights = torch.tensor([1.0, -0.5, 0.2, 0.0, 2.0, 1.0, 0.0, 0.2, 0.5, -0.5, 1.0, -1.0, 1.0, 0.5, -1.0])
    right = (torch.rand(20_000, generator=generator) < torch.sigmoid(features @ weights - 1.0)).float()
    bias, *found = fit(features, right)
    assert bias == pytest.approx(-1.0, abs=0.15)
    assert found == pytest.approx(weights.tolist(), abs=0.25)


def test_confidence_is_the_logistic_of_the_features() -> None:
    scored = Hypothesis(ids=(1,), log_probability=-1.0, score=-1.0, features=(-1.0, -2.0, -3.0, 0.0, 0.0), ended=True)
    assert scored.confidence((0.5, 1.0, 0.0, 0.0, 0.0, 0.0)) == pytest.approx(1 / (1 + 2.718281828**0.5))
    assert scored.confidence((0.0, 0.0, 0.0, 1e9, 0.0, 0.0)) == pytest.approx(0.0, abs=1e-9)


def test_the_threshold_is_the_lowest_that_keeps_the_precision() -> None:
    confidence = torch.linspace(1, 0, 100)
    right = (torch.arange(100) < 40).float()
    for precision, shown in ((0.5, 80), (0.8, 50)):
        above = confidence >= threshold(confidence, right, precision) - 5e-4
        assert float(right[above].mean()) >= precision
        assert int(above.sum()) == shown
    assert threshold(confidence, torch.zeros(100), 0.5) == 0.9


def test_a_fill_s_confidence_comes_from_a_fit_on_the_other_half() -> None:
    generator = torch.Generator().manual_seed(3)
    features, right = torch.randn(60, len(FEATURES), generator=generator), torch.rand(60, generator=generator).round()
    confidence = by_the_other_half(features, right)
    right[5] = 1 - right[5]
    changed = by_the_other_half(features, right) != confidence
    assert not bool(changed[:30].any())
    assert bool(changed[30:].any())


def test_the_worth_of_a_feature_is_the_cost_of_a_fit_without_it() -> None:
    generator = torch.Generator().manual_seed(4)
    features = torch.randn(400, len(FEATURES), generator=generator)
    right = (features[:, FEATURES.index("end")] > 0).float()
    known = cost(by_the_other_half(features, right), right)
    assert known < 0.25
    assert cost_without(features, right, "end") == pytest.approx(math.log(2), abs=0.1)
    assert cost_without(features, right, "drawn") == pytest.approx(known, abs=0.05)


def test_calibration_is_written_where_the_engine_reads_it(tmp_path: Path) -> None:
    tiny_checkpoint(tmp_path)
    text = "def f(a):\n    return a + 1\n\n\nvalue = f(2)\n"
    (tmp_path / "heldout.jsonl").write_text(json.dumps({"text": text}) + "\n")
    checked = list[str]()

    def judge(hole: Hole, fill: str) -> tuple[tuple[int, int], ...]:
        checked.append(fill)
        return ()

    row = calibrate(tmp_path, HeldOut(file=tmp_path / "heldout.jsonl", count=12, seed=0), 0.6, judge)
    assert checked
    settings = read_settings(tmp_path).show
    assert (len(settings.calibration), settings.show_threshold) == (len(FEATURES) + 1, row["show_threshold"])
    pairs = json.loads((tmp_path / "calibration.json").read_text())
    assert len(pairs["confidence"]) == len(pairs["right"]) == row["holes"]
    assert row["nats_without"].keys() == set(FEATURES)
    assert {kind: row[kind]["shown"] for kind in ("all", "lines", "ends_of_lines")} == pytest.approx(
        {"all": 0, "lines": 0, "ends_of_lines": 0}
    )


def test_prefix_truth_and_suffix_of_a_heldout_hole_are_the_file(tmp_path: Path) -> None:
    text = "def f(a):\n    # a note\n    return a + 1\n\n\nvalue = f(2)\n"
    file = tmp_path / "heldout.jsonl"
    file.write_text(json.dumps({"text": text}) + "\n")
    kinds = set()
    for hole, truth in heldout_holes(file, 20, seed=0):
        assert hole.prefix + truth + hole.suffix == text
        assert "note" not in truth
        kinds.add(hole.kind)
    assert kinds == {"line", "rest_of_line"}


def test_a_run_becomes_a_checkpoint_that_loads(tmp_path: Path) -> None:
    corpus = tiny_corpus(tmp_path)
    (corpus / "manifest.json").write_text("{}")
    run = Run(Recipe(), corpus, tmp_path / "run", compiled=False)
    run.save()
    for name in ("loss.png", "log.jsonl"):
        (tmp_path / "run" / name).write_text("")
    package(tmp_path / "run", corpus, tmp_path / "out")
    assert load_infiller(str(tmp_path / "out"), "cpu").backend.device.type == "cpu"
    loaded = DiffusionGemma(ModelConfig.from_json(read_config(tmp_path / "out")))
    load_weights(loaded, tmp_path / "out", torch.float32, torch.device("cpu"))
    for name, parameter in loaded.named_parameters():
        exact = run.masters[name].detach()
        # int8 rounds by at most half a 127th of a row's largest value; the product in float32 adds a little.
        limit = exact.abs().amax() * 0.501 / 127
        assert float((parameter.detach().float() - exact).abs().max()) <= float(limit)
    assert (tmp_path / "out" / "model.safetensors").stat().st_size < 10_000_000
