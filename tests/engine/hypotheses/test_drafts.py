"""Drafts change how soon a greedy search ends, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from midspan.engine.api import Budget, Hole
from midspan.engine.backends.choose import load_causal
from midspan.engine.backends.plain import TorchBackend
from midspan.engine.hypotheses.beam_search import Beam, SearchCache
from midspan.engine.hypotheses.drafts import MOST_TOKENS, DraftCounts, DraftedCache, Drafts, LastFill
from midspan.engine.hypotheses.hypothesis import Gap
from midspan.engine.hypotheses.task import PATIENT, FillObserver
from midspan.engine.left_to_right import LeftToRight
from midspan.engine.llama import LlamaConfig
from midspan.engine.marks_settings import MarksSettings, read_marks_settings
from midspan.engine.prompts.marks import MarksPrompt
from midspan.engine.weights.load import read_config
from midspan.engine.weights.load_llama import read_llama
from tests.engine.llama_tiny import SOURCE, marked_checkpoint, tokenizer
from tests.examples import examples

HOLE = Hole(prefix=SOURCE + "def total_area(items, tax):\n    resu", suffix="\n    for item in items:\n", kind="span")
SIZES = {"hidden_size": 128, "intermediate_size": 160, "num_attention_heads": 4, "head_dim": 32}
NO_ENDS = torch.zeros(100, dtype=torch.bool)
LIMIT = 24


class Model(NamedTuple):
    """What a fill path is made of."""

    folder: Path
    config: LlamaConfig
    prompt: MarksPrompt
    settings: MarksSettings


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A network that the kernels fit, where there are any."""
    folder = tmp_path_factory.mktemp("drafts")
    made = tokenizer()
    made.add_tokens([f"word{number}" for number in range(-made.get_vocab_size() % 64)])
    marked_checkpoint(folder, spread=0.12, vocab_size=made.get_vocab_size(), **SIZES)
    made.save(str(folder / "tokenizer.json"))
    config = LlamaConfig.from_json(read_config(folder))
    settings = read_marks_settings(folder / "midspan.json")
    return Model(folder, config, MarksPrompt.open(folder, settings.layout, config.vocab_size), settings)


@pytest.fixture(scope="module", params=["kernels", "torch"])
def path(request: pytest.FixtureRequest, network: Model) -> LeftToRight:
    """Both ways to compute; where no build of the kernels is for this CPU, twice the same."""
    cpu, weights = torch.device("cpu"), read_llama(network.folder, network.config)
    plain = TorchBackend(weights.network(network.config, torch.float32, cpu))
    backend = load_causal(network.folder, network.config, cpu) if request.param == "kernels" else plain
    return LeftToRight(backend, network.prompt, network.settings)


def searched(path: LeftToRight, cache: SearchCache, hole: Hole) -> Iterator[tuple[list[Beam], list[Beam]]]:
    """All steps of a greedy search."""
    yield from path.fim.gap(path.prompt.lay_out(hole), hole.kind).steps(cache, 1, LIMIT)


def greedy(path: LeftToRight, hole: Hole) -> list[tuple[list[Beam], list[Beam]]]:
    """The steps without drafts."""
    with torch.inference_mode():
        path.prefix.encode(path.prompt.fim_ids(path.prompt.lay_out(hole)))
        with path.fim.beam_cache() as cache:
            return list(searched(path, cache, hole))


@examples(25)
@given(data=st.data())
def test_any_drafts_give_what_the_search_without_them_gives(path: LeftToRight, data: st.DataObject) -> None:
    """Drafts that are right, wrong, or right up to some token, from fills and from the prompt."""
    hole = replace(HOLE, prefix=HOLE.prefix[: data.draw(st.integers(40, len(HOLE.prefix)))])
    plain = greedy(path, hole)
    written = max((beam.ids for beams, _ in plain for beam in beams), key=len, default=())
    token = st.integers(5, path.prompt.vocab_size - 1)
    fills = [
        (*written[: data.draw(st.integers(0, len(written)))], *data.draw(st.lists(token, max_size=9))) for _ in range(2)
    ]
    prompt = path.prompt.fim_ids(path.prompt.lay_out(hole)) if data.draw(st.booleans()) else list(written)
    drafts, counts = Drafts(prompt, fills, path.fim.gap(path.prompt.lay_out(hole), "span").ends), DraftCounts()
    with torch.inference_mode(), DraftedCache(path.backend, path.prefix.memory, drafts, counts) as cache:
        found = list(searched(path, cache, hole))
    assert counts.passes + counts.kept == counts.written
    for (beams, ended), (theirs, their_ended) in zip(found, plain, strict=True):
        for mine, other in zip((*beams, *ended), (*theirs, *their_ended), strict=True):
            assert mine.ids == other.ids
            if isinstance(path.backend, TorchBackend):
                assert mine.log_probability == pytest.approx(other.log_probability, abs=1e-3)
            else:
                assert mine == other
    assert path.prefix.memory.length == len(path.prompt.fim_ids(path.prompt.lay_out(hole)))


