"""Fill-in-the-middle rows of continued training as pictures: `├…┤` is the gap, marks are in angle brackets."""

import random
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midspan.engine.prompts.prompt import Prompt
from midspan.engine.training.continued.batches import make_batch
from midspan.engine.training.continued.recipes import Recipe, RowRecipe
from midspan.engine.training.continued.rows import END, FILE, MIDDLE, PREFIX, SUFFIX, Layout, Row, RowBuilder
from midspan.engine.training.continued.spans import Gap, cut
from midspan.engine.training.continued.texts import Corpus, Text
from tests.engine.llama_tiny import SOURCE, tokenizer

MARKS = {PREFIX: "<prefix>", SUFFIX: "<suffix>", MIDDLE: "<middle>", END: "<end>", FILE: "<file>"}
SIZES = RowRecipe(tokens=120, longest_gap=30, suffix_tokens=24)


@cache
def builder() -> RowBuilder:
    file = Path(mkdtemp()) / "tokenizer.json"
    tokenizer().save(str(file))
    return RowBuilder(Prompt(file, prefix_tokens=256, filler_id=0), SIZES)


def text(source: str, path: str = "a.py") -> Text:
    return Text(language="python", package="shop", path=path, text=source)


def picture(row: Row) -> str:
    """The row's ids as text, with `|` before the gap's first token."""
    shown = builder().prompt._tokenizer.decode(row.ids[: row.gap], skip_special_tokens=False)
    shown += "|" + builder().prompt._tokenizer.decode(row.ids[row.gap :], skip_special_tokens=False)
    for mark, name in MARKS.items():
        shown = shown.replace(mark, name)
    return shown


def row_of(source: str, *, suffix_first: bool, line_behind: bool) -> Row:
    begin, end = source.index("├"), source.index("┤") - 1
    plain = source.replace("├", "").replace("┤", "")
    layout = Layout(suffix_first=suffix_first, line_behind=line_behind, room=SIZES.tokens)
    row = builder().build(text(plain), Gap(begin=begin, end=end, kind="rest"), layout, plain[end:])
    assert row is not None
    return row


@pytest.mark.parametrize(
    ("suffix_first", "line_behind", "shown"),
    [
        (True, True, "<suffix>\n    c<prefix>def f():\n    a\n<middle>    result| = 0<end>"),
        (True, False, "<suffix>\n    c<prefix>def f():\n    a\n    result<middle>| = 0<end>"),
        (False, True, "<prefix>def f():\n    a\n<suffix>\n    c<middle>    result| = 0<end>"),
        (False, False, "<prefix>def f():\n    a\n    result<suffix>\n    c<middle>| = 0<end>"),
    ],
)
def test_the_four_layouts(suffix_first: bool, line_behind: bool, shown: str) -> None:
    source = "def f():\n    a\n    result ├= 0┤\n    c"
    row = row_of(source, suffix_first=suffix_first, line_behind=line_behind)
    assert (row.heal, row.middle) == (" ", "= 0")
    assert picture(row) == shown


def test_a_partly_typed_word_is_healed_and_written_again() -> None:
    row = row_of("for item in items:\n    res├ult += 1┤\n", suffix_first=True, line_behind=True)
    assert row.heal == " res"
    assert picture(row) == "<suffix>\n<prefix>for item in items:\n<middle>   | result += 1<end>"


def test_a_gap_of_whole_lines_begins_behind_the_middle_mark() -> None:
    row = row_of("def f():\n├    result = 0┤\n    return", suffix_first=True, line_behind=True)
    assert picture(row) == "<suffix>\n    return<prefix>def f():\n<middle>|    result = 0<end>"


def test_outside_of_the_gap_only_the_prefix_is_learnt() -> None:
    for suffix_first in (True, False):
        row = row_of("def f():\n    a\n    result ├= 0┤\n    c", suffix_first=suffix_first, line_behind=True)
        assert builder().prompt.decode([row.ids[place] for place in row.text]) == "def f():\n    a\n"


