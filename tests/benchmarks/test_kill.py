"""A server that is killed on its acknowledgement has the acceptance in its store; `benchmarks/kill.py` does 200."""

from __future__ import annotations

from pathlib import Path

from benchmarks.kill import kill
from midspan.server.client.typist import server_command


def test_what_was_acknowledged_is_there(tmp_path: Path) -> None:
    command = [*server_command("embedded", "cpu", None), "--state-dir", str(tmp_path)]
    found = kill(command, tmp_path, 4, servers=2)
    assert (found["acknowledged"], found["lost"], found["store"]) == (7, 0, "ok")
