"""Command `bench replay`: lines typed into real server processes, with the scripted engine and a tiny real one."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lsprotocol import types

from midspan.server.bench.replay import (
    Ask,
    File,
    Line,
    accepts_exact,
    accepts_prefix,
    draw,
    ghost,
    interval,
    lines,
    measure,
    read_files,
    retype,
    summarise,
)
from midspan.server.cli import main
from midspan.server.client.typist import typing
from midspan.server.commands.errors import CommandError
from midspan.server.telemetry.schema import FILE_NAME
from tests.engine.tiny import tiny_checkpoint
from tests.server.scripted import TEXT

SCRIPT = Path(__file__).parents[1] / "scripted_serve.py"
WAIT_S = 60


def scripted(tmp_path: Path) -> list[str]:
    """The server's command line with the scripted engine; the state folder is still to be added."""
    return [sys.executable, str(SCRIPT), "--log-file", str(tmp_path / "server.log")]


async def replayed(tmp_path: Path, line: str) -> dict[str, Any]:
    """The figures of one line that is typed between two others."""
    file = File("p", "a b.py", f"x = 1\n{line}\n")
    return await asyncio.wait_for(measure([(file, [1])], scripted(tmp_path), 0), WAIT_S)


async def test_an_exact_rest_of_line_is_accepted_for_one_key(tmp_path: Path) -> None:
    found = await replayed(tmp_path, f"    a = {TEXT}  ")
    # "a = " is typed and the rest accepted with one key; a request follows Enter too.
    characters = len(f"a = {TEXT}")
    assert (found["files"], found["lines"], found["characters"]) == (1, 1, characters)
    for rule in ("exact", "prefix"):
        assert found[rule]["saved"] == 1 - 5 / characters
        assert (found[rule]["keystrokes"], found[rule]["accepted"]) == (6, 1)
    assert found["response_ms"]["p50"] > 0
    assert found["rss_mb"] is None or found["rss_mb"] > 20


async def test_a_beginning_of_the_rest_is_accepted_under_the_prefix_rule_only(tmp_path: Path) -> None:
    found = await replayed(tmp_path, f"a = {TEXT} + 1")
    characters = len(f"a = {TEXT} + 1")
    assert (found["exact"]["saved"], found["exact"]["accepted"]) == (0, 0)
    # From "a = " on one suggestion stays while it is typed; before that every key brings another one.
    assert found["exact"]["suggestions"] < found["exact"]["shown_per_keystroke"] * found["exact"]["keystrokes"]
    assert found["exact"]["keystrokes"] == characters + 1
    assert found["exact"]["right_when_shown"] == 0
    # Keys: "a = ", one for the acceptance, " + 1".
    assert (found["prefix"]["saved"], found["prefix"]["accepted"]) == (1 - 9 / characters, 1)
    assert found["prefix"]["keystrokes"] == 10


async def test_a_fill_below_the_threshold_is_neither_shown_nor_accepted(tmp_path: Path) -> None:
    # The scripted engine's confidence is below its threshold when the line holds "low".
    found = await replayed(tmp_path, f"low = {TEXT}")
    assert found["exact"]["saved"] == found["prefix"]["saved"] == 0
    shown = found["exact"]["shown_per_keystroke"] * found["exact"]["keystrokes"]
    assert 0 < shown <= len("low")
    assert found["exact"]["wrong_per_keystroke"] == found["exact"]["shown_per_keystroke"]


async def test_a_users_threshold_replaces_that_of_the_checkpoint(tmp_path: Path) -> None:
    drawn = [(File("p", "a.py", f"low = {TEXT}\n"), [0])]
    found = await measure(drawn, scripted(tmp_path), 0, options={"show_threshold": 0.0})
    assert found["exact"]["accepted"] == 1


