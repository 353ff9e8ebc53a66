"""A real Neovim, headless: ghost text appears, Tab accepts it, the buffer is right, and the store says accepted."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.server import scripted

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PLUGIN = ROOT / "editors" / "nvim"
LOOPS = """\
def show(names):
    for name in names:
        print(name)


def show_twice(names):
    for name in
        print(name, name)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """The case that the Lua driver reads; inline.lua describes the fields."""

    plugin: str
    command: list[str]
    settings: dict[str, object]
    file: str
    row: int
    typed: str
    keys: list[str]
    loads: bool
    timeout_ms: int
    result: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """The driver's record: the first ghost text, the buffer before the first key, after each key, and at the end.

    `undone` is the buffer once the last key has been undone, `fallback` the line that Tab made without any ghost text.
    """

    before: list[str]
    ghost: list[str]
    steps: list[list[str]]
    after: list[str]
    undone: list[str]
    fallback: str


def run_nvim(nvim: str, scratch: Path, arguments: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
    homes = {f"XDG_{kind}_HOME": str(scratch / kind.lower()) for kind in ("CONFIG", "DATA", "STATE", "CACHE")}
    environment = os.environ | homes | {"HOME": str(scratch), "PYTHONPATH": str(ROOT / "src")} | variables
    command = [nvim, "--headless", "-u", "NONE", "-i", "NONE", "-n", *arguments]
    return subprocess.run(
        command, env=environment, cwd=scratch, capture_output=True, text=True, timeout=110, check=False
    )


def complete(
    nvim: str, scratch: Path, server: list[str], text: str, *, row: int, typed: str, loads: bool,
    keys: tuple[str, ...] = ("<Tab>",), **settings: object,
) -> Seen:  # fmt: skip
    """Open `text`, type at the end of the 1-based `row`, accept the suggestion with `keys`."""
    file, told, result = scratch / "sample.py", scratch / "case.json", scratch / "result.json"
    file.write_bytes(text.encode())
    case = Case(
        plugin=str(PLUGIN), command=server, settings=settings, file=str(file), row=row, typed=typed, keys=[*keys],
        loads=loads, timeout_ms=45_000, result=str(result),
    )  # fmt: skip
    told.write_text(json.dumps(asdict(case)), encoding="utf-8")
    ended = run_nvim(nvim, scratch, ["-S", str(HERE / "inline.lua")], MIDSPAN_CASE=str(told))
    assert result.exists(), ended.stderr
    seen = json.loads(result.read_text(encoding="utf-8"))
    trouble = seen.pop("trouble", None)
    assert trouble is None, "\n".join(log.read_text() for log in (scratch / "state" / "nvim").glob("lsp.log"))
    assert ended.returncode == 0, ended.stderr
    return Seen(**seen)


def inserted(before: list[str], row: int, ghost: list[str]) -> list[str]:
    """The buffer with the ghost text inserted at the end of the 1-based `row`."""
    first, *rest = ghost
    return [*before[: row - 1], before[row - 1] + first, *rest, *before[row:]]


def taken_rows(state_dir: Path) -> list[tuple[int, int | None]]:
    """For each suggestion how many characters were accepted in part, and when it was accepted whole."""
    store = sqlite3.connect(state_dir / "telemetry.db")
    try:
        return store.execute("SELECT partial_chars, accepted_ts FROM completion ORDER BY ts").fetchall()
    finally:
        store.close()


def accepted_rows(state_dir: Path) -> list[bool]:
    store = sqlite3.connect(state_dir / "telemetry.db")
    try:
        return [accepted is not None for (accepted,) in store.execute("SELECT accepted_ts FROM completion ORDER BY ts")]
    finally:
        store.close()


def test_ghost_text_is_shown_and_accepted(nvim: str, tmp_path: Path) -> None:
    state = tmp_path / "state"
    server = [sys.executable, str(ROOT / "tests" / "server" / "scripted_serve.py"), "--state-dir", str(state)]
    seen = complete(
        nvim, tmp_path, server, "def add(a, b):\n    ret\n\n\nadd(1, 2)\n", row=2, typed="urn ", loads=False
    )
    assert seen.ghost == [scripted.TEXT]
    assert seen.after == inserted(seen.before, 2, [scripted.TEXT])
    assert seen.fallback == "\t"
    # Undo takes back the suggestion alone.
    assert seen.undone == seen.before
    assert accepted_rows(state)[-1:] == [True]


def test_a_suggestion_is_taken_word_by_word_and_line_by_line(nvim: str, tmp_path: Path) -> None:
    state = tmp_path / "state"
    server = [sys.executable, str(ROOT / "tests" / "server" / "scripted_serve.py"), "--state-dir", str(state)]
    text, keys = "def lines(left, right):\n\n", ("<M-Right>", "<M-Right>", "<M-C-Right>", "<M-C-Right>")
    seen = complete(nvim, tmp_path, server, text, row=2, typed="    ", loads=False, keys=keys)
    one, two = scripted.TEXT.split(" ")[0], " ".join(scripted.TEXT.split(" ")[:2])
    assert [step[1:] for step in seen.steps] == [
        [f"    {one}"],
        [f"    {two}"],
        [f"    {scripted.TEXT}"],
        [f"    {scripted.TEXT}", f"    {scripted.TEXT}"],
    ]
    assert seen.undone == seen.steps[2]
    taken = [(partial, accepted is not None) for partial, accepted in taken_rows(state)]
    assert taken == [(len(f"{scripted.TEXT}"), True)]


def test_characters_typed_along_just_before_accepting_are_not_inserted_twice(nvim: str, tmp_path: Path) -> None:
    """Neovim sends requests some time after the last key: until then the suggestion belongs to the earlier text."""
    server = [sys.executable, str(ROOT / "tests" / "server" / "scripted_serve.py"), "--state-dir", str(tmp_path)]
    keys = (scripted.TEXT[0], f"+{scripted.TEXT[1]}", "+<Tab>")
    seen = complete(nvim, tmp_path, server, "x = \n", row=1, typed=" ", loads=False, keys=keys)
    assert seen.after == [f"x =  {scripted.TEXT}"]
    assert seen.undone == [f"x =  {scripted.TEXT[:2]}"]


def test_lines_are_accepted_in_a_file_with_crlf(nvim: str, tmp_path: Path) -> None:
    server = [sys.executable, str(ROOT / "tests" / "server" / "scripted_serve.py"), "--state-dir", str(tmp_path)]
    text = "def lines(left, right):\r\n\r\n\r\nlines(1, 2)\r\n"
    seen = complete(nvim, tmp_path, server, text, row=2, typed="    ", loads=False)
    assert seen.ghost == [scripted.TEXT, f"    {scripted.TEXT}"]
    assert seen.after == inserted(seen.before, 2, seen.ghost)


def test_the_embedded_model_completes(nvim: str, tmp_path: Path) -> None:
    state = tmp_path / "state"
    server = [sys.executable, "-m", "midspan.server", "serve", "--state-dir", str(state)]
    seen = complete(nvim, tmp_path, server, LOOPS, row=7, typed=" nam", loads=True, show_threshold=0)
    assert "".join(seen.ghost).strip()
    assert seen.after == inserted(seen.before, 7, seen.ghost)
    assert accepted_rows(state)[-1:] == [True]


def test_an_unknown_option_is_named(nvim: str, tmp_path: Path) -> None:
    ended = run_nvim(
        nvim,
        tmp_path,
        ["--cmd", f"set runtimepath+={PLUGIN}", "-c", "lua require('midspan').setup({ acept = 'x' })", "-c", "cq"],
    )
    assert 'midspan: unknown option "acept": use accept, accept_word, accept_line or config' in ended.stderr
