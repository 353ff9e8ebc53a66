"""A simulated person: keys, edits in each style, what is counted; with a scripted client, and a real server process."""

from __future__ import annotations

import asyncio
import json
import random
import sqlite3
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from lsprotocol import types

from midspan.server.bench.people import Rhythm
from midspan.server.bench.replay import File
from midspan.server.cli import main
from midspan.server.client.typist import Typist, typing
from midspan.server.commands.errors import CommandError
from midspan.server.replay.command import read
from midspan.server.replay.figures import Figures, figures
from midspan.server.replay.person import Person, Run, Typing, replay
from midspan.server.replay.styles import STYLES
from midspan.server.telemetry.schema import FILE_NAME
from tests.server.scripted import TEXT

SCRIPT = Path(__file__).parents[1] / "scripted_serve.py"
WAIT_S = 60
# Nobody is late; the keys' times are as many seconds as there are keys.
SLOW = Rhythm(key_s=1.0, key_spread=0.0, line_s=0.0, line_spread=0.0)

MS = {"p50": 1.0, "p95": 2.0, "p99": 3.0}
ONE = Figures(
    files=1,
    lines=1,
    characters=4,
    keys=3,
    saved=0.25,
    shown=2,
    taken=1,
    acceptance=0.5,
    wrong_in_100_keys=25.0,
    typed_along=2,
    flickers=1,
    late=0,
    first_useful_ms=MS,
    first_taken_s=3.0,
    response_ms=MS,
)


class Scripted(Typist):
    """A client and a server at once: `line` is the document, `answer` what is offered behind the text before it."""

    def __init__(self, line: str, answer: Callable[[str], str], ms: float = 1.0) -> None:
        self.line, self._answer, self._ms = line, answer, ms
        self.edits, self.told = list[tuple[int, int, str]](), list[object]()
        self.all_ms, self.responses = [], {}

    def replace(self, uri: str, row: int, start: int, end: int, text: str) -> None:
        assert (uri, row) == ("file:///a.py", 0)
        self.line = self.line[:start] + text + self.line[end:]
        self.edits.append((start, end, text))

    async def ask(self, uri: str, at: types.Position, *, invoked: bool = False) -> types.InlineCompletionItem | None:
        before = self.line[: at.character]
        self.all_ms.append(self._ms)
        if not (text := self._answer(before)):
            return None
        id = before + text
        self.responses.setdefault(id, self._ms)
        span = types.Range(types.Position(0, 0), at)
        return types.InlineCompletionItem(id, range=span, command=types.Command("", "accept", arguments=[id]))

    def say_shown(self, item: types.InlineCompletionItem) -> None:
        pass

    def say_part(self, item: types.InlineCompletionItem, length: int) -> None:
        self.told.append(length)

    async def say_accepted(self, item: types.InlineCompletionItem) -> None:
        self.told.append("all")


async def typed(typist: Scripted, style: str, rhythm: Rhythm = SLOW) -> Figures:
    """The figures of the typist's line, typed once more."""
    line = typist.line
    person = Typing(typist, Person(style=STYLES[style], rhythm=rhythm), "file:///a.py", random.Random(0))
    await person.retype(0, line)
    assert typist.line == line
    ids = dict.fromkeys(key.id for key in person.session.keys if key.taken)
    useful = [typist.responses[id] for id in ids]
    return figures(Run(sessions=[person.session], response_ms=typist.all_ms, useful_ms=useful))


def offers(line: str, after: str) -> Callable[[str], str]:
    """A server that offers the rest of a line from the moment on when `after` is typed."""
    return lambda before: line[len(before) :] if before.startswith(after) and line.startswith(before) else ""


@pytest.mark.parametrize(
    ("style", "edits", "told"),
    [
        ("vscode", [(0, 2, "a = b + c")], ["all"]),
        ("neovim", [(2, 2, "= b + c")], ["all"]),
        ("line", [(2, 2, "= b + c")], ["all"]),
        ("word", [(2, 2, "="), (3, 3, " b"), (5, 5, " +"), (7, 7, " c")], [3, 5, 7, "all"]),
    ],
)
async def test_each_style_changes_the_text_in_its_way(
    style: str, edits: list[tuple[int, int, str]], told: list[object]
) -> None:
    typist = Scripted("a = b + c", offers("a = b + c", "a "))
    found = await typed(typist, style)
    # The line is emptied, and "a " typed.
    assert typist.edits[:3] == [(0, 9, ""), (0, 0, "a"), (1, 1, " ")]
    assert (typist.edits[3:], typist.told) == (edits, told)
    assert (found.keys, found.characters) == (2 + len(edits), 9)
    assert found.saved == pytest.approx(1 - (2 + len(edits)) / 9)
    assert (found.shown, found.taken, found.acceptance) == (1, 1, 1.0)
    assert (found.wrong_in_100_keys, found.flickers) == (0, 0)
    # Two keys came before, each a second after the last; the key that takes it is the third.
    assert found.first_taken_s == 3.0
    assert found.first_useful_ms == {"p50": 1.0, "p95": 1.0, "p99": 1.0}


async def test_the_first_line_of_several_is_taken_by_the_line_alone() -> None:
    def several(before: str) -> str:
        return "" if before else "abc\n    d"

    by_line, whole = Scripted("abc", several), Scripted("abc", several)
    assert (await typed(by_line, "line")).keys == 1
    assert by_line.told == [3]
    found = await typed(whole, "vscode")
    assert (found.keys, found.taken, whole.told) == (3, 0, [])