def test_what_is_right_is_read_eight_tokens_at_a_time(path: LeftToRight) -> None:
    *_, (beams, _) = plain = greedy(path, HOLE)
    assert beams, "the search is as long as it may be"
    counts = DraftCounts()
    drafts = Drafts([], [beams[0].ids], path.fim.gap(path.prompt.lay_out(HOLE), "span").ends)
    with torch.inference_mode(), DraftedCache(path.backend, path.prefix.memory, drafts, counts) as cache:
        assert len(list(searched(path, cache, HOLE))) == len(plain) == LIMIT
    assert counts == DraftCounts(passes=3, written=24, drafted=21, kept=21)


@pytest.mark.parametrize(
    ("prompt", "fills", "written", "draft"),
    [
        # A fill that begins with what is written, the first of two.
        ((1, 2, 3), [(7, 8, 9), (7, 8, 4)], (7, 8), (9,)),
        ((1, 2, 3), [(6, 8, 9), (7, 8, 4)], (7, 8), (4,)),
        # Nothing is left of a fill that is written.
        ((1, 2, 3), [(7, 8)], (7, 8), ()),
        # What follows the last tokens in the prompt, the last time; more tokens say more than a later place.
        ((1, 2, 3, 4, 1, 2, 5, 6), [], (9, 1, 2), (5, 6)),
        ((0, 1, 2, 3, 4, 1, 2, 5, 6), [], (0, 1, 2), (3, 4, 1, 2, 5, 6)),
        # The last tokens may lie partly in the prompt, and one token alone says nothing.
        ((4, 1, 3, 8, 4), [], (1,), (3, 8, 4)),
        ((4, 1, 3, 8, 5), [], (1,), ()),
        # At most so many.
        (range(50), [], (10, 11), tuple(range(12, 12 + MOST_TOKENS))),
    ],
)
def test_what_is_drafted(
    prompt: list[int], fills: list[tuple[int, ...]], written: tuple[int, ...], draft: object
) -> None:
    assert Drafts(prompt, fills, NO_ENDS).after(written) == draft


def test_a_draft_stops_before_what_ends_the_gap() -> None:
    ends = NO_ENDS.clone()
    ends[9] = True
    assert Drafts([], [(1, 2, 3, 9, 4)], ends).after((1,)) == (2, 3)
    assert Drafts([], [(1, 9, 3)], ends).after((1,)) == ()


@pytest.mark.parametrize(
    ("prefix", "suffix", "rest"),
    [
        ("x = ", ")\n", "total(items"),
        ("x = tot", ")\n", "al(items"),
        ("x = total(items", ")\n", ""),
        ("x = total(items)", ")\n", ""),
        ("x = sum", ")\n", ""),
        ("x = tot", "\n", ""),
        ("y = tot", ")\n", ""),
        ("x ", ")\n", ""),
    ],
)
def test_what_is_left_of_the_last_fill(prefix: str, suffix: str, rest: str) -> None:
    last = LastFill(hole=Hole(prefix="x = ", suffix=")\n"), text="total(items")
    assert last.rest(Hole(prefix=prefix, suffix=suffix)) == rest


def test_a_fill_that_ends_within_a_pass_is_cancelled_and_changes_nothing(
    path: LeftToRight, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the prompt and in the gap: at any question, the next fill is that of a fresh start."""
    monkeypatch.setattr("midspan.engine.backends.cpu_decoder.PRODUCTS", 1)
    path.reset()
    whole = path.infill(HOLE, Budget(), PATIENT)
    for last in (2, 5, 40, 60):
        asked = list[int]()
        path.reset()

        def interrupted(asked: list[int] = asked, last: int = last) -> bool:
            asked.append(1)
            return len(asked) >= last

        cut = path.infill(HOLE, Budget(), FillObserver(interrupted=interrupted, late=lambda: False))
        again = path.infill(HOLE, Budget(), PATIENT)
        assert [one.ids for one in again.ranked] == [one.ids for one in whole.ranked]
        assert cut.stopped == ("cancelled" if len(asked) >= last else whole.stopped)
        assert path.prefix.memory.length == len(path.prompt.fim_ids(again.layout))


def test_what_the_last_fill_left_to_type_and_similar_lines_are_drafts(
    path: LeftToRight, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = list[list[str]]()

    class Seen(Drafts):
        def __init__(self, prompt: Sequence[int], fills: Iterable[Gap], ends: torch.Tensor) -> None:
            given.append([path.prompt.decode(list(fill)) for fill in fills])
            super().__init__(prompt, fills, ends)

    monkeypatch.setattr("midspan.engine.left_to_right.Drafts", Seen)
    hole = Hole(prefix="area = width * height\nvolume = 3\narea = ", suffix="\n")
    path.last, frames = None, list[object]()
    # Cut short, the search leaves what it wrote.
    hasty = FillObserver(interrupted=lambda: len(frames) > 0, late=lambda: False, on_frame=frames.append)
    assert path.infill(hole, Budget(), hasty).stopped == "cancelled"
    assert path.last is not None
    wrote = path.last.text
    assert wrote
    path.last = replace(path.last, text=wrote + "more")
    path.infill(replace(hole, prefix=hole.prefix + wrote), Budget(), PATIENT)
    heal = given[0][0].removesuffix("width * height")
    assert given[0] == [heal + "width * height", heal + "3"]
    assert "area = ".endswith(heal)
    assert given[1][0].endswith("more")
    assert f"area = {wrote}more".endswith(given[1][0])
    path.reset()
    assert path.last is None
