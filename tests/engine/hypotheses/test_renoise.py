"""Renoising a share of a draft: how many tokens, which, and that the others stay; with a random network."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from itertools import groupby
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midspan.engine.api import Budget, CheckpointError, Frame, Hole
from midspan.engine.autoregressive import Autoregressive
from midspan.engine.engine import Engine
from midspan.engine.hypotheses.renoise import RUN, Draft, choose_free
from midspan.engine.hypotheses.task import FillObserver
from midspan.engine.infill import Infiller
from midspan.engine.weights.midspan_json import read_settings
from tests.engine.tiny import SOURCE, changed, rewrite_settings, tiny_checkpoint, tiny_infiller
from tests.examples import examples

PATIENT = FillObserver(interrupted=lambda: False, late=lambda: False)
WAIT_S = 60
SHARES = st.integers(1, 64).map(lambda n: Fraction(n, 64))
BEGIN, END = SOURCE.index("result = 0"), SOURCE.index("\n\n\nclass")
DRAFT = SOURCE[BEGIN:END]
HOLE = Hole(prefix=SOURCE[:BEGIN], suffix=SOURCE[END:], kind="span", draft=DRAFT, strength=0.5)


@pytest.fixture(scope="module")
def infiller(tmp_path_factory: pytest.TempPathFactory) -> Infiller:
    return tiny_infiller(tmp_path_factory.mktemp("tiny"))


def drafted(infiller: Infiller, hole: Hole, seed: int = 0) -> Draft:
    assert hole.strength is not None
    return Draft.of(infiller.prompt, hole.draft, infiller.prompt.lay_out(hole), hole.strength, seed)


@given(st.integers(0, 300), SHARES, st.integers(0, 9))
def test_exactly_the_share_is_renoised_in_runs(count: int, share: Fraction, seed: int) -> None:
    free = choose_free(count, float(share), seed)
    assert len(free) == count
    assert sum(free) == math.ceil(share * count)
    assert free == choose_free(count, float(share), seed)
    runs = [len(list(run)) for is_free, run in groupby(free) if is_free]
    # As few runs as possible of this length; even fewer if too few tokens stay to separate them.
    assert len(runs) == min(-(-sum(free) // RUN), count - sum(free) + 1) * (count > 0)
    assert not runs or max(runs) - min(runs) <= 1


def test_a_share_that_is_no_exact_float_is_not_rounded_up() -> None:
    assert sum(choose_free(30, 0.1, 0)) == 3
    assert 0.1 * 3 * 10 > 3
    assert sum(choose_free(10, 0.1 * 3, 0)) == 3


def test_other_seeds_choose_other_tokens() -> None:
    assert len({choose_free(60, 0.25, seed) for seed in range(9)}) > 5


@given(st.lists(st.booleans(), max_size=80), st.integers(1, 20))
def test_pieces_hold_every_free_token_once_and_begin_and_end_with_one(free: list[bool], size: int) -> None:
    pieces = Draft(ids=tuple(range(len(free))), free=tuple(free)).pieces(size)
    inside = [at for begin, end in pieces for at in range(begin, end)]
    assert inside == sorted(set(inside))
    assert {at for at, is_free in enumerate(free) if is_free} <= set(inside)
    assert all(0 < end - begin <= size and free[begin] and free[end - 1] for begin, end in pieces)


@examples(30)
@given(SHARES, st.integers(0, 5))
def test_frozen_tokens_stay_and_the_number_of_tokens_too(infiller: Infiller, share: Fraction, seed: int) -> None:
    hole = replace(HOLE, strength=float(share))
    draft = drafted(infiller, hole, seed)
    assert sum(draft.free) == math.ceil(share * (len(draft.ids) - healed(infiller, draft)))
    out = infiller.infill(hole, Budget(seed=seed, candidates=3, steps=1), PATIENT)
    assert out.ranked
    for one in out.ranked:
        assert len(one.ids) == len(draft.ids)
        kept = [(old, new) for old, new, free in zip(draft.ids, one.ids, draft.free, strict=True) if not free]
        assert all(old == new for old, new in kept)
        assert infiller.prompt.filler_id not in one.ids
    again = infiller.infill(hole, Budget(seed=seed, candidates=3, steps=1), PATIENT)
    assert [one.ids for one in out.ranked] == [one.ids for one in again.ranked]


def healed(infiller: Infiller, draft: Draft) -> int:
    """How many of a draft's first tokens are only the healed line end and indent before it."""
    texts = [infiller.prompt.decode(list(draft.ids[: count + 1])) for count in range(len(draft.ids))]
    return sum(not text.strip() for text in texts)


def test_a_long_draft_is_rewritten_piece_by_piece(infiller: Infiller) -> None:
    hole = replace(HOLE, strength=1.0)
    draft = drafted(infiller, hole)
    size = max(infiller.settings.layout.block_slots)
    assert len(draft.pieces(size)) > 3
    frames = list[Frame]()
    out = infiller.infill(hole, Budget(), replace(PATIENT, on_frame=frames.append))
    # A piece's canvas has the draft behind it as frozen tokens.
    behind = infiller.prompt.decode(list(draft.ids[draft.pieces(size)[0][1] :]))
    seen = "".join(cell.text for cell in frames[0].cells if cell.state == "frozen")
    assert behind.startswith(seen.lstrip())
    assert len(seen) > 5
    changed = [old != new for old, new in zip(draft.ids, out.ranked[0].ids, strict=True)]
    for begin, end in draft.pieces(size):
        assert any(changed[begin:end])


