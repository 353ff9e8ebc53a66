"""Confidence of models that write between marks: holes that fit their files, and a fit that finds known weights."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

import midspan.engine.engine
from midspan.engine.left_to_right import LeftToRight
from midspan.engine.marks_settings import Logistic
from midspan.engine.training.calibrate_marks import Seen, fitted, holes, observe
from tests.engine.llama_tiny import SOURCE, marked_checkpoint

TEXTS = {"python": SOURCE, "go": "package main\n\nfunc main() {\n\tprintln(1)\n\tprintln(2)\n}\n"}


@pytest.fixture
def heldout(tmp_path: Path) -> Path:
    file = tmp_path / "heldout.jsonl"
    rows = ({"language": language, "text": text} for language, text in TEXTS.items())
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_holes_are_cut_out_of_files_in_turns_and_by_halves(heldout: Path) -> None:
    found = list(holes(heldout, 20, 3))
    assert [hole.language for hole, _ in found] == ["go", "python"] * 20
    for hole, truth in found:
        assert hole.prefix + truth + hole.suffix == TEXTS[hole.language]
        assert truth.strip()
        assert "\n" not in truth
        assert (hole.kind == "line") == (not hole.prefix.rpartition("\n")[2].strip())
    assert [hole.kind for hole, _ in found[::2]] == ["line", "rest_of_line"] * 10
    assert found == list(holes(heldout, 20, 3))


def test_a_fill_is_observed_as_the_confidence_reads_it(heldout: Path, tmp_path: Path) -> None:
    path = midspan.engine.engine.load_path(str(marked_checkpoint(tmp_path / "tiny")), "cpu")
    assert isinstance(path, LeftToRight)
    hole, truth = next(holes(heldout, 1, 0))
    seen = observe(path, hole, truth)
    assert seen is not None
    assert (seen.language, seen.kind, seen.right) == ("go", "line", False)
    sure = Logistic(bias=0.5, probability=3.0, length=-0.1, line=-1.0, error=-2.0)
    logit = sure.bias + sum(w * f for w, f in zip((3.0, -0.1, -1.0, -2.0), seen.features, strict=True))
    share = sure.share(seen.log_probability, seen.length, line=True, error=seen.error)
    assert share == pytest.approx(1 / (1 + 2.718281828459045**-logit))


def test_the_fit_finds_the_weights_that_made_the_data() -> None:
    chance, true = random.Random(1), Logistic(bias=-2.0, probability=5.0, length=-0.07, line=-2.2, error=-1.0)
    seen = []
    for _ in range(20_000):
        nats, length = -chance.expovariate(0.7), chance.randint(2, 20)
        line, error = chance.random() < 0.5, chance.random() < 0.3
        right = chance.random() < true.share(nats, length, line=line, error=error)
        kind, language = "line" if line else "rest_of_line", chance.choice(("go", "rust"))
        one = Seen(language=language, kind=kind, log_probability=nats, length=length, error=error, right=right)
        seen.append(one)
    found = fitted(seen, 0.8)
    near = {"bias": -2.0, "probability": 5.0, "length": -0.07, "line": -2.2, "error": -1.0}
    assert found["calibration"] == pytest.approx(near, abs=0.25)
    shown = [one for one in seen if share_of(found["calibration"], one) >= found["show_threshold"]]
    assert sum(one.right for one in shown) / len(shown) == pytest.approx(0.8, abs=0.02)
    assert found["languages"]["all"]["right_when_shown"] == pytest.approx(0.8, abs=0.001)
    assert set(found["languages"]) == {"go", "rust", "all"}
    exact = {kind: [one.right for one in seen if one.kind == kind] for kind in ("line", "rest_of_line")}
    assert {kind: one["exact"] for kind, one in found["kinds"].items()} == {
        kind: pytest.approx(sum(right) / len(right), abs=1e-4) for kind, right in exact.items()
    }


def share_of(calibration: dict[str, float], one: Seen) -> float:
    return Logistic(**calibration).share(one.log_probability, one.length, line=one.kind == "line", error=one.error)
