"""The autoregressive twin: scores as in a plain causal pass, only allowed ids, and stopping on request."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from midspan.engine.api import Budget, Frame, GapKind, Hole
from midspan.engine.autoregressive import Autoregressive
from midspan.engine.backends.plain import TorchCanvasBackend
from midspan.engine.engine import Engine
from midspan.engine.hypotheses.beam_search import BeamCache
from midspan.engine.hypotheses.task import FillObserver
from midspan.engine.model import DiffusionGemma
from midspan.engine.prefix_cache import PrefixCache
from midspan.engine.prompts.prompt import BOS_ID, EOS_ID, SUFFIX_TOKENS, Prompt
from tests.engine.tiny import SOURCE, config_json, random_model, tiny_infiller
from tests.engine.tiny import settings as tiny_settings
from tests.examples import examples

HOLE = Hole(prefix=SOURCE + "\n\ndef add(a, b):\n    retu", suffix="\n\n\nprint(add(1, 2))\n")
PATIENT = FillObserver(interrupted=lambda: False, late=lambda: False)
ONE_LINE: tuple[GapKind, ...] = ("rest_of_line", "line", "string", "comment")


def twin_of(folder: Path, *, slots: tuple[int, ...] = (8,), draws: int = 4) -> Autoregressive:
    infiller = tiny_infiller(folder)
    return Autoregressive(infiller.backend, infiller.prompt, tiny_settings(kind="fim", slots=slots, draws=draws))


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Autoregressive:
    return twin_of(tmp_path_factory.mktemp("twin"))


class Eager(DiffusionGemma):
    """A network that finds some ids much likelier than all others."""

    favoured: tuple[int, ...] = ()

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        out = super().logits(hidden)
        out[..., list(self.favoured)] += 60.0
        return out


def eager_twin(folder: Path, favoured: tuple[int, ...]) -> Autoregressive:
    twin = twin_of(folder)
    assert isinstance(twin.backend, TorchCanvasBackend)
    model = Eager(twin.backend.model.config)
    model.load_state_dict(twin.backend.model.state_dict())
    model.favoured = favoured
    return Autoregressive(TorchCanvasBackend(model.eval()), twin.prompt, twin.settings)


def plain(twin: Autoregressive, ids: list[int]) -> torch.Tensor:
    """Logits [N, V] of one uncached pass."""
    with torch.no_grad():
        return twin.backend.logits(twin.backend.prefill(torch.tensor([ids]), twin.backend.new_cache()))[0]


@examples(25)
@given(st.integers(1, 90), st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=4), min_size=1, max_size=5))
def test_every_branch_has_the_hidden_rows_of_its_text_alone(prefix: int, levels: list[list[int]]) -> None:
    model = TorchCanvasBackend(random_model(config_json(64)))
    ids = [(7 * i) % 60 + 4 for i in range(prefix)]
    cache = PrefixCache(model)
    cache.encode(ids)
    texts = [ids]
    with torch.inference_mode(), BeamCache(model, cache.memory) as beams:
        for depth, level in enumerate(levels):
            parents = [parent % len(texts) for parent in level]
            tokens = [(5 * depth + 11 * row) % 60 + 4 for row in range(len(level))]
            texts = [[*texts[parent], token] for parent, token in zip(parents, tokens, strict=True)]
            hidden = beams.grow(parents, tokens)
            for row, text in enumerate(texts):
                alone = model.prefill(torch.tensor([text]), model.new_cache())[0, -1]
                torch.testing.assert_close(hidden[row], alone, atol=1e-4, rtol=1e-4)
    assert cache.memory.length == len(ids)


def test_a_single_beam_takes_the_likeliest_token_of_a_plain_pass_in_every_step(tmp_path: Path) -> None:
    twin = twin_of(tmp_path, slots=(12,), draws=1)
    layout = twin.prompt.lay_out(HOLE)
    rules = twin.fim.rules(layout, "span")
    twin.fim.prefix.encode(twin.prompt.fim_ids(layout))
    with torch.inference_mode(), twin.fim.beam_cache() as cache:
        steps = [beams[0].ids for beams, _ in twin.fim.gap(layout, "span").steps(cache, 1, 11)]
    expected = list[int]()
    for _ in range(11):
        logits = plain(twin, [*twin.prompt.fim_ids(layout), *expected])[-1]
        logits[~(rules.inner if expected else rules.first)] = -torch.inf
        expected.append(int(logits.argmax()))
    assert [list(ids) for ids in steps] == [expected[:length] for length in range(1, 12)]


@pytest.mark.parametrize("kind", ["line", "span"])
def test_log_probabilities_are_those_of_a_plain_pass_and_the_best_is_first(twin: Autoregressive, kind: GapKind) -> None:
    hole = Hole(prefix=HOLE.prefix, suffix=HOLE.suffix, kind=kind)
    out = twin.infill(hole, Budget(candidates=4), PATIENT)
    rules, begin = twin.fim.rules(out.layout, kind), twin.prompt.fim_ids(out.layout)
    for scored in out.ranked:
        logits = plain(twin, [*begin, *scored.ids])[len(begin) - 1 :]
        logits[0, ~rules.first] = -torch.inf
        logits[1:, ~(rules.inner | rules.stops)] = -torch.inf
        read = logits.log_softmax(dim=-1)
        values = [float(read[row, token]) for row, token in enumerate(scored.ids)]
        end = float(read[-1, rules.stops].logsumexp(dim=-1))
        assert scored.log_probability == pytest.approx(sum(values) + end, abs=1e-3)
        mean, least, total, *suffix = scored.features[:5]
        assert (mean, least, total) == pytest.approx((sum(values) / len(values), min(values), sum(values)), abs=1e-3)
        assert suffix == pytest.approx([end, end], abs=1e-3)
    order = [one.log_probability for one in out.ranked]
    assert order == sorted(order, reverse=True)
    assert len({one.ids for one in out.ranked}) == len(out.ranked) == 4


@pytest.mark.parametrize("wanted", [1, 4])
def test_stopping_early_loses_none_of_the_best(twin: Autoregressive, wanted: int) -> None:
    out = twin.infill(HOLE, Budget(candidates=wanted), PATIENT)
    twin.fim.prefix.encode(twin.prompt.fim_ids(out.layout))
    with torch.inference_mode(), twin.fim.beam_cache() as cache:
        *_, (_, ended) = twin.fim.gap(out.layout, HOLE.kind).steps(cache, 4, 8)
    assert [beam.ids for beam in ended[:wanted]] == [one.ids for one in out.ranked[:wanted]]
    if wanted == 1:
        assert out.steps < 8
        assert out.stopped == "settled"


def test_the_prompt_is_suffix_then_prefix(twin: Autoregressive) -> None:
    layout = twin.prompt.lay_out(Hole(prefix=HOLE.prefix, suffix=SOURCE))
    assert len(layout.suffix) > SUFFIX_TOKENS
    ids = twin.prompt.fim_ids(layout)
    parts = ids.index(twin.prompt.filler_id)
    assert (ids[0], ids[1:parts], ids[parts + 1 :]) == (BOS_ID, layout.suffix[:SUFFIX_TOKENS], layout.prefix[1:])


def test_the_fill_continues_the_word_at_the_cursor(twin: Autoregressive) -> None:
    out = twin.infill(HOLE, Budget(candidates=8), PATIENT)
    assert out.layout.heal
    assert len(out.ranked) == 8
    for scored in out.ranked:
        assert twin.prompt.decode(list(scored.ids)).startswith(out.layout.heal)


@pytest.mark.parametrize("prefix", [HOLE.prefix, ""])
def test_a_special_id_is_never_written(tmp_path: Path, prefix: str) -> None:
    twin = twin_of(tmp_path)
    specials = tuple(token for token in twin.prompt.special_ids if token != EOS_ID)
    assert len(specials) == 3
    eager = eager_twin(tmp_path, specials)
    out = eager.infill(Hole(prefix=prefix, suffix="\n", kind="span"), Budget(candidates=8), PATIENT)
    assert out.ranked
    assert not [one.ids for one in out.ranked if {*specials} & {*one.ids}]


def test_a_line_end_ends_a_single_line_and_is_part_of_a_span(tmp_path: Path) -> None:
    twin = twin_of(tmp_path)
    line_ends = tuple(token for token in range(twin.prompt.vocab_size) if "\n" in twin.prompt.cell_text(token))
    eager = eager_twin(tmp_path, line_ends)
    fills = {}
    for kind in (*ONE_LINE, *Prompt.many_lines):
        out = eager.infill(Hole(prefix=HOLE.prefix, suffix=HOLE.suffix, kind=kind), Budget(candidates=4), PATIENT)
        fills[kind] = [eager.prompt.text(list(one.ids), out.layout) for one in out.ranked]
    assert all(fills.values())
    assert not [text for kind in ONE_LINE for text in fills[kind] if "\n" in text]
    assert all(any("\n" in text for text in fills[kind]) for kind in Prompt.many_lines)


@pytest.mark.parametrize("prefix", [HOLE.prefix, SOURCE, SOURCE + "\n\nvalue = ", SOURCE + "\n\ndef f():\n    ", ""])
def test_the_healed_line_end_is_not_followed_by_another(twin: Autoregressive, prefix: str) -> None:
    for kind in ONE_LINE:
        out = twin.infill(Hole(prefix=prefix, suffix="\nx = 1\n", kind=kind), Budget(candidates=8), PATIENT)
        texts = [twin.prompt.text(list(one.ids), out.layout).removesuffix(out.layout.append) for one in out.ranked]
        assert texts
        assert not [text for text in texts if "\n" in text]


def test_a_keystroke_encodes_only_the_tail_and_changes_no_answer(twin: Autoregressive) -> None:
    twin.infill(HOLE, Budget(), PATIENT)
    before = twin.prefix.encoded_tokens
    typed = Hole(prefix=HOLE.prefix + "rn a", suffix=HOLE.suffix)
    kept = twin.infill(typed, Budget(candidates=4), PATIENT)
    assert twin.prefix.encoded_tokens - before <= 4
    # The cache holds the prompt and nothing of the hypotheses.
    assert twin.prefix.memory.length == len(twin.prompt.fim_ids(kept.layout))
    twin.reset()
    fresh = twin.infill(typed, Budget(candidates=4), PATIENT)
    assert [one.ids for one in kept.ranked] == [one.ids for one in fresh.ranked]


@pytest.mark.parametrize("at", [1, 2])
def test_stopping_between_tokens_leaves_the_twin_ready(twin: Autoregressive, at: int) -> None:
    whole = twin.infill(HOLE, Budget(candidates=4), PATIENT)
    frames = list[Frame]()
    hasty = FillObserver(interrupted=lambda: len(frames) >= at, late=lambda: False, on_frame=frames.append)
    cut = twin.infill(HOLE, Budget(candidates=4), hasty)
    assert (cut.stopped, cut.ranked, cut.steps, len(frames)) == ("cancelled", [], at, at)
    again = twin.infill(HOLE, Budget(candidates=4), PATIENT)
    assert [one.ids for one in again.ranked] == [one.ids for one in whole.ranked]


def test_a_request_that_is_already_cancelled_encodes_nothing(twin: Autoregressive) -> None:
    before = twin.prefix.encoded_tokens
    out = twin.infill(
        Hole(prefix="y = ", suffix=""), Budget(), FillObserver(interrupted=lambda: True, late=lambda: False)
    )
    assert (out.stopped, out.ranked, twin.prefix.encoded_tokens) == ("cancelled", [], before)


def test_a_deadline_returns_the_best_so_far_and_frames_count_tokens(twin: Autoregressive) -> None:
    frames = list[Frame]()
    late = FillObserver(interrupted=lambda: False, late=lambda: len(frames) == 2, on_frame=frames.append)
    out = twin.infill(HOLE, Budget(candidates=4), late)
    assert (out.stopped, out.steps, [frame.step for frame in frames]) == ("deadline", 2, [1, 2])
    assert [len(frame.cells) for frame in frames] == [1, 2]
    assert out.ranked


def test_the_engine_fills_with_the_twin_as_with_any_network(twin: Autoregressive) -> None:
    engine = Engine(twin, name="tiny twin", load_ms=0.0)
    try:
        fill = engine.fill(HOLE, Budget(candidates=3)).result(60)
        assert len(fill.candidates) == 3
        assert all(0.0 <= candidate.confidence <= 1.0 for candidate in fill.candidates)
        assert engine.about.layout == "fim"
    finally:
        engine.close()