def test_candidates_contain_the_parts_of_the_draft_that_stay(infiller: Infiller) -> None:
    engine = Engine(infiller, name="tiny", load_ms=0.0)
    try:
        hole = replace(HOLE, strength=1 / 64)
        fill = engine.fill(hole, Budget(candidates=3)).result(WAIT_S)
    finally:
        engine.close()
    draft = drafted(infiller, hole)
    first, last = draft.free.index(True), len(draft.free) - draft.free[::-1].index(True)
    layout = infiller.prompt.lay_out(hole)
    head = infiller.prompt.decode(list(draft.ids[:first]))[len(layout.heal) :]
    tail = infiller.prompt.decode(list(draft.ids[last:]))
    assert 0 < len(head) + len(tail) < len(DRAFT)
    for candidate in fill.candidates:
        assert candidate.text.startswith(head)
        assert candidate.text.endswith(tail)


@pytest.mark.parametrize(
    ("prefix", "draft", "suffix"),
    [
        ("", "total", " = 1\n"),
        ("x = 1\n", "total", " = 1"),
        ("x = 1\n", "y = 2\n", "z = 3\n"),
        ("x = 1\n", "y = 2", "\nz = 3\n"),
        ("x = 1\n", "y = 2", ""),
        ("x = 1\n", "y = 2\n", ""),
        ("    retu", "rn a", "\n"),
        ("the p", "ric", "\n"),
        ("x = '", "😀é", "'\n"),
    ],
)
@pytest.mark.parametrize("strength", [0.25, 1.0])
def test_the_tokens_of_a_draft_give_back_its_text(
    infiller: Infiller, prefix: str, draft: str, suffix: str, strength: float
) -> None:
    hole = Hole(prefix=prefix, suffix=suffix, kind="span", draft=draft, strength=strength)
    layout = infiller.prompt.lay_out(hole)
    ids = drafted(infiller, hole).ids
    assert infiller.prompt.text(list(ids), layout) == draft
    out = infiller.infill(hole, Budget(), PATIENT)
    # Free tokens must still begin with the text that healing took back.
    assert all(infiller.prompt.text(list(one.ids), layout).endswith(layout.append) for one in out.ranked)
    assert all(infiller.prompt.decode(list(one.ids)).startswith(layout.heal) for one in out.ranked)


def test_a_rewrite_that_parses_comes_first(tmp_path: Path) -> None:
    infiller = tiny_infiller(tmp_path)
    hole = replace(HOLE, strength=0.1)
    layout = infiller.prompt.lay_out(hole)
    plain = infiller.infill(hole, Budget(), PATIENT).ranked
    assert len(plain) > 1
    last = infiller.prompt.text(list(plain[-1].ids), layout)
    infiller.judge = lambda _, fill: () if fill == last else ((0, 1),)
    judged = infiller.infill(hole, Budget(), PATIENT).ranked
    assert infiller.prompt.text(list(judged[0].ids), layout) == last
    assert [one.parses for one in judged] == [True] + [False] * (len(plain) - 1)


def test_a_cancelled_or_late_rewrite_gives_no_partial_result(infiller: Infiller) -> None:
    hole = replace(HOLE, strength=1.0)
    late = infiller.infill(hole, Budget(), replace(PATIENT, late=lambda: True))
    assert (late.ranked, late.stopped, late.steps) == ([], "deadline", 1)
    frames = list[Frame]()
    stopping = FillObserver(interrupted=lambda: len(frames) == 5, late=lambda: False, on_frame=frames.append)
    cut = infiller.infill(hole, Budget(), stopping)
    assert (cut.ranked, cut.stopped, cut.steps) == ([], "cancelled", 5)
    short = replace(HOLE, prefix="x = ", draft="total", suffix="\n", strength=1.0)
    assert infiller.infill(short, Budget(), replace(PATIENT, late=lambda: True)).ranked


def test_a_draft_without_a_strength_is_ignored(infiller: Infiller) -> None:
    afresh = replace(HOLE, strength=None)
    none = replace(HOLE, strength=None, draft="")
    ranked = [infiller.infill(hole, Budget(), PATIENT).ranked for hole in (afresh, none)]
    assert [one.ids for one in ranked[0]] == [one.ids for one in ranked[1]]


@pytest.mark.parametrize("strength", [0.0, -1.0, 1.5])
def test_a_strength_outside_of_0_to_1_is_refused(strength: float) -> None:
    with pytest.raises(ValueError, match="at most 1"):
        Hole(prefix="", suffix="", draft="x", strength=strength)


def test_the_autoregressive_twin_refuses_to_renoise(infiller: Infiller) -> None:
    twin = Autoregressive(infiller.backend, infiller.prompt, changed(infiller.settings, kind="fim"))
    with pytest.raises(ValueError, match="leave the strength out"):
        twin.infill(HOLE, Budget(), PATIENT)


@pytest.mark.parametrize(
    ("layout", "actions", "offered"),
    [
        ("filler", None, {"refill", "lightly", "half", "fully", "finish", "placeholder"}),
        ("fim", None, {"refill", "finish", "placeholder"}),
        ("filler", ["docstring"], {"docstring"}),
        ("filler", [], set()),
    ],
)
def test_a_checkpoint_s_layout_or_settings_decide_its_actions(
    tmp_path: Path, layout: str, actions: list[str] | None, offered: set[str]
) -> None:
    rewrite_settings(tiny_checkpoint(tmp_path), kind=layout, actions=actions)
    assert set(read_settings(tmp_path).offered) == offered
    rewrite_settings(tmp_path, actions=["dance"])
    with pytest.raises(CheckpointError, match=r'show\.actions\[0\] is "dance"; give "refill" or '):
        read_settings(tmp_path)