@given(st.integers(0, 2**32))
def test_prompt_and_gap_give_the_text_and_the_first_token_begins_with_the_healed_text(seed: int) -> None:
    chance, prompt = random.Random(seed), builder().prompt
    gap = cut(SOURCE, chance.randrange(len(SOURCE)), chance)
    if gap is None:
        return
    layout = Layout(suffix_first=chance.random() < 0.5, line_behind=chance.random() < 0.5, room=SIZES.tokens)
    row = builder().build(text(SOURCE), gap, layout, SOURCE[gap.end :])
    if row is None:
        return
    assert len(row.ids) <= SIZES.tokens
    assert prompt.decode(row.ids[row.gap :]) == row.heal + SOURCE[gap.begin : gap.end]
    assert prompt.cell_text(row.ids[row.gap]).startswith(row.heal)
    # Inference has the same ids before the gap.
    line = SOURCE.rfind("\n", 0, gap.begin) + 1
    typed = SOURCE[line if layout.line_behind else 0 : gap.begin]
    before, heal = prompt.heal_indent(typed)
    assert heal == row.heal
    behind = row.ids[row.ids.index(builder().middle) + 1 : row.gap]
    prefix = [row.ids[place] for place in row.text]
    assert before == behind if layout.line_behind else before[len(before) - len(prefix) :] == prefix


@given(st.integers(0, 2**32))
def test_gaps_are_cut_within_the_text_and_are_not_blank(seed: int) -> None:
    chance = random.Random(seed)
    gap = cut(SOURCE, chance.randrange(len(SOURCE)), chance)
    if gap is None:
        return
    assert 0 <= gap.begin < gap.end <= len(SOURCE)
    middle = SOURCE[gap.begin : gap.end]
    assert middle.strip()
    if gap.kind in ("rest", "whole", "several"):
        assert SOURCE[gap.end : gap.end + 1] in ("", "\n")
    if gap.kind in ("rest", "whole", "inside"):
        assert "\n" not in middle


def test_every_kind_of_gap_is_cut() -> None:
    chance = random.Random(0)
    gaps = [cut(SOURCE, chance.randrange(len(SOURCE)), chance) for _ in range(300)]
    assert {gap.kind for gap in gaps if gap is not None} == {"rest", "whole", "several", "inside", "random"}


def shop() -> Corpus:
    return Corpus([text(SOURCE, "shop/a.py"), text(SOURCE.replace("total", "mean"), "shop/b.py")])


def test_every_batch_has_the_same_number_of_learnt_places_and_each_predicts_the_next_token() -> None:
    recipe = Recipe(short=SIZES, batch_tokens=480, positions=150)
    for seed in range(5):
        batch = make_batch(builder(), shop(), recipe, random.Random(seed))
        assert batch.ids.shape == (4, 120)
        assert batch.places.shape == batch.targets.shape == batch.weights.shape == (150,)
        learnt = batch.weights > 0
        assert batch.ids.view(-1)[batch.places[learnt] + 1].tolist() == batch.targets[learnt].tolist()
        assert (batch.targets[batch.weights == 1] == builder().end).sum() >= 4


def test_blocks_of_other_files_and_the_path_come_first_and_are_dropped_at_random() -> None:
    sizes = RowRecipe(tokens=400, longest_gap=30, suffix_tokens=24, block_share=0.5, path_share=0.5)
    rows = RowBuilder(builder().prompt, sizes)
    shown = [picture(rows.draw(shop(), random.Random(seed), 400)) for seed in range(40)]
    with_path = [one for one in shown if one.startswith("<file>")]
    others = [one for one in with_path if one.count("<file>") > 1]
    assert 0 < len(others) < len(with_path) < len(shown)
    paths = ("<file>shop/a.py\n", "<file>shop/b.py\n")
    assert all(path in one for one in others for path in paths)
