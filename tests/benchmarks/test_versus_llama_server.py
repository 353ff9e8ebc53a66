"""The comparison with llama-server: both sides get the same text at every key."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks import llama_server, versus_llama_server
from benchmarks.llama_server import LlamaServer, Read
from benchmarks.record import output
from benchmarks.versus_llama_server import FILES, compare, typed
from midspan.engine.api import Hole
from midspan.engine.engine import load_path
from midspan.engine.left_to_right import LeftToRight
from tests.engine.llama_tiny import SOURCE, marked_checkpoint

SCRIPT = Path(__file__).with_name("scripted_llama_server.py")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> LeftToRight:
    found = load_path(str(marked_checkpoint(tmp_path_factory.mktemp("tiny"))), "cpu")
    assert isinstance(found, LeftToRight)
    return found


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "llama-server"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{SCRIPT}" "$@"\n')
    program.chmod(0o755)
    monkeypatch.setattr(llama_server, "PROGRAM", program)


def test_what_is_read_is_the_text_of_midspan_s_prompt(path: LeftToRight) -> None:
    at = SOURCE.index("result += item.volume") + len("result += it")
    read = Read.of(Hole(prefix=SOURCE[:at], suffix=SOURCE[at + 9 :]), path.prompt)
    assert (read.above + read.line, read.line) == (SOURCE[:at], "        result += it")
    assert SOURCE[at + 9 :].startswith(read.behind)


def test_every_key_goes_to_both(path: LeftToRight, program: None, tmp_path: Path) -> None:
    keys = 2 * len(FILES)
    with LlamaServer(tmp_path / "some.gguf", threads=1) as server:
        row = compare(path, server, keys)
        fill = server.infill(Read(above="a = 1\n", line="b = ", behind="\n"), 8)
    assert fill["content"] == "b = "
    assert row["keys"] == keys
    assert row["llama_server_tokens_s"] == {"prompt": 100.0, "generate": 10.0}
    assert row["drafts"]["passes"] + row["drafts"]["kept"] == row["drafts"]["written"] > 0
    assert all(row[f"{side}_ms"]["p50"] > 0 for side in ("midspan", "llama_server"))


def test_its_row_is_recorded_wherever_one_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    script = Path(versus_llama_server.__file__)
    assert output(sys.executable, str(script), "--help").startswith("usage: versus_llama_server.py")


def test_lines_are_typed_from_the_middle_on() -> None:
    keys = list(typed("bisect", 100, 40))
    first, after = keys[0].hole, keys[1].hole
    assert [key.first for key in keys] == [True, *[False] * 39]
    assert first.prefix.count("\n") >= 50
    assert (after.prefix[:-1], after.suffix) == (first.prefix, first.suffix)
    assert first.suffix.startswith("\n")


def test_a_server_that_does_not_start_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "llama-server"
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(llama_server, "PROGRAM", program)
    with pytest.raises(SystemExit, match=r"llama-server did not start: run benchmarks/fetch_llama_server\.sh"):
        LlamaServer(tmp_path / "some.gguf", threads=1).__enter__()
