"""`benchmarks/record_store.py` at a small size: all that it logs is stored, and every form of the report runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.record_store import A_MINUTE, log_for, main, make_store
from midspan.server.cli import main as midspan


def test_every_completion_is_stored_and_the_half_that_was_taken_is_taken(tmp_path: Path) -> None:
    found = log_for(tmp_path, 0.6)
    count = A_MINUTE // 100
    assert (found["completions"], found["stored_and_taken"], found["troubles"]) == (count, count // 2, [])


def test_the_large_store_is_one_that_the_report_reads(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    make_store(tmp_path, 700)
    assert midspan(["report", "--json", "--state-dir", str(tmp_path)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["offered"], found["accepted"], found["requests"]) == (700, 234, 700)
    assert set(found["by"]["language"]) == {"python", "typescript", "go", "rust"}


def test_it_prints_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seconds", "0.06", "--rows", "100"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["report"]["page_bytes"] < 1_000_000
    assert found["report"]["text_s"] > 0
