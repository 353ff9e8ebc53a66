"""Infilling with a random network: prefix cache, healing, blocks, determinism, syntax; and the engine's thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from midspan.engine.api import Budget, CheckpointError, Frame, Hole
from midspan.engine.engine import Engine
from midspan.engine.hypotheses.hypothesis import Hypothesis
from midspan.engine.hypotheses.ranking import Ranker
from midspan.engine.hypotheses.task import FillObserver
from midspan.engine.infill import Infiller
from midspan.engine.prompts.prompt import Prompt
from midspan.engine.settings import SearchFloor
from tests.engine.tiny import SOURCE, changed, tiny_infiller

HOLE = Hole(prefix=SOURCE + "\n\ndef add(a, b):\n    retu", suffix="\n\n\nprint(add(1, 2))\n")
PATIENT = FillObserver(interrupted=lambda: False, late=lambda: False)
WAIT_S = 60


@pytest.fixture(scope="module")
def infiller(tmp_path_factory: pytest.TempPathFactory) -> Infiller:
    return tiny_infiller(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def engine(infiller: Infiller) -> Iterator[Engine]:
    engine = Engine(infiller, name="tiny", load_ms=0.0)
    yield engine
    engine.close()


def test_the_fill_continues_the_word_at_the_cursor(infiller: Infiller) -> None:
    layout = infiller.prompt.lay_out(HOLE)
    assert layout.heal == " retu"[-len(layout.heal) :]
    out = infiller.infill(HOLE, Budget(), PATIENT)
    for scored in out.ranked:
        assert infiller.prompt.decode(list(scored.ids)).startswith(layout.heal)


def test_same_seed_same_ranking_and_another_seed_another(infiller: Infiller) -> None:
    first, again = (infiller.infill(HOLE, Budget(seed=5), PATIENT).ranked for _ in range(2))
    assert [one.ids for one in first] == [one.ids for one in again]
    other = infiller.infill(HOLE, Budget(seed=6), PATIENT).ranked
    assert [one.ids for one in first] != [one.ids for one in other]


def test_log_probabilities_are_those_of_one_plain_causal_pass(infiller: Infiller) -> None:
    hole = Hole(prefix="", suffix="\n")
    out = infiller.infill(hole, Budget(), PATIENT)
    best = out.ranked[0]
    text = [*out.layout.prefix, *best.ids, *out.layout.suffix[:6]]
    model = infiller.backend
    hidden = model.prefill(torch.tensor([text]), model.new_cache())
    read = model.logits(hidden)[0, :-1].log_softmax(dim=-1)
    begin = len(out.layout.prefix) - 1
    expected = read.gather(1, torch.tensor(text[1:])[:, None]).squeeze(1)[begin:]
    assert best.log_probability == pytest.approx(float(expected.detach().sum()), abs=1e-3)


def test_logits_of_a_large_vocabulary_are_computed_a_few_rows_at_a_time(
    infiller: Infiller, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = infiller.backend
    plain, rows = infiller.infill(HOLE, Budget(steps=1), PATIENT), list[int]()
    monkeypatch.setattr("midspan.engine.backends.plain.LOGITS", 3 * model.vocab_size)
    whole, logits = Ranker.rank, model.logits

    def counted(hidden: torch.Tensor) -> torch.Tensor:
        rows.append(hidden.shape[:-1].numel())
        return logits(hidden)

    def rank_counted(*given: Any) -> list[Hypothesis]:
        with monkeypatch.context() as patch:
            patch.setattr(model, "logits", counted)
            return whole(*given)

    monkeypatch.setattr(Ranker, "rank", rank_counted)
    again = infiller.infill(HOLE, Budget(steps=1), PATIENT)
    assert max(rows[1:]) == 3
    assert [one.ids for one in again.ranked] == [one.ids for one in plain.ranked]
    likely = [[one.log_probability for one in out.ranked] for out in (plain, again)]
    assert likely[1] == pytest.approx(likely[0], abs=1e-4)


def test_a_keystroke_after_ten_thousand_tokens_encodes_only_the_tail(infiller: Infiller) -> None:
    body = "".join(f"value_{i} = total(items, {i})\n" for i in range(1100))
    before = infiller.prefix.encoded_tokens
    infiller.infill(Hole(prefix=body + "x", suffix="\n"), Budget(steps=1), PATIENT)
    first = infiller.prefix.encoded_tokens - before
    assert first > 10_000
    infiller.infill(Hole(prefix=body + "x =", suffix="\n"), Budget(steps=1), PATIENT)
    assert infiller.prefix.encoded_tokens - before - first <= 4
    # An edit in the middle encodes from there on, and the cache holds what a fresh one would.
    edited = Hole(prefix=body.replace("value_900 ", "other ") + "x", suffix="\n")
    kept = infiller.infill(edited, Budget(steps=1), PATIENT).ranked
    infiller.reset()
    fresh = infiller.infill(edited, Budget(steps=1), PATIENT).ranked
    assert [one.ids for one in kept] == [one.ids for one in fresh]
    assert kept[0].log_probability == pytest.approx(fresh[0].log_probability, abs=1e-3)


def test_a_long_gap_goes_on_block_by_block(infiller: Infiller) -> None:
    span = Hole(prefix=HOLE.prefix, suffix=HOLE.suffix, kind="span")
    one = infiller.infill(HOLE, Budget(), PATIENT)
    many = infiller.infill(span, Budget(), PATIENT)
    assert not one.ranked[0].ended, "the random network is expected not to write filler here"
    assert many.ranked[0].ids[: len(one.ranked[0].ids)] == one.ranked[0].ids
    assert len(many.ranked[0].ids) > max(infiller.settings.layout.slots)


def test_whole_lines_end_with_their_line_end(infiller: Infiller) -> None:
    layout = infiller.prompt.lay_out(Hole(prefix="x = 1\n", suffix="y = 2\n"))
    assert (layout.heal, layout.append) == ("\n", "\n")
    assert infiller.prompt.decode(layout.suffix) == "\ny = 2\n"


@pytest.mark.parametrize("prefix", ["", "\n", "𝒳 = '😀", "x = '<filler><bos>", "\t\t", "é" * 50, "x" * 3000])
def test_any_prefix_is_healed_losslessly(infiller: Infiller, prefix: str) -> None:
    layout = infiller.prompt.lay_out(Hole(prefix=prefix, suffix=""))
    assert infiller.prompt.decode(layout.prefix) + layout.heal == prefix
    assert infiller.infill(Hole(prefix=prefix, suffix=""), Budget(steps=1), PATIENT).ranked


def test_a_deadline_returns_the_best_canvas_so_far(engine: Engine) -> None:
    fill = engine.fill(HOLE, Budget(deadline_s=0.0)).result(WAIT_S)
    assert (fill.steps, fill.stopped) == (1, "deadline")
    assert fill.candidates


@pytest.mark.parametrize("at", [1, 2, 3])
def test_stopping_between_any_two_steps_leaves_the_engine_ready(engine: Engine, at: int) -> None:
    whole = engine.fill(HOLE, Budget()).result(WAIT_S)
    stop, frames = threading.Event(), list[Frame]()

    def on_frame(frame: Frame) -> None:
        frames.append(frame)
        if frame.step == at:
            stop.set()

    cut = engine.fill(HOLE, Budget(), stop=stop, on_frame=on_frame).result(WAIT_S)
    assert (cut.stopped, cut.text, cut.steps, len(frames)) == ("cancelled", "", at, at)
    assert engine.fill(HOLE, Budget()).result(WAIT_S).candidates == whole.candidates


def test_the_newest_request_wins(engine: Engine) -> None:
    inside, go = threading.Event(), threading.Event()

    def hold(frame: Frame) -> None:
        inside.set()
        assert go.wait(WAIT_S)

    running = engine.fill(HOLE, Budget(), on_frame=hold)
    assert inside.wait(WAIT_S)
    waiting, newest = engine.fill(HOLE, Budget()), engine.fill(HOLE, Budget())
    assert waiting.result(WAIT_S).stopped == "cancelled"
    go.set()
    assert running.result(WAIT_S).stopped == "cancelled"
    assert newest.result(WAIT_S).candidates


class Panic(BaseException):
    """An error that is no Exception, as a panic in Rust code."""


@pytest.mark.parametrize("kind", [ZeroDivisionError, Panic])
def test_a_crash_in_the_worker_is_reported_and_the_next_request_works(
    engine: Engine, kind: type[BaseException]
) -> None:
    def crash(frame: Frame) -> None:
        raise kind("from the test")

    with pytest.raises(ZeroDivisionError if kind is ZeroDivisionError else RuntimeError, match="from the test"):
        engine.fill(HOLE, Budget(), on_frame=crash).result(WAIT_S)
    assert engine.fill(HOLE, Budget()).result(WAIT_S).candidates


def test_a_closed_engine_says_so(infiller: Infiller) -> None:
    engine = Engine(infiller, name="tiny", load_ms=0.0)
    engine.close()
    with pytest.raises(RuntimeError, match="closed"):
        engine.fill(HOLE, Budget())


def test_frames_tell_free_settled_and_frozen_apart(engine: Engine) -> None:
    frames = list[Frame]()
    engine.fill(HOLE, Budget(), on_frame=frames.append).result(WAIT_S)
    assert [frame.step for frame in frames] == [1, 2, 3, 4]
    for frame in frames:
        frozen = "".join(cell.text for cell in frame.cells if cell.state == "frozen")
        assert HOLE.suffix.startswith(frozen)
        assert len(frozen) > 5
        assert {"settled", "free"} & {cell.state for cell in frame.cells}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "not valid JSON"),
        ("[]", "not a JSON object"),
        ("{}", "model.type is null, only BPE is read"),
        (None, "missing"),
    ],
)
def test_a_broken_tokenizer_is_refused_with_one_line(tmp_path: Path, content: str | None, said: str) -> None:
    if content is not None:
        (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(CheckpointError, match=said) as refused:
        Prompt(tmp_path / "tokenizer.json", prefix_tokens=10, filler_id=3)
    assert "\n" not in str(refused.value)


def test_fills_that_parse_come_first_and_if_none_does_the_best_is_renoised_where_it_is_wrong(tmp_path: Path) -> None:
    """If the syntax check rejects all fills of the first run, a fill that it accepts comes from renoising the best."""
    infiller = tiny_infiller(tmp_path)
    plain = infiller.infill(HOLE, Budget(), PATIENT)
    assert len(plain.ranked) > 1
    assert all(one.parses and one.features[-1] == 1.0 for one in plain.ranked)
    texts = [infiller.prompt.text(list(one.ids), plain.layout) for one in plain.ranked]
    asked = list[str]()

    def one_is_right(hole: Hole, fill: str) -> tuple[tuple[int, int], ...]:
        return () if fill == texts[1] else ((0, len(fill) + 1),)

    infiller.judge = one_is_right
    chosen = infiller.infill(HOLE, Budget(), PATIENT)
    assert infiller.prompt.text(list(chosen.ranked[0].ids), chosen.layout) == texts[1]
    assert [one.parses for one in chosen.ranked] == [True] + [False] * (len(texts) - 1)
    assert chosen.steps == plain.steps

    def only_the_end_is_wrong(hole: Hole, fill: str) -> tuple[tuple[int, int], ...]:
        asked.append(fill)
        return ((len(fill) - 1, len(fill)),) if fill in texts else ()

    infiller.judge = only_the_end_is_wrong
    fixed = infiller.infill(HOLE, Budget(), PATIENT)
    assert plain.steps < fixed.steps <= plain.steps + 2
    best = fixed.ranked[0]
    assert best.parses
    assert infiller.prompt.text(list(best.ids), fixed.layout) not in texts
    # All but the last tokens are those of the best fill that did not parse.
    assert best.ids[:1] == plain.ranked[0].ids[:1]

    # If only a sure fill is wanted, no fill is repaired.
    infiller.settings = changed(infiller.settings, beams=2, search_floor=SearchFloor(log_prob=-1000.0, evidence=0.0))
    infiller.judge = lambda _, fill: ((0, len(fill)),)
    sure = Budget(min_confidence=infiller.settings.show.show_threshold)
    assert infiller.infill(HOLE, sure, PATIENT).steps < infiller.infill(HOLE, Budget(), PATIENT).steps


def test_one_more_fill_than_wanted_has_its_syntax_checked(tmp_path: Path) -> None:
    infiller, asked = tiny_infiller(tmp_path, beams=4), list[str]()

    def judge(hole: Hole, fill: str) -> tuple[tuple[int, int], ...]:
        asked.append(fill)
        return ()

    infiller.judge = judge
    out = infiller.infill(HOLE, Budget(), PATIENT)
    assert len(out.ranked) > 2
    assert len({fill for fill in asked if fill.strip()}) == 2


def test_the_margin_is_the_difference_in_log_probability_to_the_next_hypothesis(infiller: Infiller) -> None:
    ranked = infiller.infill(HOLE, Budget(), PATIENT).ranked
    for one, after in pairwise(ranked):
        assert one.features[-2] == pytest.approx(min(10.0, one.log_probability - after.log_probability))
    assert ranked[-1].features[-2] == 10.0


def test_other_threads_run_while_a_text_is_tokenized(infiller: Infiller) -> None:
    """The tokenizer releases the interpreter's lock while it works on a long text."""
    text, ticks, over = SOURCE * 1000, list[int](), threading.Event()
    pause = threading.Event()

    def tick() -> None:
        while not over.is_set():
            ticks.append(pause.wait(0.001))

    ticking = threading.Thread(target=tick)
    ticking.start()
    turns = list[int]()
    for tokenize in (infiller.prompt.encode, lambda long: infiller.prompt.lay_out(Hole(prefix=long, suffix=""))):
        before = len(ticks)
        tokenize(text)
        turns.append(len(ticks) - before)
    over.set()
    ticking.join()
    # A thread that had to wait would get only a turn or two, at the beginning and at the end.
    assert min(turns) > 10
