"""Option `midspan fill --explain`: it prints the parts of the prompt; with `--json` stdout stays one object."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from midspan.server.cli import main
from midspan.server.settings import ServeOptions
from tests.engine.llama_tiny import marked_checkpoint
from tests.engine.tiny import rewrite_settings, tiny_checkpoint
from tests.server.gaps import write_files

FILES = {
    ".git/HEAD": "",
    ".gitignore": "hidden.py\n",
    "store.py": "def load(path, strict=True):\n    body = 1\n",
    "hidden.py": "def load_hidden(path):\n    pass\n",
    "sub/app.py": "from store import load\nfrom hidden import load_hidden\nload_hidden(load(\n",
}


def tiny(folder: Path, context_tokens: int) -> str:
    folder.mkdir()
    rewrite_settings(tiny_checkpoint(folder), context_tokens=context_tokens)
    return str(folder)


def explained(capsys: pytest.CaptureFixture[str], root: Path, checkpoint: str, *argv: str) -> tuple[str, str]:
    """stdout and stderr of `midspan fill --explain`."""
    write_files(root, FILES)
    app = str(root / "sub" / "app.py")
    assert main(["fill", app, "--at", "3:18", "--checkpoint", checkpoint, "--explain", *argv]) == 0
    out, err = capsys.readouterr()
    return out, err


def test_context_is_printed_even_if_the_checkpoint_reads_none(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    checkpoint = tiny(tmp_path / "checkpoint", 0)
    out, _ = explained(capsys, tmp_path / "project", checkpoint)
    lines = out.splitlines()
    assert lines[0] == f"context: {checkpoint} reads none; another checkpoint would read this"
    shown = lines.index("    # store.py")
    assert lines[shown - 1].startswith("workspace: ")
    assert lines[shown + 1] == "    def load(path, strict=True):"
    assert "    body" not in out
    assert "def load_hidden" not in out
    assert "before the gap: 71 characters, 2 lines" in lines
    assert "gap: rest_of_line, python" in lines


def test_how_much_there_is_time_for_is_printed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = marked_checkpoint(tmp_path / "checkpoint")
    values = json.loads((folder / "midspan.json").read_text())
    values["layout"] |= {"context_tokens": 300, "prefix_tokens": 8, "suffix_tokens": 8}
    (folder / "midspan.json").write_text(json.dumps(values))
    out, _ = explained(capsys, tmp_path / "project", str(folder))
    first, second = out.splitlines()[:2]
    assert first == "context: at most 300 tokens, cut from the front"
    said = r"context: (0|64|128|256|300) tokens of it where a suggestion has 1000 ms; prompts are read at \d+ tokens "
    assert re.fullmatch(said + "a second here, and may take 50 % of that", second)


def test_context_changes_the_fill_and_json_stays_json(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    found: list[dict[str, Any]] = []
    for number, tokens in enumerate((0, 500)):
        checkpoint = tiny(tmp_path / f"checkpoint_{number}", tokens)
        out, err = explained(capsys, tmp_path / "project", checkpoint, "--json")
        found.append(json.loads(out))
        assert ("context: at most 500 tokens, cut from the front" in err) == (tokens == 500)
        assert "    def load(path, strict=True):" in err
    assert found[0]["candidates"] != found[1]["candidates"]


def test_option_debug_reaches_the_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    served: list[ServeOptions] = []

    def serve(options: ServeOptions) -> int:
        served.append(options)
        return 0

    monkeypatch.setattr("midspan.server.app.serve", serve)
    for more in ([], ["--debug"]):
        assert main(["serve", "--state-dir", str(tmp_path), *more]) == 0
    assert [options.debug for options in served] == [False, True]


def test_similar_lines_of_other_files_are_printed_and_proposed(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    write_files(tmp_path / "project", {"other.py": "load_hidden(load(one))\n"})
    checkpoint = tiny(tmp_path / "checkpoint", 0)
    rewrite_settings(Path(checkpoint), similar_lines=4, ranking={"evidence": 100.0, "syntax": 0.0})
    out, err = explained(capsys, tmp_path / "project", checkpoint, "--json")
    # In its own file the line exists only up to the gap.
    assert "lines of other files that may be what this one becomes: 1\n    load_hidden(load(one))\n" in err
    assert json.loads(out)["text"] == "one))"
