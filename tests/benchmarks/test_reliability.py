"""The reliability plot: bins of equal size, right intervals, and a picture on disk."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.reliability import BINS, binned, calibration_error, main, wilson

PAIRS = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=BINS, max_size=200)


@given(PAIRS)
def test_bins_hold_every_pair_once_in_order_and_have_equal_sizes(pairs: list[tuple[float, bool]]) -> None:
    bins = binned(pairs)
    assert len(bins) == BINS
    assert sum(b.count for b in bins) == len(pairs)
    assert max(b.count for b in bins) - min(b.count for b in bins) <= 1
    assert math.isclose(sum(b.count * b.right for b in bins), sum(right for _, right in pairs), abs_tol=1e-9)
    means = [b.confidence for b in bins]
    assert all(left <= right + 1e-9 for left, right in pairwise(means))


@given(st.integers(1, 500).flatmap(lambda count: st.tuples(st.integers(0, count), st.just(count))))
def test_the_interval_is_where_the_score_test_stops_rejecting(case: tuple[int, int]) -> None:
    hits, count = case
    low, high = wilson(hits, count)
    share = hits / count
    assert -1e-12 <= low <= share + 1e-12
    assert share - 1e-12 <= high <= 1 + 1e-12
    for edge in (low, high):
        # If the edge is the true share, the observed one is exactly at the limit of the 95 % score test.
        if 1e-9 < edge < 1 - 1e-9:
            assert abs(share - edge) / math.sqrt(edge * (1 - edge) / count) == pytest.approx(1.96, abs=1e-3)


def test_a_right_confidence_has_no_calibration_error_and_an_overconfident_one_has() -> None:
    honest = [(0.25, index % 4 == 0) for index in range(400)]
    assert calibration_error(binned(honest, 1)) == pytest.approx(0)
    boasting = [(0.9, index % 4 == 0) for index in range(400)]
    assert calibration_error(binned(boasting)) == pytest.approx(0.65)


def test_the_command_draws_a_picture_and_prints_its_bins(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pairs = tmp_path / "calibration.json"
    confidence = [index / 99 for index in range(100)]
    pairs.write_text(json.dumps({"confidence": confidence, "right": [value > 0.5 for value in confidence]}))
    picture = tmp_path / "reliability.png"
    assert main([str(pairs), "--out", str(picture)]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG\r\n")
    found = json.loads(capsys.readouterr().out)
    assert found["holes"] == 100
    assert [b["right"] for b in found["bins"]] == [0] * 5 + [1] * 5


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        ("{", "give the calibration.json"),
        ("[]", 'needs the keys "confidence" and "right"'),
        ('{"confidence": [0.5], "right": [true, false]}', "as many entries in both lists"),
        ('{"confidence": [0.5], "right": [true]}', "10 at least"),
        (json.dumps({"confidence": [2.0] * 10, "right": [True] * 10}), "from 0 to 1"),
        (json.dumps({"confidence": ["x"] * 10, "right": [True] * 10}), "give the calibration.json"),
        ('{"confidence": 1, "right": 1}', "give the calibration.json"),
    ],
)
def test_an_unusable_file_is_refused_with_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, fix: str
) -> None:
    pairs = tmp_path / "calibration.json"
    pairs.write_text(text)
    assert main([str(pairs), "--out", str(tmp_path / "x.png")]) == 1
    said = capsys.readouterr().err
    assert fix in said
    assert said.count("\n") == 1
    assert not (tmp_path / "x.png").exists()


def test_a_missing_file_is_refused_with_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main([str(tmp_path / "none.json")]) == 1
    assert "No such file" in capsys.readouterr().err
