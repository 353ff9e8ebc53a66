"""Command `batch` by an engine without a model: what gets into the patch, what is read, and how a run goes on."""

from __future__ import annotations

import argparse
import json
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from midspan.engine.api import Budget, Fill, Hole, OnFrame
from midspan.server.batch.command import batch_command
from midspan.server.batch.figures import Tally, shown, summary
from midspan.server.batch.journal import Entry
from midspan.server.cli import main, parser
from midspan.server.commands.errors import CommandError
from midspan.server.router.members import Member
from midspan.server.router.router import Router
from tests.server.scripted import ABOUT, TEXT, ScriptedEngine

Capture = pytest.CaptureFixture[str]
TWO = "def one():\n    ...\n\n\ndef two():\n    ...\n"


class Bench:
    """A folder with files, and batches of it; `prompts` are the holes that the engine has seen."""

    def __init__(self, folder: Path, capsys: Capture) -> None:
        self.tree, self.out, self._log, self._capsys = folder / "tree", folder / "out.patch", folder / "log", capsys
        self.tree.mkdir()
        self.journal = self.out.with_name("out.patch.journal")
        self.said = ""

    def write(self, **files: str) -> None:
        for name, text in files.items():
            (self.tree / f"{name}.py").write_bytes(text.encode())

    def arguments(self, *argv: str) -> argparse.Namespace:
        found = parser({}).parse_args(["batch", str(self.tree), "--out", str(self.out), "--json", *argv])
        found.checkpoint, found.engines_file = "scripted", None
        return found

    def run(self, *argv: str, engine: Callable[[Path], ScriptedEngine] = ScriptedEngine) -> dict[str, Any]:
        def connect(_: argparse.Namespace) -> Router:
            one = engine(self._log)
            return Router([Member(name="scripted", reading="diffusion", tier="in_process", connect=lambda: one)])

        assert batch_command(self.arguments(*argv), connect) == 0
        out, self.said = self._capsys.readouterr()
        found: dict[str, Any] = json.loads(out)
        return found

    @property
    def prompts(self) -> list[str]:
        return self._log.read_text().splitlines() if self._log.exists() else []

    def applied(self, name: str) -> str:
        """A file after the patch."""
        subprocess.run(["git", "apply", str(self.out)], cwd=self.tree, check=True, timeout=60)
        return (self.tree / f"{name}.py").read_bytes().decode()


@pytest.fixture
def bench(tmp_path: Path, capsys: Capture) -> Bench:
    return Bench(tmp_path, capsys)


def test_every_gap_of_every_file_is_in_the_patch(bench: Bench) -> None:
    bench.write(a=TWO, b="\ufeffdef é():\r\n    # TODO\r\n", c="def three(): ...", d="x = 1\n")
    found = bench.run()
    assert (found["gaps"], found["filled"], found["refused"], found["files"]) == (4, 4, {}, 3)
    assert found["patch"] == str(bench.out)
    assert found["tokens"] == 4 * len(TEXT) // 3
    assert bench.applied("a") == TWO.replace("...", TEXT)
    assert (bench.tree / "b.py").read_bytes().decode() == f"\ufeffdef é():\r\n    # TODO\r\n    {TEXT}\r\n"
    assert (bench.tree / "c.py").read_text() == f"def three(): {TEXT}"


def test_a_gap_is_filled_behind_what_was_put_into_the_one_before(bench: Bench) -> None:
    bench.write(a=TWO)
    bench.run()
    assert [TEXT in json.loads(prompt)[0] for prompt in bench.prompts] == [False, True]


class Lazy(ScriptedEngine):
    """An engine whose first text says nothing."""

    def __init__(self, prompts: Path, text: str) -> None:
        super().__init__(prompts)
        self._text = text

    def fill(
        self, hole: Hole, budget: Budget, *, stop: threading.Event | None = None, on_frame: OnFrame | None = None
    ) -> Future[Fill]:
        done = super().fill(hole, budget, stop=stop, on_frame=on_frame).result()
        out = Future[Fill]()
        stub = replace(done.candidates[0], text=self._text)
        out.set_result(replace(done, candidates=(stub, *done.candidates[1:])))
        return out


@pytest.mark.parametrize("text", ["...", ";", "@"])
def test_what_stands_there_or_says_nothing_is_no_fill(bench: Bench, text: str) -> None:
    bench.write(a="def several():\n    @\n\n\ndef f():\n    @\n")
    found = bench.run("--pattern", "@", engine=lambda log: Lazy(log, text))
    assert (found["filled"], found["refused"]) == (1, {"same": 1})
    assert bench.applied("a") == "def several():\n    slice\n\n\ndef f():\n    @\n"


def test_gaps_that_touch_and_several_on_a_line(bench: Bench) -> None:
    bench.write(a="x = [@, @]\ny = @\nz = @\n")
    assert bench.run("--pattern", "@")["filled"] == 4
    assert bench.applied("a") == f"x = [{TEXT}, {TEXT}]\ny = {TEXT}\nz = {TEXT}\n"


