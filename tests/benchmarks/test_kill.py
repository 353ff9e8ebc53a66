"""The store of a server that is killed on its acknowledgement has the acceptance; `benchmarks/kill.py` kills 200."""

from __future__ import annotations

from pathlib import Path

from benchmarks.kill import kill
from midspan.server.client.typist import server_command


def test_acknowledged_acceptances_are_in_the_store(tmp_path: Path) -> None:
    command = [*server_command("embedded", "cpu", None), "--state-dir", str(tmp_path)]
    found = kill(command, tmp_path, 4, servers=2)
    assert (found["acknowledged"], found["lost"], found["store"]) == (7, 0, "ok")
