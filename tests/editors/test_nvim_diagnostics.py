"""A real Neovim passes diagnostics of other servers on to midspan, and the server keeps them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from midspan.server.context.diagnostics import Diagnosis
from tests.editors.test_nvim import HERE, PLUGIN, ROOT, run_nvim
from tests.server.inside import Inside
from tests.server.raw_client import call


def test_diagnostics_of_another_server_are_passed_on(nvim: str, tmp_path: Path) -> None:
    file, told, result = tmp_path / "sample.py", tmp_path / "case.json", tmp_path / "result.json"
    file.write_text("import os\nprint(naem)\n")
    server = [sys.executable, str(ROOT / "tests" / "server" / "scripted_serve.py"), "--state-dir", str(tmp_path)]
    found = [{"lnum": 1, "col": 6, "message": 'Undefined\nname "naem"', "severity": 1}]
    case = {"plugin": str(PLUGIN), "command": server, "settings": {}, "file": str(file), "found": found}
    told.write_text(json.dumps({**case, "timeout_ms": 45_000, "result": str(result)}))
    ended = run_nvim(nvim, tmp_path, ["-S", str(HERE / "diagnose.lua")], MIDSPAN_CASE=str(told))
    seen = json.loads(result.read_text())
    assert (seen.get("trouble"), ended.returncode) == (None, 0)
    [one] = seen["told"]["diagnostics"]
    assert (seen["told"]["uri"], one["range"]["start"]) == (file.as_uri(), {"line": 1, "character": 6})
    document = {"uri": file.as_uri(), "languageId": "python", "version": 1, "text": file.read_text()}
    inside = Inside(tmp_path / "inside")
    inside.initialize()
    inside.server.context._tokens = 500
    inside.send(call(None, "textDocument/didOpen", {"textDocument": document}))
    inside.send(call(None, "midspan/diagnostics", seen["told"]))
    assert inside.server.context._diagnosed.around(file.as_uri(), 1, 1) == [Diagnosis(1, 'Undefined name "naem"')]