async def test_the_servers_document_equals_the_typed_text_and_is_restored_after_each_line(tmp_path: Path) -> None:
    # The scripted engine answers "echo" with the hole. The two rules differ in the second line.
    text = f"𝒳 = {TEXT}\na = {TEXT} + 1  \n    é𝒳 echo\nlast\n"
    rows = text.split("\n")
    async with typing([*scripted(tmp_path), "--state-dir", str(tmp_path)], {"show_threshold": 0.0}) as typist:
        uri = "file:///replay/a.py"
        typist.open(uri, text)
        accepted, parted, second = [await retype(typist, uri, row, rows[row]) for row in range(3)]
    assert accepted.exact == accepted.prefix
    assert parted.exact != parted.prefix
    assert (second.characters, second.exact) == (7, second.prefix)
    asked = json.loads(second.exact[-1].suggestion)
    assert asked[:2] == [f"𝒳 = {TEXT}\na = {TEXT} + 1\n    é𝒳 echo", "\nlast\n"]


async def test_the_other_files_of_a_package_are_its_workspace(tmp_path: Path) -> None:
    prompts = tmp_path / "prompts"
    # In each file a line that only this file has follows a line that all files share.
    files = [
        File(package, f"sub/{name}.py", f"same = 1\n{package}_{name} = 2\n") for package in ("p", "q") for name in "abc"
    ]
    drawn = [(file, [1]) for file in files if file.path == "sub/a.py"]
    serve = [*scripted(tmp_path), "--elsewhere", "--prompts", str(prompts)]
    found = await asyncio.wait_for(measure(drawn, serve, 0, files), WAIT_S)
    assert found["lines"] == 2
    asked = [json.loads(row) for row in prompts.read_text().splitlines()]
    begun = [set(more[::3]) for prefix, _, *more in asked if prefix == "same = 1\n"]
    assert begun == [{"p_b = 2", "p_c = 2"}, {"q_b = 2", "q_c = 2"}]


async def test_the_server_is_notified_of_shown_and_accepted_suggestions(tmp_path: Path) -> None:
    async with typing([*scripted(tmp_path), "--state-dir", str(tmp_path)], {}) as typist:
        typist.open("file:///replay/a.py", f"x\na = {TEXT}\n")
        line = await retype(typist, "file:///replay/a.py", 1, f"a = {TEXT}")
    store = sqlite3.connect(tmp_path / FILE_NAME)
    shown, accepted = store.execute("SELECT sum(shown & 1), sum(accepted_ts IS NOT NULL) FROM completion").fetchone()
    store.close()
    assert shown == sum(bool(ask.suggestion) for ask in line.exact) > 1
    assert accepted == 1


@pytest.mark.parametrize(
    ("suggestion", "rest", "exact", "prefix"),
    [
        ("abc", "abc", True, True),
        ("ab", "ab", True, True),
        ("abc", "abcd", False, True),
        ("ab", "abcd", False, False),
        ("abcde", "abcd", False, False),
        ("abc\nd", "abc", False, False),
        ("", "", False, False),
        ("", "abc", False, False),
    ],
)
def test_exact_and_prefix_rule(suggestion: str, rest: str, exact: bool, prefix: bool) -> None:
    assert (accepts_exact(suggestion, rest), accepts_prefix(suggestion, rest)) == (exact, prefix)


@pytest.mark.parametrize(
    ("line", "start", "text", "shown"),
    [
        ("ret‸", 3, "urn x", "urn x"),
        ("ret‸", 0, "return x", "urn x"),
        ("ret‸", 0, "yield x", ""),
        ("ret‸", None, "urn x", "urn x"),
    ],
)
def test_the_ghost_text_is_the_part_after_the_cursor(line: str, start: int | None, text: str, shown: str) -> None:
    column = line.index("‸")
    span = None if start is None else types.Range(types.Position(0, start), types.Position(0, column))
    assert ghost(types.InlineCompletionItem(insert_text=text, range=span), line, column) == shown
    assert ghost(None, line, column) == ""


TEXTS = st.lists(st.text(alphabet="ab \n", max_size=20), min_size=1, max_size=6)


@given(texts=TEXTS, limit=st.integers(1, 20), seed=st.integers(0, 9))
def test_sampled_lines_are_distinct_and_not_blank(texts: list[str], limit: int, seed: int) -> None:
    files = [File("p", f"{index}.py", text) for index, text in enumerate(texts)]
    drawn = draw(files, limit, seed)
    assert drawn == draw(files, limit, seed)
    typed = [(file.path, row, file.text.split("\n")[row]) for file, rows in drawn for row in rows]
    there = sum(bool(line.strip()) for text in texts for line in text.split("\n"))
    assert len(set(typed)) == len(typed) == min(limit, there)
    assert all(line.strip() for _, _, line in typed)