async def test_what_is_typed_past_is_wrong_at_every_key_and_one_suggestion() -> None:
    found = await typed(Scripted("abcd", lambda before: "abcx"[len(before) :] if len(before) < 3 else ""), "vscode")
    # After Enter, "a" and "ab" it stands; what is left of it is the same suggestion, so nothing flickers.
    assert (found.shown, found.taken, found.saved) == (1, 0, 0)
    assert found.wrong_in_100_keys == 100 * 3 / 5
    assert (found.typed_along, found.flickers) == (3, 1)
    assert (found.first_useful_ms, found.first_taken_s) == (None, None)


async def test_a_suggestion_that_changes_under_the_eye_flickers_and_one_that_is_contradicted_does_not() -> None:
    changing = await typed(Scripted("abcd", lambda before: {"": "abXX", "a": "bYY"}.get(before, "")), "vscode")
    # Along "abXX" to "a", where "bXX" was due; along "bYY" to "ab", where "YY" was due; "c" contradicts nothing then.
    assert (changing.typed_along, changing.flickers) == (2, 2)
    contradicted = await typed(Scripted("abcd", lambda before: {"": "xyz", "a": "yz"}.get(before, "")), "vscode")
    assert (contradicted.typed_along, contradicted.flickers) == (0, 0)


async def test_what_comes_after_the_next_key_is_late_and_not_seen() -> None:
    found = await typed(Scripted("abcd", offers("abcd", ""), ms=1500.0), "vscode")
    assert (found.late, found.shown, found.keys) == (4, 0, 4)
    assert found.flickers == 0


async def test_every_style_types_through_a_real_server(tmp_path: Path) -> None:
    serve = [sys.executable, str(SCRIPT), "--log-file", str(tmp_path / "log"), "--state-dir", str(tmp_path)]
    text = f"x = 1\na = {TEXT}\nlast"
    keys = {}
    async with asyncio.timeout(WAIT_S), typing(serve, {}) as typist:
        for name, style in STYLES.items():
            uri = f"file:///replay/{name}.py"
            typist.open(uri, text)
            person = Typing(typist, Person(style=style, rhythm=SLOW), uri, random.Random(0))
            await person.retype(1, f"a = {TEXT}")
            # The engine answers "echo" with the hole: the text before it is what was typed.
            typist.replace(uri, 2, 0, 4, "echo")
            item = await typist.ask(uri, types.Position(2, 4), invoked=True)
            assert item is not None
            assert json.loads(str(item.insert_text).removeprefix("echo"))[0] == text.replace("last", "echo")
            keys[name] = len(person.session.keys) - 1
    assert keys == {"vscode": 5, "neovim": 5, "line": 5, "word": 7}
    store = sqlite3.connect(tmp_path / FILE_NAME)
    accepted, part = store.execute("SELECT sum(accepted_ts IS NOT NULL), max(partial_chars) FROM completion").fetchone()
    store.close()
    assert accepted == 4
    assert part == len("list +")


async def test_files_are_typed_in_their_language_and_a_session_is_a_file(tmp_path: Path) -> None:
    serve = [sys.executable, str(SCRIPT), "--log-file", str(tmp_path / "log"), "--state-dir", str(tmp_path)]
    files = [File("0", "a.py", f"{TEXT}\n"), File("1", "a.toml", f"{TEXT}\n{TEXT}\n")]
    person = Person(style=STYLES["vscode"], rhythm=SLOW)
    run = await asyncio.wait_for(replay(files, 9, person, serve, {}), WAIT_S)
    assert [(session.lines, session.characters) for session in run.sessions] == [(1, len(TEXT)), (2, 2 * len(TEXT))]
    # The engine is good at Python alone: the server asks it about nothing else.
    assert [session.first_taken_s is not None for session in run.sessions] == [True, False]
    assert len(run.useful_ms) == 1


def test_files_are_read_and_what_cannot_be_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_bytes(b"\xef\xbb\xbfa\r\nb\r")
    (tmp_path / "rows.jsonl").write_text(json.dumps({"package": "p", "path": "b.py", "text": "c"}))
    found = read([tmp_path / "a.py", tmp_path / "rows.jsonl", tmp_path / "a.py"])
    assert found == [File("0", "a.py", "a\nb\n"), File("p", "b.py", "c"), File("2", "a.py", "a\nb\n")]
    for name, data, said in (
        ("bad.py", b"\xff", "not UTF-8 at byte 0; convert it"),
        ("blank.py", b" \n", "holds no line to type"),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(CommandError, match=said):
            read([tmp_path / name])
    with pytest.raises(CommandError, match="No such file"):
        read([tmp_path / "none.py"])


def test_the_command_prints_figures(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def run(files: Sequence[File], lines: int, person: Person, serve: Sequence[str]) -> Figures:
        """One line was typed, whatever it is."""
        assert (files, lines) == ([File("0", "a.py", "abc\n")], 7)
        assert (person.style, person.seed) == (STYLES["word"], 3)
        assert serve[-4:] == ["--checkpoint", "mine", "--device", "cpu"]
        return ONE

    monkeypatch.setattr("midspan.server.replay.command.run", run)
    file = tmp_path / "a.py"
    file.write_text("abc\n")
    words = ["replay", str(file), "--lines", "7", "--seed", "3", "--style", "word"]
    words += ["--checkpoint", "mine", "--device", "cpu"]
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["saved"], found["style"], found["checkpoint"]) == (0.25, "word", "mine")
    assert main(words) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "1 lines of 1 files, 4 characters, typed with 3 keys: 25.0 % saved"
    assert "flicker: 1 of 2 keys that ran along a suggestion changed it" in said
    assert "the first in a file was taken after 3 s of typing" in said
    for bad in (["--lines", "0"], ["--seed", "x"], ["--style", "emacs"]):
        with pytest.raises(SystemExit) as ended:
            main([*words, *bad])
        assert ended.value.code == 2
