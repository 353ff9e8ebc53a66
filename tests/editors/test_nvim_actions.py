"""A real Neovim, headless: a code action rewrites the selection, and one undo takes it back."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

from midspan.server.actions import REWRITE
from tests.editors.test_nvim import HERE, PLUGIN, ROOT, run_nvim
from tests.server import scripted

TEXT = "def add(a, b):\n    total = a + b\n    return total\n\n\nadd(1, 2)\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """The case that the Lua driver reads; action.lua describes the fields."""

    plugin: str
    command: list[str]
    settings: dict[str, object]
    file: str
    first: tuple[int, int]
    last: tuple[int, int]
    kind: str
    timeout_ms: int
    result: str


@pytest.mark.parametrize(
    ("name", "title", "after"),
    [
        ("half", "midspan: rewrite half of the selection", TEXT.replace("a + b", scripted.TEXT)),
        ("refill", "midspan: refill the selection", TEXT.replace("a + b", scripted.TEXT)),
        ("docstring", "midspan: write the docstring", TEXT.replace("):\n", f'):\n    """{scripted.TEXT}"""\n')),
    ],
)
def test_an_action_is_applied_and_undone_in_one_step(
    nvim: str, tmp_path: Path, name: str, title: str, after: str
) -> None:
    file, told, result = tmp_path / "sample.py", tmp_path / "case.json", tmp_path / "result.json"
    file.write_text(TEXT, encoding="utf-8")
    server = [sys.executable, str(ROOT / "tests" / "server" / "scripted_serve.py")]
    case = Case(
        plugin=str(PLUGIN), command=[*server, "--state-dir", str(tmp_path / "state")], settings={}, file=str(file),
        first=(2, 12), last=(2, 17), kind=f"{REWRITE}.{name}", timeout_ms=45_000, result=str(result),
    )  # fmt: skip
    told.write_text(json.dumps(asdict(case)), encoding="utf-8")
    ended = run_nvim(nvim, tmp_path, ["-S", str(HERE / "action.lua")], MIDSPAN_CASE=str(told))
    assert result.exists(), ended.stderr
    seen = json.loads(result.read_text(encoding="utf-8"))
    assert "trouble" not in seen, ended.stderr
    assert seen["title"] == title
    assert "\n".join([*seen["after"], ""]) == after
    assert "\n".join([*seen["undone"], ""]) == TEXT
