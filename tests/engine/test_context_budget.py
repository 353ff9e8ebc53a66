"""Text of other files before fill-in-the-middle: what is read again for a key, and how much there is time for."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from itertools import chain, repeat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import midspan.engine
from midspan.engine.api import LEAST_CONTEXT, Budget, ContextBudget, Hole
from midspan.engine.engine import load_path
from midspan.engine.hypotheses.task import PATIENT, FillObserver
from midspan.engine.left_to_right import CHUNK_TOKENS, LeftToRight
from midspan.engine.load_causal import MOST_READS, tokens_per_second
from tests.engine.llama_tiny import SOURCE, marked_checkpoint
from tests.engine.prompts.marked import with_marks

LASTING = tuple(
    f"# {name}.py\nclass {name.title()}:\n    def load_{name}(self, path, strict=True):\n    def save_{name}(self):"
    for name in ("store", "shop", "order")
)
EDITS = tuple(f"# notes.py\ntotal_{number} = {number} + total" for number in range(6))
HOLE = Hole(prefix=SOURCE + "def total_area(items, tax):\n    ", suffix="\n    for item in items:\n")
TOKENS, WAIT_S = 400, 60.0


def qwen(folder: Path, context_tokens: int = TOKENS) -> str:
    """A tiny checkpoint with the marks of Qwen2.5-Coder."""
    made = with_marks("qwen2.5-coder")
    marked_checkpoint(folder, vocab_size=made.get_vocab_size())
    made.save(str(folder / "tokenizer.json"))
    layout = {"context_tokens": context_tokens, "line_tokens": 12, "span_tokens": 24}
    (folder / "midspan.json").write_text(json.dumps({"layout": layout}))
    return str(folder)


@pytest.fixture
def path(tmp_path: Path) -> LeftToRight:
    found = load_path(qwen(tmp_path), "cpu")
    assert isinstance(found, LeftToRight)
    return found


def read_again(path: LeftToRight, hole: Hole, *context: str) -> tuple[int, int]:
    """How many tokens a fill reads into the prompt's cache, and how many there are."""
    before = path.prefix.encoded_tokens
    out = path.infill(replace(hole, context=context), Budget(), PATIENT)
    assert path.prefix.memory.length == len(out.layout.prefix)
    return path.prefix.encoded_tokens - before, len(out.layout.prefix)


def test_a_key_reads_only_the_end_of_the_prompt_again(path: LeftToRight) -> None:
    read, there = read_again(path, HOLE, *LASTING)
    assert read == there
    line = "result = total_price(items, tax)"
    for typed in range(1, len(line)):
        hole = replace(HOLE, prefix=HOLE.prefix + line[:typed])
        # The same text, whatever is more useful at this key.
        assert read_again(path, hole, *(LASTING if typed % 2 else LASTING[::-1]))[0] < 10


def test_an_edit_elsewhere_leaves_the_other_files_in_the_cache(path: LeftToRight) -> None:
    bare = len(path.lay_out(HOLE, None).prefix)
    lasting = len(path.lay_out(replace(HOLE, context=LASTING), None).prefix) - bare
    assert lasting > 100
    first, there = read_again(path, HOLE, *LASTING, EDITS[0])
    assert first == there
    for edit in EDITS[1:]:
        read, there = read_again(path, HOLE, *LASTING, edit)
        assert bare < read <= there - lasting


def test_text_that_changes_goes_to_the_end(path: LeftToRight) -> None:
    """Wherever it stood first: from then on only it and what is behind all blocks is read again."""
    costs = [read_again(path, HOLE, edit, *LASTING)[0] for edit in EDITS]
    assert costs[1] > costs[0] // 2
    assert max(costs[2:]) < costs[0] - 100


def test_new_text_is_read_behind_what_is_there(path: LeftToRight) -> None:
    first = read_again(path, HOLE, *LASTING[1:])[0]
    read, there = read_again(path, HOLE, *LASTING)
    bare = len(path.lay_out(HOLE, None).prefix)
    assert read <= there - (first - bare)


def test_a_fill_that_is_stopped_among_other_files_leaves_the_next_one_unchanged(path: LeftToRight) -> None:
    hole, asked = replace(HOLE, context=LASTING), list[int]()

    def interrupted() -> bool:
        asked.append(1)
        return len(asked) > 2

    out = path.infill(hole, Budget(), FillObserver(interrupted=interrupted, late=lambda: False))
    bare = len(path.lay_out(HOLE, None).prefix)
    assert (out.stopped, out.ranked) == ("cancelled", [])
    assert 0 < path.prefix.memory.length < len(out.layout.prefix) - bare
    whole = path.infill(hole, Budget(), PATIENT)
    path.reset()
    fresh = path.infill(hole, Budget(), PATIENT)
    assert [one.ids for one in whole.ranked] == [one.ids for one in fresh.ranked]


