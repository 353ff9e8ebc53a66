"""`midspan bench load` against the real llama-server: two people at its one slot, and what it counts of that."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from midspan.engine.remote import counted
from midspan.server.bench import load
from midspan.server.bench.people import Rhythm
from midspan.server.cli import main
from tests.engine.remote.test_real_llama_server import Running, server

__all__ = ["server"]
TEXT = "def total(items):\n    result = 0\n    for item in items:\n        result += item.price\n    return result\n"

pytestmark = [pytest.mark.llama_server, pytest.mark.timeout(240)]


def test_two_people_share_its_slot_and_it_counts_its_passes(
    server: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setattr(load, "RHYTHM", Rhythm(key_s=0.5, line_s=0.2))
    (tmp_path / "midspan").mkdir()
    table = f'[[backends]]\nname = "there"\nkind = "llama-server"\naddress = "{server.url}"\n'
    (tmp_path / "midspan" / "config.toml").write_text(table)
    file = tmp_path / "a.py"
    file.write_text(TEXT)
    before = counted(server.remote)
    argv = ["bench", "load", "--backend", "there", "--users", "2", "--seconds", "6", "--files", str(file), "--json"]
    assert main(argv) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["errors"] == {}
    assert found["requests"] > 2
    assert (found["slots"], found["forwards_by"]) == (1.0, "metrics of the server")
    assert 0 < found["forwards"] <= counted(server.remote)["forwards"] - before["forwards"]
    assert found["utilisation"] == found["at_work"] > 0
