"""The gate's work: blocks by turns, what is counted of them, and the process that fills gaps."""

from __future__ import annotations

import asyncio
import io
import json
import random
import sys
from pathlib import Path

import pytest

from benchmarks.comparing import fills, plan
from benchmarks.comparing.checkouts import Side
from benchmarks.comparing.plan import Keys, Size, Work
from benchmarks.comparing.rounds import MEMORY, P50, P95, PASSED, SAVED, WRONG, compare_sides, filling
from midspan.server.bench.quality import Task, read_tasks
from midspan.server.bench.replay import File
from midspan.server.commands.errors import CommandError
from tests.engine.tiny import tiny_checkpoint
from tests.server.scripted import TEXT

ROOT = Path(__file__).parents[3]
SCRIPT = ROOT / "tests/server/scripted_serve.py"
TASKS = ROOT / "fixtures/bench/mbpp-sample.jsonl"
WAIT_S = 60
TASK = Task("single-line/1", "f", "def f():\n", "", "    return 1\n", "def check(f):\n    assert f() == 1")
# The filler's part, played by a program that answers always alike.
FILLER = """
import json, sys
about = {"checkpoint": "scripted", "device": "cpu", "reads_other_lines": False, "context_tokens": 0}
print(json.dumps(about), flush=True)
for line in sys.stdin:
    print(json.dumps({"text": sys.argv[1]}), flush=True)
"""


def side(tmp_path: Path, text: str) -> Side:
    filler = tmp_path / "filler.py"
    filler.write_text(FILLER)
    serve = (sys.executable, str(SCRIPT), "--log-file", str(tmp_path / "server.log"))
    return Side(words=text, serve=serve, fills=(sys.executable, str(filler), text))


async def test_both_sides_do_all_the_work_and_their_figures_are_paired(tmp_path: Path) -> None:
    line = f"a = {TEXT}"
    file = File("p", "a.py", f"x = 1\n{line}\n")
    timed = {"keys.py": "one = 1\nlow = 2\n"}
    work = Work(rounds=[[[TASK], (file, [1]), Keys(text="keys.py", row=1)]], files=[file], timed=timed)
    sides = (side(tmp_path, "    return 1\n"), side(tmp_path, "    return 2\n"))
    found = (await asyncio.wait_for(compare_sides(sides, work, 0), WAIT_S)).pairs()
    assert found[PASSED] == [((1, 1), (0, 1))]
    # "a = " is typed and the rest taken for one key; Enter is a key that may show something wrong, but saves none.
    assert found[SAVED] == [((len(line) - 5, len(line)),) * 2]
    [(a, b)] = found[WRONG]
    assert (a.of, a) == (6, b)
    for measure in (P50, P95, MEMORY) if sys.platform == "linux" else (P50, P95):
        [(a, b)] = found[measure]
        assert (a.of, b.of) == (1, 1)
        assert min(a.counted, b.counted) > 0


def test_a_filler_that_ends_or_refuses_is_said(tmp_path: Path) -> None:
    silent = Side(words="", serve=(), fills=(sys.executable, "-c", ""))
    with pytest.raises(CommandError, match="the gate compares no older midspan"), filling(silent):
        pass
    refusing = Side(words="", serve=(), fills=(sys.executable, "-c", 'print(\'{"error": "no such folder"}\')'))
    with pytest.raises(CommandError, match="no such folder"), filling(refusing):
        pass


def test_the_filler_fills_gaps_until_its_input_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = {"prefix": "def f(a):\n    return ", "suffix": "\n", "kind": "line", "seed": 0}
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{json.dumps(asked)}\n" * 2))
    assert fills.main(str(tiny_checkpoint(tmp_path)), "cpu") == 0
    about, *answers = map(json.loads, capsys.readouterr().out.splitlines())
    assert (about["device"], set(about)) == ("cpu", {"checkpoint", "device", "reads_other_lines", "context_tokens"})
    assert answers[0] == answers[1]
    assert isinstance(answers[0]["text"], str)
    assert fills.main(str(tmp_path / "none"), "cpu") == 1
    assert "none" in json.loads(capsys.readouterr().out)["error"]


def test_a_plan_has_every_task_once_and_is_drawn_by_its_seed() -> None:
    tasks = read_tasks(TASKS, None, 0)
    files = [File("p", f"{name}.py", "a = 1\nb = 2\n") for name in "abcdef"]
    size = Size(rounds=3, tasks=None, lines=4, keys=30)
    work, again, other = (plan.plan(tasks, files, ROOT / "fixtures/keystroke", size, seed) for seed in (0, 0, 1))
    assert work.rounds == again.rounds
    assert work.rounds != other.rounds
    blocks = [block for blocks in work.rounds for block in blocks]
    gaps = [task.task_id for block in blocks if isinstance(block, list) for task in block]
    assert sorted(gaps) == sorted(task.task_id for task in tasks)
    typed = [(block[0].path, row) for block in blocks if isinstance(block, tuple) for row in block[1]]
    assert len(set(typed)) == len(typed) == size.lines
    for blocks in work.rounds:
        timed = [work.timed[block.text].split("\n")[block.row] for block in blocks if isinstance(block, Keys)]
        assert sum(len(line.strip()) for line in timed) >= size.keys


def test_timed_lines_end_as_soon_as_they_have_keys_enough() -> None:
    found = list(plan.keys({"a": "abc\n\n  abc\nabc\n"}, 4, random.Random(0)))
    assert len(found) == 2


def test_the_standard_library_has_files_enough() -> None:
    files = plan.standard_library()
    assert len(files) >= plan.QUICK.lines
    assert all(file.text.count("\n") <= plan.MOST_LINES for file in files)