def test_a_text_that_is_refused_is_counted_by_why(bench: Bench) -> None:
    bench.write(
        a="def undefined():\n    ...\n", b="def empty():\n    ...\n", c="def lines():\n  ...\n", d="def d(): ...\n"
    )
    found = bench.run()
    assert found["refused"] == {"empty": 1, "name": 1, "parse": 1}
    assert bench.applied("a") == "def undefined():\n    ...\n"
    assert (bench.tree / "d.py").read_text() == f"def d(): {TEXT}\n"


def test_a_text_beside_a_syntax_error_is_refused(bench: Bench) -> None:
    bench.write(a="x = (\n@\n")
    assert bench.run("--pattern", "@")["refused"] == {"parse": 1}
    assert not bench.out.exists()


def test_an_error_of_a_later_gap_is_not_an_earlier_ones(bench: Bench) -> None:
    bench.write(a="def f():\n    # TODO\n\ndef u():\n    # TODO undefined\n\ndef g():\n    # TODO\n")
    found = bench.run()
    assert (found["filled"], found["refused"]) == (2, {"name": 1})
    assert bench.applied("a").count(TEXT) == 2


def test_what_is_excluded_is_in_no_prompt(bench: Bench) -> None:
    (bench.tree / ".git").mkdir()
    (bench.tree / ".gitignore").write_text("ignored.py\n")
    bench.write(a=TWO, ignored=TWO, left=TWO, secrets='password = "hunter2hunter2"\n' + TWO)
    (bench.tree / ".env.py").write_text(TWO)
    found = bench.run("--exclude", "left*")
    assert (found["gaps"], found["files"]) == (2, 1)
    named = parser({}).parse_args(["batch", str(bench.tree / "secrets.py"), "--dry-run"])
    with pytest.raises(CommandError, match="no gap is marked"):
        batch_command(named)
    assert not any("hunter2" in prompt for prompt in bench.prompts)


class Reading(ScriptedEngine):
    """An engine that reads other files."""

    def __init__(self, prompts: Path | None = None) -> None:
        super().__init__(prompts)
        self.about = replace(ABOUT, context_tokens=500, reads_other_lines=True)


def test_a_gap_has_the_text_of_other_files_but_for_what_is_excluded(bench: Bench) -> None:
    bench.write(
        a="from b import helper\n\n\ndef f(x):\n    return helper(x)\n\n\ndef g(x):\n    ...\n",
        b="def helper(x):\n    pass\n\n\ndef g(x):\n    return shown_line(x)\n",
        left="def helper(hidden):\n    pass\n\n\ndef g(x):\n    return hidden_line(x)\n",
    )
    bench.run("--exclude", "left.py", engine=Reading)
    [prompt] = bench.prompts
    assert "def helper(x)" in prompt
    assert "return shown_line(x)" in prompt
    assert "hidden" not in prompt


def test_nothing_near_a_private_key_is_asked(bench: Bench) -> None:
    bench.write(a=f'KEY = """-----BEGIN PRIVATE KEY-----"""\n{TWO}')
    assert bench.run()["refused"] == {"key": 2}
    assert bench.prompts == []


