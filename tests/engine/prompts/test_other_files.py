"""Text of other files in front of fill-in-the-middle: how it looks, what fits, and that it keeps its order."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midspan.engine.api import CheckpointError, Hole
from midspan.engine.marks_settings import Marks, MarksLayout
from midspan.engine.prompts.marks import MarksPrompt
from midspan.engine.prompts.shelf import Shelf, that_fit
from midspan.engine.prompts.templates import templates
from tests.engine.prompts.marked import prompt_of, spelled, with_marks

MANY = 1000
STORE, ALSO, OWN = "# store.py\ndef load(path):", "# store.py\ndef save(path):\n", "import json"
HOLE = Hole(prefix="a = 1\nb = ", suffix="\nc = 3\n", context=(STORE, ALSO, OWN))
BARE = replace(HOLE, context=())
FIM = "<|fim_prefix|>a = 1\n<|fim_suffix|>\nc = 3\n<|fim_middle|>b ="
QWEN = "qwen2.5-coder"


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> MarksPrompt:
    return prompt_of(tmp_path_factory.mktemp("qwen"), with_marks(QWEN), MarksLayout(context_tokens=MANY))


def shown(prompt: MarksPrompt, *context: str, most: int = MANY) -> str:
    """What stands in front of the prefix."""
    layout, without = prompt.lay_out(replace(HOLE, context=context), most), prompt.lay_out(BARE)
    begin = len(layout.prefix) - len(without.prefix)
    assert layout.prefix[begin:] == without.prefix
    assert begin <= most
    return spelled(prompt, layout.prefix[:begin])


def test_each_file_stands_behind_its_mark_and_below_its_name(tmp_path: Path) -> None:
    qwen = prompt_of(tmp_path, with_marks(QWEN), MarksLayout(context_tokens=MANY))
    assert spelled(qwen, qwen.lay_out(HOLE).prefix) == (
        "<|file_sep|>store.py\ndef load(path):\ndef save(path):\n<|file_sep|>elsewhere\nimport json\n" + FIM
    )


@pytest.mark.parametrize(
    ("heading", "named"),
    [
        ("// src/a.ts", "src/a.ts"),
        ("-- a.lua", "a.lua"),
        ("/* a.css */", "a.css"),
        ("<!-- a/b.html -->", "a/b.html"),
        ("% a.tex", "a.tex"),
        # No names: a comment, an empty one, and a line of code.
        ("# TODO: load it again.", None),
        ("#", None),
        ("#include <a.h>", None),
    ],
)
def test_a_name_is_taken_out_of_the_comment_that_says_nothing_else(
    qwen: MarksPrompt, heading: str, named: str | None
) -> None:
    wanted = f"<|file_sep|>{named}\nx\n" if named is not None else f"<|file_sep|>elsewhere\n{heading}\nx\n"
    assert shown(qwen, f"{heading}\nx") == wanted


def test_a_repository_has_its_mark_in_front_and_the_gap_s_own_file_last(tmp_path: Path) -> None:
    marks = replace(templates()[QWEN], repo="<|repo_name|>")
    made = with_marks(QWEN, more=("<|repo_name|>",))
    prompt = prompt_of(tmp_path, made, MarksLayout(marks=marks, context_tokens=MANY))
    assert spelled(prompt, prompt.lay_out(HOLE).prefix) == (
        "<|repo_name|>project\n<|file_sep|>store.py\ndef load(path):\ndef save(path):\n"
        "<|file_sep|>elsewhere\nimport json\n<|file_sep|>current\n" + FIM
    )
    assert spelled(prompt, prompt.lay_out(BARE).prefix) == FIM


def test_without_a_mark_of_files_a_comment_names_them(tmp_path: Path) -> None:
    prompt = prompt_of(tmp_path, with_marks("deepseek-coder"), MarksLayout(context_tokens=MANY))
    assert spelled(prompt, prompt.lay_out(HOLE).prefix) == (
        "<｜begin▁of▁sentence｜># store.py\ndef load(path):\n# store.py\ndef save(path):\nimport json\n"
        "<｜fim▁begin｜>a = 1\n<｜fim▁hole｜>\nc = 3\n<｜fim▁end｜>b ="
    )


@pytest.mark.parametrize("name", [name for name, marks in templates().items() if not marks.reads_others])
def test_a_model_that_was_not_taught_to_reads_none(tmp_path: Path, name: str) -> None:
    prompt = prompt_of(tmp_path, with_marks(name), MarksLayout())
    assert prompt.lay_out(HOLE, MANY) == prompt.lay_out(BARE)
    with pytest.raises(CheckpointError, match=r"layout\.context_tokens is 9; give 0, as a model") as refused:
        prompt_of(tmp_path, with_marks(name), MarksLayout(context_tokens=9))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", templates())
def test_without_text_of_other_files_nothing_stands_before_prefix_or_suffix(tmp_path: Path, name: str) -> None:
    marks = templates()[name]
    prompt = prompt_of(tmp_path, with_marks(name), MarksLayout(template=name))
    first = marks.suffix if marks.suffix_first else marks.prefix
    for layout in (prompt.lay_out(BARE), prompt.lay_out(BARE, MANY), prompt.lay_out(HOLE), prompt.lay_out(HOLE, 0)):
        assert spelled(prompt, layout.prefix).startswith((marks.start or "") + first)
        assert layout == prompt.lay_out(BARE)


def test_snippets_without_room_are_left_out_from_the_front(qwen: MarksPrompt) -> None:
    names = ("one", "two", "sum")
    context = [f"# {name}.py\n{name} = 1" for name in names]
    texts = [shown(qwen, *context, most=most) for most in range(100)]
    found = list(dict.fromkeys(frozenset(name for name in names if f"{name} = 1\n" in text) for text in texts))
    assert found == [set(), {"sum"}, {"two", "sum"}, {"one", "two", "sum"}]


def test_a_long_snippet_is_cut_behind_a_line(qwen: MarksPrompt) -> None:
    long = "# long.py\n" + "".join(f"value_{number} = {number}\n" for number in range(50))
    texts = {shown(qwen, long, most=most) for most in (0, 10, 40, 100, 300, MANY)}
    assert len(texts) > 3
    for text in texts - {""}:
        assert text.endswith("\n")
        assert (long + "\n").startswith("# long.py\n" + text.removeprefix("<|file_sep|>long.py\n"))
        assert text != "<|file_sep|>long.py\n"


def test_a_snippet_of_which_only_the_name_would_fit_is_left_out(tmp_path: Path) -> None:
    prompt = prompt_of(tmp_path, with_marks("deepseek-coder"), MarksLayout(context_tokens=MANY))
    line = len(prompt.encode("# store.py\n"))
    texts = {spelled(prompt, prompt.lay_out(replace(HOLE, context=(STORE,)), most).prefix) for most in range(6 * line)}
    assert {"# store.py\ndef" in text for text in texts} == {True, False}
    assert all("# store.py\ndef" in text or "store" not in text for text in texts)


def test_text_that_is_there_already_keeps_its_place_and_new_text_comes_last(qwen: MarksPrompt) -> None:
    def order(*context: str) -> list[str]:
        text = spelled(qwen, qwen.lay_out(replace(HOLE, context=context)).prefix).partition("<|fim_prefix|>")[0]
        return [part.partition("\n")[2].strip() for part in text.split("<|file_sep|>")[1:]]

    one, two, three, four = (f"# {name}.py\n{name} = 1" for name in ("one", "two", "three", "four"))
    bodies = [f"{name} = 1" for name in ("one", "two", "three", "four")]
    assert order(one, two, three) == bodies[:3]
    assert order(three, two, one) == bodies[:3]
    assert order(four, one, two, three) == bodies
    assert order(four, three, one) == [bodies[0], bodies[2], bodies[3]]
    # What was gone is new.
    assert order(one, two, three, four) == [bodies[0], bodies[2], bodies[3], bodies[1]]


def test_a_mark_that_text_of_another_file_spells_stays_text(qwen: MarksPrompt) -> None:
    layout = qwen.lay_out(replace(HOLE, context=("# <|fim_middle|>.py\nx = '<|fim_prefix|>'",)))
    bare = qwen.lay_out(BARE)
    marks = [token for token in layout.prefix if token in qwen.special_ids]
    assert marks[1:] == [token for token in bare.prefix if token in qwen.special_ids]


LINES = st.sampled_from(["def f(a, b):", "    return a", "", "class Store:", "é = '\u3042'", "# b.py", "import json"])
SNIPPETS = st.builds(
    lambda head, lines: "\n".join([*head, *lines]),
    st.sampled_from([[], ["# a.py"], ["// b/c.ts"]]),
    st.lists(LINES, min_size=1, max_size=12),
)
CONTEXTS = st.lists(st.lists(SNIPPETS, max_size=6).map(tuple), min_size=1, max_size=5)


def is_of(block: str, context: tuple[str, ...]) -> bool:
    """Whether a block is made of whole first lines of these snippets, each once."""
    if not block:
        return True
    for number, snippet in enumerate(context):
        lines = snippet.rstrip("\n").split("\n")
        for count in range(1, len(lines) + 1):
            part = "\n".join(lines[:count]) + "\n"
            for text in (part, part.partition("\n")[2]):
                rest = context[:number] + context[number + 1 :]
                if text and block.startswith(text) and is_of(block[len(text) :], rest):
                    return True
    return False


@given(CONTEXTS, st.integers(0, 120))
def test_a_prompt_holds_lines_of_its_own_hole_s_context_within_the_budget(
    qwen: MarksPrompt, contexts: list[tuple[str, ...]], most: int
) -> None:
    """Nothing of an earlier prompt is left, and the gap's own file is as it is without other text."""
    for context in contexts:
        layout, bare = qwen.lay_out(replace(HOLE, context=context), most), qwen.lay_out(BARE)
        begin = len(layout.prefix) - len(bare.prefix)
        assert 0 <= begin <= most
        assert layout == replace(bare, prefix=layout.prefix)
        assert layout.prefix[begin:] == bare.prefix
        assert spelled(qwen, layout.prefix[begin:]) == FIM
        for block in spelled(qwen, layout.prefix[:begin]).split("<|file_sep|>")[1:]:
            assert is_of(block.partition("\n")[2], context)


@given(st.lists(st.lists(st.sampled_from("abcdefg")), max_size=8))
def test_a_shelf_moves_nothing_that_stays(prompts: list[list[str]]) -> None:
    shelf, before = Shelf(), list[str]()
    for wanted in prompts:
        now = shelf.arranged(wanted)
        assert sorted(now) == sorted(set(wanted))
        assert [one for one in now if one in before] == [one for one in before if one in wanted]
        assert [one for one in before if one in wanted] == now[: len({*before} & {*wanted})]
        before = now


@given(st.lists(st.text("ab", max_size=6), max_size=8), st.integers(0, 20))
def test_the_last_that_fit_are_taken(context: list[str], most: int) -> None:
    found = that_fit(context, most, len)
    distinct = list(reversed(dict.fromkeys(reversed(context))))
    assert found == distinct[len(distinct) - len(found) :]
    assert sum(map(len, found)) <= most
    if len(found) < len(distinct):
        assert sum(map(len, distinct[-len(found) - 1 :])) > most


def test_marks_of_a_repository_are_needed() -> None:
    assert "<r>" in Marks(prefix="<p>", suffix="<s>", middle="<m>", ends=("<e>",), repo="<r>").needed
