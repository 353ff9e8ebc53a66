"""other_files.py: what a gap is filled with, a real run on a tiny checkpoint, and the lines of its figures."""

from __future__ import annotations

import json
import random
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from benchmarks import other_files
from benchmarks.other_files import Package, drawn, packages
from benchmarks.tables import render
from midspan.engine.api import Hole
from midspan.engine.left_to_right import LeftToRight
from midspan.engine.training.continued.texts import Text
from tests.engine.llama_tiny import marked_checkpoint

STORE = "def load_all(path, strict):\n    return path\n"
SHOP = "from store import load_all\n\n\ndef sell(path):\n    found = load_all(path, True)\n    return found\n"
ROWS = [("p", "store.py", STORE), ("p", "shop.py", SHOP), ("alone", "alone.py", SHOP)]
OTHER_FILES: dict[str, Any] = {
    "command": "other_files.py tiny.gguf",
    "commit": "abc1234",
    "machine": "A machine",
    "threads": 1,
    "tokens": 512,
    "gaps": 80,
    "without": {"exact": 0.2, "prompt_tokens": 500.0, "encode_ms": {"p50": 3000}},
    "with": {
        "exact": 0.25,
        "prompt_tokens": 800.4,
        "encode_ms": {"p50": 4000},
        "gained": 6,
        "lost": 2,
        "nats_saved": {"mean": 1.125, "error": 0.25},
    },
    "checkpoint": "embedded",
    "device": "cpu",
}


@pytest.fixture
def heldout(tmp_path: Path) -> Path:
    file = tmp_path / "heldout.jsonl"
    rows = [{"language": "python", "package": package, "path": path, "text": text} for package, path, text in ROWS]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_a_line_is_missing_from_its_file_and_from_what_is_found_for_it(tmp_path: Path) -> None:
    texts = [Text(language="python", package=one, path=path, text=text) for one, path, text in ROWS[:2]]
    package = Package(tmp_path, texts)
    call = package.line(texts[1], 4, 1000)
    assert (call.truth, call.hole.kind) == ("found = load_all(path, True)", "line")
    assert call.hole.prefix.endswith("def sell(path):\n    ")
    assert call.hole.suffix == "\n    return found\n"
    assert call.hole.context == ("# store.py\ndef load_all(path, strict):",)
    assert package.line(texts[0], 0, 1000).hole.context == ()
    # Its own definition is known again where another line is missing.
    assert package.line(texts[1], 4, 1000) == call
    assert package.line(texts[1], 4, 5).hole.context == ()


def test_files_are_named_from_the_folder_on_that_holds_the_package(tmp_path: Path) -> None:
    texts = [Text(language="python", package=one, path=f"usr/lib/p/{path}", text=text) for one, path, text in ROWS[:2]]
    call = Package(tmp_path, texts).line(texts[1], 4, 1000)
    assert call.hole.context == ("# p/store.py\ndef load_all(path, strict):",)


def test_lines_are_those_of_packages_with_several_files(heldout: Path, tmp_path: Path) -> None:
    assert packages(heldout, ["go"], tmp_path) == {}
    found = packages(heldout, ["python"], tmp_path)
    assert [[text.path for text in package.texts] for package in found["python"]] == [["store.py", "shop.py"]]
    lines = [*islice(drawn(found, 1000, random.Random(0)), 40)]
    assert {line.truth for line in lines} == {line.strip() for line in (STORE + SHOP).split("\n") if line.strip()}


def test_each_gap_is_filled_on_all_sides_by_turns(
    heldout: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, plain = list[Hole](), LeftToRight.infill

    def infill(path: LeftToRight, hole: Hole, *more: object) -> object:
        asked.append(hole)
        return plain(path, hole, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(LeftToRight, "infill", infill)
    folder = str(marked_checkpoint(tmp_path / "checkpoint"))
    argv = [folder, "--heldout", str(heldout), "--languages", "python", "--gaps", "3", "--tokens", "100"]
    argv += ["--repo", "<|endoftext|>"]
    assert other_files.main(argv) == 0
    row = json.loads(capsys.readouterr().out)
    assert [bool(hole.context) for hole in asked] == [False, True, True, True, True, False, True, False, True]
    assert (row["checkpoint"], row["gaps"], row["tokens"]) == (folder, 3, 100)
    assert row["without_any"] > 0
    for name in ("with", "repository"):
        side, without = row[name], row["without"]
        assert 0 < side["prompt_tokens"] - without["prompt_tokens"] <= 100
        assert side["gained"] - side["lost"] == pytest.approx(3 * (side["exact"] - without["exact"]), abs=1e-3)
        assert side["nats_saved"]["mean"] == pytest.approx(without["nats"] - side["nats"], abs=0.01)
    assert row["repository"]["prompt_tokens"] > row["with"]["prompt_tokens"]
    assert row["repository"]["nats"] != row["with"]["nats"] != row["without"]["nats"]


def test_text_of_other_files_has_its_lines() -> None:
    cells = [line.strip("|").split(" | ") for line in render([OTHER_FILES]).splitlines()]
    found = {cell[0].strip(): cell[1].strip() for cell in cells if len(cell) == 2}
    where = "80 whole lines of held-out packages"
    assert found[f"exactly the missing text, without text of other files, {where}"] == "20.0 %"
    what = f"with text of other files, at most 512 tokens, {where}"
    assert found[f"exactly the missing text, {what}"] == "25.0 %; 6 gained, 2 lost"
    assert found[f"nats that this saves of the true text, {what}"] == "1.12, standard error 0.25"
    cost = "800 in place of 500; 4000 ms in place of 3000 ms"
    assert found[f"tokens of a cold prompt, and reading it, p50, 1 thread, {what}"] == cost