def test_another_seed_samples_other_lines() -> None:
    files = [File("p", f"{index}.py", "a\n" * 50) for index in range(9)]
    assert draw(files, 10, 1) != draw(files, 10, 2)


def some_line(uri: str, *, saved: bool) -> Line:
    """A line of ten characters: typed in full, or with one key and one acceptance."""
    right = [Ask(0, "", False), Ask(1, "x" * 9, True, "right"), Ask(10, "", False)]
    asks = right if saved else [*[Ask(0, "y", False, "wrong")] * 10, Ask(0, "z", False, "also wrong")]
    return Line(uri, 10, asks, asks)


def test_the_figures_of_known_lines() -> None:
    typed = [some_line("a", saved=True), some_line("b", saved=False)]
    found = summarise([(line, line.exact) for line in typed], 0)
    assert found["saved"] == 1 - 12 / 20
    assert (found["keystrokes"], found["accepted"]) == (14, 1)
    assert (found["shown_per_keystroke"], found["wrong_per_keystroke"]) == (12 / 14, 11 / 14)
    assert found["right_when_shown"] == 1 / 12
    assert (found["suggestions"], found["right_of_suggestions"]) == (3, 1 / 3)
    nothing = summarise([(typed[0], [Ask(0, "", False)] * 11)], 0)
    assert nothing["right_when_shown"] is nothing["right_of_suggestions"] is None


def test_the_interval_resamples_files_not_lines() -> None:
    # Fifty lines of each of two files: resampling lines would give a narrow interval.
    typed = [some_line(uri, saved=uri == "a") for uri in "ab" for _ in range(50)]
    low, high = interval([(line, line.exact) for line in typed], 1)
    assert (low, high) == pytest.approx((0.0, 0.8))


def test_files_are_read_with_line_feeds_and_bad_ones_are_named(tmp_path: Path) -> None:
    file = tmp_path / "heldout.jsonl"
    file.write_text(json.dumps({"package": "p", "path": "a.py", "text": "a\r\nb\rc\n", "more": 1}) + "\n")
    assert read_files(file) == [File("p", "a.py", "a\nb\nc\n")]
    file.write_text('{"package": "p", "path": "a.py", "text": "a"}\n{"package": 1}\n')
    with pytest.raises(CommandError, match=r"heldout\.jsonl:2: .*give rows of package, path and text"):
        read_files(file)
    file.write_text('{"package": "p", "path": "a.py", "text": "\\n "}\n')
    with pytest.raises(CommandError, match="no line to type"):
        read_files(file)
    for path in ("../a.py", "/a.py"):
        file.write_text(json.dumps({"package": "p", "path": path, "text": "a"}) + "\n")
        with pytest.raises(CommandError, match=r"heldout\.jsonl:1: .*a\.py: give paths within a package"):
            read_files(file)
    with pytest.raises(CommandError, match="No such file"):
        read_files(tmp_path / "none.jsonl")


def test_the_command_prints_one_object_and_the_text_explains_the_rules(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "heldout.jsonl"
    file.write_text(json.dumps({"package": "p", "path": "a.py", "text": "def f(a):\n    return a\n"}) + "\n")
    checkpoint = tiny_checkpoint(tmp_path)
    code = main(["bench", "replay", "--files", str(file), "--limit", "1", "--json", "--checkpoint", str(checkpoint)])
    out, err = capsys.readouterr()
    assert code == 0, err
    found = json.loads(out.splitlines()[-1])
    assert set(found) == {
        "files", "lines", "characters", "exact", "prefix", "response_ms", "rss_mb", "workspace", "threshold",
        "checkpoint", "device",
    }  # fmt: skip
    assert (found["lines"], found["threshold"], found["device"]) == (1, 0.5, "cpu")
    assert main(["bench", "replay", "--files", str(file), "--json", "--show-threshold", "0.25",
        "--checkpoint", str(checkpoint)]) == 0  # fmt: skip
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["threshold"] == 0.25
    text = "\n".join(lines(found))
    assert "exactly the rest of the line is accepted, for one key" in text
    assert "at least 3 characters long, is accepted whole" in text