def test_as_much_is_read_as_there_is_time_for_and_the_log_says_so(
    path: LeftToRight, caplog: pytest.LogCaptureFixture
) -> None:
    hole = replace(HOLE, context=LASTING * 2)
    path.context_budget = ContextBudget(tokens=TOKENS, beside=600, per_s=1500.0)
    bare = path.lay_out(HOLE, None)
    with caplog.at_level(logging.INFO, "midspan.engine.left_to_right"):
        sizes = [len(path.lay_out(hole, s).prefix) - len(bare.prefix) for s in (None, 5.0, 1.0, 1.001, 0.9, 0.5)]
    assert sizes[0] == sizes[1] > 128 >= sizes[2] == sizes[3] > 64 >= sizes[4] > sizes[5] == 0
    assert [record.getMessage() for record in caplog.records] == [
        f"text from elsewhere: at most {tokens} tokens in a prompt now" for tokens in (128, 64, 0)
    ]
    assert path.lay_out(hole, 0.5) == bare


def test_a_fill_with_a_short_deadline_has_today_s_prompt(path: LeftToRight) -> None:
    path.context_budget = ContextBudget(tokens=TOKENS, beside=600, per_s=1000.0)
    hole = replace(HOLE, context=LASTING)
    late = path.infill(hole, Budget(deadline_s=1.0), PATIENT)
    assert late.layout == path.lay_out(HOLE, None)
    assert late.layout != path.infill(hole, Budget(), PATIENT).layout


@given(
    st.integers(0, 4096), st.integers(0, 4096), st.floats(0.0, 1e6), st.none() | st.floats(0.0, 100.0, allow_nan=False)
)
def test_a_cold_prompt_takes_no_more_than_its_share_of_the_deadline(
    tokens: int, beside: int, per_s: float, deadline_s: float | None
) -> None:
    budget = ContextBudget(tokens=tokens, beside=beside, per_s=per_s)
    found = budget.within(deadline_s)
    assert 0 <= found <= tokens
    if deadline_s is None:
        assert found == tokens
    elif found:
        assert beside + found <= budget.share * deadline_s * per_s
    # It is worth its while, and moves in few steps.
    assert found in (0, tokens) or (found >= LEAST_CONTEXT and found & (found - 1) == 0)


def test_half_of_what_there_is_time_for_is_used_at_least() -> None:
    for per_s in range(0, 10_000, 77):
        budget = ContextBudget(tokens=2048, beside=600, per_s=float(per_s))
        room = per_s // 2 - 600
        assert budget.within(1.0) > room // 2 - LEAST_CONTEXT or budget.within(1.0) == 2048


def test_the_shortest_of_a_few_reads_counts(path: LeftToRight) -> None:
    """Each read asks the clock at its beginning and its end, and once more before the next begins."""
    took = (0.2, 0.1, 0.4)
    ticks, now = [0.0], 0.0
    for number, seconds in enumerate(took):
        if number:
            ticks.append(now)
        ticks += [now, now + seconds]
        now += seconds
    clock = chain(ticks, repeat(now))
    assert len(took) == MOST_READS
    assert tokens_per_second(path.backend, lambda: next(clock)) == pytest.approx(CHUNK_TOKENS / 0.1)
    slow = chain((0.0, 0.0, 2.0), repeat(2.0))
    assert tokens_per_second(path.backend, lambda: next(slow)) == pytest.approx(CHUNK_TOKENS / 2.0)


def test_a_checkpoint_says_how_much_it_reads_and_how_fast(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "midspan.engine.load_causal"):
        engine = midspan.engine.load(qwen(tmp_path), "cpu")
    try:
        budget = engine.about.context_budget
        fills = [engine.fill(replace(HOLE, context=one), Budget()).result(WAIT_S) for one in ((), LASTING)]
    finally:
        engine.close()
    assert budget is not None
    assert (budget.tokens, budget.beside, budget.share) == (TOKENS, 512 + 160, 0.5)
    assert budget.per_s > 0
    assert engine.about.context_tokens == TOKENS
    assert f"at most {TOKENS} tokens; prompts are read at {budget.per_s:.0f} a second" in caplog.text
    assert fills[0].candidates != fills[1].candidates


def test_a_checkpoint_that_reads_none_is_not_timed(tmp_path: Path) -> None:
    engine = midspan.engine.load(qwen(tmp_path, 0), "cpu")
    try:
        assert engine.about.context_budget is None
        assert engine.about.context_tokens == 0
    finally:
        engine.close()
