"""The benchmark's sandbox: right programs pass; wrong, endless, greedy and cheating ones do not."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

import msgspec
import pytest

from midspan.server.bench.quality import Task, completed
from midspan.server.bench.sandbox import passes

TASKS = Path(__file__).parents[3] / "fixtures" / "bench" / "mbpp-sample.jsonl"
TASK_LIST = [msgspec.json.decode(line, type=Task) for line in TASKS.read_bytes().splitlines()]


@pytest.mark.parametrize("task", TASK_LIST, ids=lambda task: task.task_id)
def test_the_true_solution_passes_and_its_absence_does_not(task: Task) -> None:
    assert passes(completed(task, task.canonical_solution))
    indent = task.canonical_solution[: len(task.canonical_solution) - len(task.canonical_solution.lstrip())]
    assert not passes(completed(task, f"{indent}raise ValueError\n"))


@pytest.mark.parametrize(
    "program",
    [
        "assert False",
        "raise SystemExit(0)",
        "import os; os._exit(0)",
        "import sys; sys.exit()",
        "x = 'a' * (1 << 31)",
        "import os\nwhile True:\n    os.fork()",
        "import subprocess; subprocess.run(['true'])",
        "import socket; socket.socket()",
        "import _socket; _socket.socket()",
        "import posix; posix.fork()",
        "import os; os.chdir('/')",
        "open('big', 'wb').write(b'x' * (1 << 22))",
        "def f(:",
        "print('x' * 32)\nraise SystemExit",
        "import os; os.write(1, b'x' * 32); os._exit(0)",
    ],
)
def test_wrong_and_cheating_programs_do_not_pass(program: str) -> None:
    assert not passes(program)


@pytest.mark.parametrize(
    "damage",
    [
        "import os; os.remove(FILE)",
        "import posix; posix.unlink(FILE)",
        "open(FILE, 'w').close()",
        "import io; io.FileIO(FILE, 'a').write(b'x')",
        "from pathlib import Path; Path(FILE).rename(FILE + '2')",
        "import os; os.truncate(FILE, 0)",
        "import os, shutil; shutil.rmtree(os.path.dirname(FILE))",
        "import os; os.symlink(os.path.dirname(FILE), 'link'); open('link/kept.txt', 'w').close()",
    ],
)
def test_files_outside_the_sandbox_stay_as_they_are(tmp_path: Path, damage: str) -> None:
    file = tmp_path / "kept.txt"
    file.write_text("kept")
    assert not passes(f"FILE = {str(file)!r}\n{damage}")
    assert file.read_text() == "kept"
    assert list(tmp_path.iterdir()) == [file]


def test_a_program_may_write_files_in_its_own_folder() -> None:
    program = """
        import os, json, re, itertools, collections, decimal, fractions, heapq, random, string, datetime
        with open("own.txt", "w") as file:
            file.write("x")
        assert open(os.path.abspath("own.txt")).read() == "x"
        assert os.listdir(".") == ["own.txt"]
        open(os.devnull, "w").close()
    """
    assert passes(textwrap.dedent(program))


def test_an_endless_program_is_killed() -> None:
    assert not passes("while True:\n    pass", wall_s=1.0)
    assert not passes("import time; time.sleep(60)", wall_s=1.0)


def test_much_output_and_long_programs_are_allowed() -> None:
    assert passes("for n in range(20000):\n    print(json_like := {'n': n})\n" + "# padding\n" * 20000)


def test_the_fixture_has_the_benchmarks_schema() -> None:
    for line in TASKS.read_text().splitlines():
        assert set(json.loads(line)) == {"task_id", "entry_point", "prompt", "suffix", "canonical_solution", "test"}
