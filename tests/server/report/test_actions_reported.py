"""Code actions in the report: figures of their own, and none in those of suggestions."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from midspan.server.cli import main
from midspan.server.telemetry.events import ACTION, Asked, Offer
from midspan.server.telemetry.store import Telemetry
from tests.server.report.rich import make_rich_store

SETUP: dict[str, Any] = {"language": "python", "trigger": ACTION, "checkpoint": "embedded", "device": "cpu"}


def make_actions(state_dir: Path) -> None:
    """Three edits: a refill that was applied and kept, one that was undone, and a quick fix that nobody took."""
    store = Telemetry(state_dir, lambda trouble: None)
    for id, name in (("r1", "refill"), ("r2", "refill"), ("q1", "quickfix")):
        store.asked(Asked(**SETUP, kind=name, fate="produced", id=id, steps=8, latency_ms=5000.0, denoise_ms=3000.0))
        store.offered(
            Offer(
                **SETUP, kind=name, id=id, uri="file:///plan.py", confidence=0.99, chars=500, lines=9,
                latency_ms=5000.0, engine_ms=4000.0, steps=8,
            )
        )  # fmt: skip
    store.asked(Asked(**SETUP, kind="quickfix", fate="failed", reason="RuntimeError"))
    store.taken("r1")
    store.kept("r1", 30, 1.0)
    store.kept("r1", 300, 0.5)
    store.taken("r2")
    store.ended("r2", "undone")
    store.close()


def text_of(capsys: pytest.CaptureFixture[str], state: Path, *argv: str) -> str:
    assert main(["report", "--state-dir", str(state), *argv]) == 0
    return capsys.readouterr().out


def test_actions_change_no_figure_of_suggestions(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    make_rich_store(tmp_path, 60)
    before = json.loads(text_of(capsys, tmp_path, "--json", "--compare", "language"))
    make_actions(tmp_path)
    after = json.loads(text_of(capsys, tmp_path, "--json", "--compare", "language"))
    for found in (before, after):
        del found["since"], found["until"]
    acts, used = after.pop("actions"), after["measures"].pop("utilisation")
    assert used["busy_s"] == pytest.approx(before["measures"].pop("utilisation")["busy_s"] + 9.0)
    assert before.pop("actions")["offered"] == 0
    assert after == before
    assert (acts["requests"], acts["fates"]) == (4, {"produced": 3, "failed": 1})
    assert (acts["offered"], acts["accepted"], acts["undone"]) == (3, 2, 1)
    by = {name: (one["offered"], one["accepted"], one["undone"]) for name, one in acts["by"].items()}
    assert by == {"refill": (2, 2, 1), "quickfix": (1, 0, 0)}
    assert acts["kept"]["300"] == {"n": 1, "share": 0.5}


def test_every_form_shows_them(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    make_actions(tmp_path)
    page = tmp_path / "page.html"
    text = text_of(capsys, tmp_path, "--html", str(page), "--csv", str(tmp_path / "rows.csv"))
    assert "code actions   3 made, 2 applied, 1 undone at once, 50 % kept after 5 min" in text
    shown = page.read_text(encoding="utf-8")
    cells = "<td>2</td><td>2 (100 %)</td><td>1</td><td>100 %</td><td>50 %</td><td>5000 ms</td>"
    assert f'<th scope="row">refill</th>{cells}' in shown
    assert (tmp_path / "rows.csv").read_text(encoding="utf-8").count(",action,") == 3
    metrics = text_of(capsys, tmp_path, "--prometheus")
    assert 'midspan_actions_undone{kind="refill"} 1' in metrics
    assert re.search(r'midspan_actions_applied\{[^}]*kind="refill"[^}]*\} 2', metrics)
    assert re.search(r'midspan_requests\{[^}]*trigger="action"[^}]*fate="failed"\} 1', metrics)
    assert "midspan_suggestions_offered" not in metrics


def test_without_any_there_is_no_word_of_them(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    make_rich_store(tmp_path, 10)
    page = tmp_path / "page.html"
    assert "code actions" not in text_of(capsys, tmp_path, "--html", str(page))
    assert "Code actions" not in page.read_text(encoding="utf-8")