def test_a_dry_run_lists_the_gaps_without_a_model(bench: Bench, capsys: Capture) -> None:
    bench.write(a=TWO, b="def f():\n    # TODO\n")
    files = [bench.tree / "a.py", bench.tree / "b.py"]
    assert main(["batch", str(bench.tree), "--dry-run", "--checkpoint", "/nowhere"]) == 0
    assert capsys.readouterr().out.splitlines() == [f"{files[0]}:2: body", f"{files[0]}:6: body", f"{files[1]}:2: todo"]
    assert main(["batch", str(files[1]), "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [{"file": str(files[1]), "line": 2, "kind": "todo"}]


class Ending(ScriptedEngine):
    """An engine whose process ends at its second fill, as far as the batch can tell."""

    def fill(
        self, hole: Hole, budget: Budget, *, stop: threading.Event | None = None, on_frame: OnFrame | None = None
    ) -> Future[Fill]:
        if self.history:
            raise KeyboardInterrupt
        return super().fill(hole, budget, stop=stop, on_frame=on_frame)


def test_a_run_that_was_ended_goes_on_where_it_was(bench: Bench) -> None:
    bench.write(a=TWO, b=TWO)
    with pytest.raises(KeyboardInterrupt):
        bench.run(engine=Ending)
    assert not bench.out.exists()
    assert len(bench.journal.read_bytes().splitlines()) == 2
    with bench.journal.open("ab") as file:
        file.write(b'{"file":"a.py","dig')
    found = bench.run()
    assert (found["filled"], found["reused"]) == (4, 1)
    assert len(bench.prompts) == 4
    # All is done: nothing is asked, not even for a model.
    whole = bench.out.read_bytes()
    again = bench.run(engine=lambda _: pytest.fail("no engine is needed"))
    assert (again["reused"], again["gaps_per_s"], bench.out.read_bytes()) == (4, 0.0, whole)
    assert bench.applied("b") == TWO.replace("...", TEXT)


def test_a_file_that_changed_is_done_anew(bench: Bench) -> None:
    bench.write(a=TWO, b=TWO)
    bench.run()
    bench.write(a="# new\n" + TWO)
    found = bench.run()
    assert (found["filled"], found["reused"], len(bench.prompts)) == (4, 2, 6)
    assert "midspan: a.py: changed since; its 2 gaps are done anew" in bench.said
    assert bench.applied("a") == "# new\n" + TWO.replace("...", TEXT)


def test_a_journal_of_other_work_is_not_mixed_in(bench: Bench) -> None:
    bench.write(a=TWO)
    bench.run()
    with pytest.raises(CommandError, match="of a run with another seed; remove it"):
        bench.run("--seed", "1")
    bench.journal.write_text("notes\n")
    with pytest.raises(CommandError, match="no journal of midspan batch"):
        bench.run()
    assert bench.journal.read_text() == "notes\n"


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--dry-run", "nowhere"], "nowhere: no such file or folder; give one that exists"),
        (["--dry-run", "plain.py"], "no gap is marked (`...` as a body, TODO in an empty block); mark some"),
        (["--dry-run", "latin.py"], "latin.py: not UTF-8 at byte 0; convert it first"),
        (["--dry-run", "empty"], "no file to fill there"),
        (["--out", "no/out.patch", "gap.py"], "No such file or directory; give an --out that can be written"),
        (["--out", "empty", "gap.py"], "empty: a folder; give a file in it as --out"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    argv: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "plain.py").write_text("x = 1\n")
    (tmp_path / "gap.py").write_text(TWO)
    (tmp_path / "latin.py").write_bytes(b"\xff")
    assert main(["batch", *argv]) == 1
    found = capsys.readouterr().err
    assert said in found
    assert found.count("\n") == 1


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["a.py"], "one of the arguments --out --dry-run is required"),
        (["a.py", "--dry-run", "--pattern", "("], "'(' is no regular expression"),
        (["a.py", "--dry-run", "--pattern", "x*"], "matches the empty text"),
        (["a.py", "--dry-run", "--candidates", "21"], "21 candidates are too many; ask for 20 at most"),
        (["a.py", "--dry-run", "--check-seconds", "0"], "'0' is not a number from 1 to 3600"),
    ],
)
def test_bad_arguments_are_one_line(argv: list[str], said: str, capsys: Capture) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["batch", *argv])
    found = capsys.readouterr().err
    assert said in found
    assert found.count("\n") == 1


def test_a_file_of_a_folder_that_is_no_text_is_left_out_and_said(bench: Bench) -> None:
    bench.write(a=TWO)
    (bench.tree / "b.py").write_bytes(b"\xff")
    assert bench.run()["filled"] == 2
    assert "b.py: not UTF-8 at byte 0; convert it first; it is left out" in bench.said


def test_paths_of_several_git_trees_are_no_patch(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name / ".git").mkdir(parents=True)
    given = parser({}).parse_args(["batch", str(tmp_path / "one"), str(tmp_path / "two"), "--dry-run"])
    with pytest.raises(CommandError, match="several git trees"):
        batch_command(given)


def test_the_summary_for_a_person_ends_with_the_command(tmp_path: Path) -> None:
    tally = Tally(gaps=3, files=1, excluded=0)
    tally.filled, tally.reused, tally.done, tally.accepted, tally.chars, tally.seconds = 2, 1, 2, 1, 60, 4.0
    tally.refused.update(["name"])
    given = argparse.Namespace(out=tmp_path / "a b.patch", checkpoint="embedded")
    assert list(shown(summary(tally, given, None), Path("/tree"))) == [
        "2 of 3 gaps filled; not filled: 1 name",
        "1 of them are of an earlier run",
        "4.0 s; 0.50 gaps/s, 0.25 accepted/s, about 5 tokens/s",
        f"git -C /tree apply '{tmp_path / 'a b.patch'}'",
    ]


def test_without_a_terminal_a_line_is_written_now_and_then() -> None:
    now, said = [0.0], StringIO()
    tally = Tally(gaps=4, files=1, excluded=0, clock=lambda: now[0])
    with tally.bar(Console(file=said, width=100)):
        for second in (5, 10, 12, 19):
            now[0] = second
            tally.did(Entry(file="a", digest="", start=(0, 0), end=(0, 0), kind="body", text="x", chars=30))
        assert said.getvalue() == "midspan: 2 of 4 gaps, 2 filled, 0.2 gaps/s, 2 tokens/s\n"
    assert tally.seconds == 19
