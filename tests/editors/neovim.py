"""A real Neovim, headless: run as it is, or played through a session of a Lua file in nvim/."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PLUGIN = ROOT / "editors" / "nvim"
PROGRAM = HERE / "scripted_midspan.py"
PATIENCE_MS = 45_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What play.lua is told; its fields are described there."""

    script: str
    session: str
    file: str
    result: str
    command: list[str]
    settings: dict[str, object] = field(default_factory=dict)
    options: dict[str, object] = field(default_factory=dict)
    plugin: str = str(PLUGIN)
    timeout_ms: int = PATIENCE_MS


@dataclass(frozen=True, slots=True)
class Stage:
    """A Neovim, a folder of its own, and a Lua file with sessions."""

    nvim: str
    scratch: Path
    script: str

    def play(
        self,
        session: str,
        text: str = "",
        *,
        settings: dict[str, object] | None = None,
        options: dict[str, object] | None = None,
        server: Sequence[str] | None = None,
    ) -> dict[str, Any]:
        """What the session saw in a Python file of this text, beside the scripted server."""
        file, told, result = self.scratch / "sample.py", self.scratch / "case.json", self.scratch / "result.json"
        file.write_bytes(text.encode())
        case = Case(
            script=str(HERE / "nvim" / self.script), session=session, file=str(file), result=str(result),
            command=list(server or scripted(self.scratch)), settings=settings or {}, options=options or {},
        )  # fmt: skip
        told.write_text(json.dumps(asdict(case)), encoding="utf-8")
        ended = run_nvim(self.nvim, self.scratch, ["-S", str(HERE / "nvim" / "play.lua")], MIDSPAN_CASE=str(told))
        assert result.exists(), ended.stderr
        seen: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
        assert "trouble" not in seen, f"{seen}\n{ended.stderr}\n{logged(self.scratch)}"
        assert ended.returncode == 0, ended.stderr
        return seen


def scripted(scratch: Path) -> list[str]:
    """The command of a server whose engine does what the text says."""
    return [sys.executable, str(PROGRAM), "serve", "--state-dir", str(scratch / "midspan")]


def logged(scratch: Path) -> str:
    """What Neovim's log of its servers holds."""
    return "\n".join(log.read_text() for log in (scratch / "state" / "nvim").glob("lsp.log"))


def run_nvim(
    nvim: str, scratch: Path, arguments: list[str], *, plain: bool = True, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run Neovim in a home folder of its own, with no configuration if `plain`."""
    homes = {f"XDG_{kind}_HOME": str(scratch / kind.lower()) for kind in ("CONFIG", "DATA", "STATE", "CACHE")}
    environment = os.environ | homes | {"HOME": str(scratch), "PYTHONPATH": str(ROOT / "src")} | variables
    command = [nvim, "--headless", *(("-u", "NONE") if plain else ()), "-i", "NONE", "-n", *arguments]
    return subprocess.run(
        command, env=environment, cwd=scratch, capture_output=True, text=True, timeout=110, check=False
    )
