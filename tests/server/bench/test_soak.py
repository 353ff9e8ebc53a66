"""Command `bench soak`: real server processes over stdio, with the scripted engine."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from midspan.server.bench import soak as module
from midspan.server.bench.soak import PARTS, resident_mb, soak
from midspan.server.cli import main
from tests.engine.tiny import rewrite_settings, tiny_checkpoint
from tests.server.bench.test_keystroke import WAIT_S, scripted

TEXT = "total = 1\n\n\nprint(total)\n"


async def test_every_key_is_typed_and_memory_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEYS_A_DOCUMENT", 17)
    monkeypatch.setattr(module, "CANCEL_EVERY", 5)
    found = await asyncio.wait_for(soak([TEXT, "x\n"], scripted(tmp_path), 0.5), WAIT_S)
    assert found["keystrokes"] == 100
    assert len(found["rss_mb"]) == PARTS
    assert 20 < found["warm_rss_mb"] < 500
    assert found["growth"] == pytest.approx(found["end_rss_mb"] / found["warm_rss_mb"] - 1, abs=0.01)
    assert found["response_ms"]["p50"] > 0


async def test_the_typed_documents_lie_in_an_indexed_workspace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a real checkpoint, as the scripted engine does not use the workspace."""
    monkeypatch.setattr(module, "KEYS_A_MINUTE", 20)
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    rewrite_settings(tiny_checkpoint(folder), similar_lines=4)
    for options, opened in ((["--minutes", "1"], True), (["--minutes", "1", "--no-workspace"], False)):
        command = ["bench", "soak", "--json", "--checkpoint", str(folder), *options]
        assert await asyncio.to_thread(main, command) == 0
        found = json.loads(capsys.readouterr().out)
        assert (found["workspace"], found["keystrokes"]) == (opened, 20)


async def test_growing_memory_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = iter(range(100, 200))
    monkeypatch.setattr(module, "resident_mb", lambda _: float(next(read)))
    found = await asyncio.wait_for(soak([TEXT], scripted(tmp_path), 0.5), WAIT_S)
    # The medians of the second and of the last tenth of the readings 100 to 199.
    assert (found["warm_rss_mb"], found["end_rss_mb"]) == (114.5, 194.5)
    assert found["growth"] == round(194.5 / 114.5 - 1, 5)


def test_resident_memory_of_this_process_is_plausible() -> None:
    if sys.platform == "linux":
        assert 20 < resident_mb(os.getpid()) < 100_000


def test_a_bad_number_of_minutes_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["bench", "soak", "--minutes", "0"])
    assert ended.value.code == 2
    assert "number from 1" in capsys.readouterr().err
