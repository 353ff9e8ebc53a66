"""Option `--check`: what is kept is what leaves the command passing, within its limits."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from midspan.server.batch.check import Limits, Scratch
from midspan.server.commands.errors import CommandError
from tests.server.batch.test_batch import TWO, Bench, bench
from tests.server.scripted import OTHERS, TEXT

__all__ = ["bench"]
LIMITS = Limits(seconds=20, megabytes=1024)
SEVERAL = "def several():\n    ...\n"


def test_the_next_candidate_is_taken_where_the_command_fails(bench: Bench) -> None:
    bench.write(a=SEVERAL, b="def other():\n    ...\n")
    found = bench.run("--check", f"! grep -q '{TEXT}' a.py b.py")
    assert (found["filled"], found["refused"]) == (1, {"check": 1})
    assert 0 < found["accepted_per_s"] < found["gaps_per_s"]
    assert bench.applied("a") == SEVERAL.replace("...", OTHERS[0])
    assert (bench.tree / "b.py").read_text() == "def other():\n    ...\n"


def test_each_text_is_tried_beside_those_that_were_kept(bench: Bench) -> None:
    bench.write(a=TWO, b=TWO)
    # At most three lines may have the text.
    found = bench.run("--check", f"test $(cat a.py b.py | grep -c '{TEXT}') -le 3")
    assert (found["filled"], found["refused"]) == (3, {"check": 1})


def test_what_an_earlier_run_kept_is_in_the_copy(bench: Bench) -> None:
    command = f"test $(cat a.py b.py | grep -c '{TEXT}') -le 3"
    bench.write(a=TWO, b=TWO)
    bench.run("--check", command)
    lines = bench.journal.read_bytes().splitlines(keepends=True)
    bench.journal.write_bytes(b"".join(lines[:3]))
    found = bench.run("--check", command)
    assert (found["filled"], found["reused"], found["refused"]) == (3, 2, {"check": 1})


@pytest.mark.parametrize(
    ("command", "limits", "said"),
    [
        ("exit 3", LIMITS, "--check: exit 3 with nothing filled; give a command that passes"),
        ("echo why; false", LIMITS, "--check: exit 1 with nothing filled: why; give"),
        ("no-such-command-1", LIMITS, "not found; give a command that is on the PATH"),
        (
            "while :; do :; done",
            Limits(seconds=1, megabytes=1024),
            "over 1 s with nothing filled; raise --check-seconds",
        ),
    ],
)
def test_a_command_that_does_not_pass_as_it_is_is_one_line(
    command: str, limits: Limits, said: str, tmp_path: Path
) -> None:
    with pytest.raises(CommandError, match="--check: ") as caught, Scratch(tmp_path, command, limits):
        pass
    assert said in str(caught.value)


def test_a_command_has_so_much_memory(tmp_path: Path) -> None:
    command = f"{sys.executable} -c 'bytearray(512 << 20)'"
    with Scratch(tmp_path, command, LIMITS):
        pass
    with (
        pytest.raises(CommandError, match="MemoryError"),
        Scratch(tmp_path, command, Limits(seconds=20, megabytes=256)),
    ):
        pass


def test_the_copy_has_what_git_has_or_would_take_and_goes_away(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    (root / "src").mkdir(parents=True)
    subprocess.run(["git", "init", "-q", str(root)], check=True, timeout=60)
    (root / ".gitignore").write_text("left\n")
    for name in ("left", "kept", "src/new", "ä ö"):
        (root / name).write_text("x")
    said = tmp_path / "said"
    with Scratch(root, f"pwd >{said}; test -e kept -a -e src/new -a -e 'ä ö' -a ! -e left -a ! -e .git", LIMITS):
        copy = Path(said.read_text().strip())
        assert copy.is_dir()
    assert copy != root
    assert not copy.exists()
