"""Fills of a causal checkpoint (llama family): loading, confidence, stopping on request, and the end of a line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import AddedToken

import midspan.engine
from midspan.engine.api import Budget, Frame, Hole
from midspan.engine.backends.plain import TorchBackend
from midspan.engine.hypotheses.task import PATIENT, FillObserver
from midspan.engine.left_to_right import LeftToRight
from midspan.engine.llama import Llama, LlamaConfig
from midspan.engine.marks_settings import Logistic, MarksSettings, Shown, Writing, read_marks_settings
from midspan.engine.prompts.marks import MarksPrompt
from midspan.engine.weights.load import read_config
from midspan.engine.weights.load_llama import read_llama
from tests.engine.llama_tiny import SOURCE, marked_checkpoint, tokenizer

HOLE = Hole(prefix=SOURCE + "def total_area(items, tax):\n    resu", suffix="\n    for item in items:\n")
WAIT_S = 60.0


class Eager(Llama):
    """A network that finds some ids much likelier than all others."""

    favoured: tuple[int, ...] = ()

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        out = super().logits(hidden)
        out[..., list(self.favoured)] += 60.0
        return out


def path_of(folder: Path, favoured: tuple[str, ...] = (), **groups: Any) -> LeftToRight:
    """The folder's fill path in float32, with other groups of settings and favoured tokens of these texts."""
    config, settings = LlamaConfig.from_json(read_config(folder)), read_marks_settings(folder / "midspan.json")
    settings = replace(settings, **groups)
    network = read_llama(folder, config).network(config, torch.float32, torch.device("cpu"))
    prompt = MarksPrompt.open(folder, settings.layout, config.vocab_size)
    eager = Eager(config)
    eager.load_state_dict(network.state_dict())
    eager.favoured = tuple(token for token in range(prompt.vocab_size) if prompt.cell_text(token) in favoured)
    return LeftToRight(TorchBackend(eager.eval()), prompt, settings)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return marked_checkpoint(tmp_path_factory.mktemp("marked"))


@pytest.fixture
def path(folder: Path) -> LeftToRight:
    return path_of(folder)


def texts(path: LeftToRight, hole: Hole, candidates: int = 4) -> list[str]:
    out = path.infill(hole, Budget(candidates=candidates), PATIENT)
    return [path.prompt.text(list(one.ids), out.layout) for one in out.ranked]


def test_a_folder_loads_and_fills_like_a_diffusion_checkpoint(folder: Path) -> None:
    engine = midspan.engine.load(str(folder), "cpu")
    try:
        about, fill = engine.about, engine.fill(HOLE, Budget(candidates=3)).result(WAIT_S)
        again = engine.fill(HOLE, Budget(candidates=3)).result(WAIT_S)
    finally:
        engine.close()
    assert (about.layout, about.languages, about.show_threshold) == ("marks", ("python", "go"), 0.4)
    assert (about.actions, about.calibrated) == (("refill", "finish", "placeholder"), False)
    assert dict(about.kernels)["network"].startswith("torch, as ")
    assert len(fill.candidates) == 3
    assert fill.candidates == again.candidates
    assert all(0 < one.confidence < 1 and "\n" not in one.text for one in fill.candidates)


def test_a_folder_whose_tokenizer_is_recognised_needs_no_settings(tmp_path: Path) -> None:
    marked_checkpoint(tmp_path)
    (tmp_path / "midspan.json").unlink()
    made = tokenizer(["<fim_prefix>", "<fim_suffix>", "<fim_middle>", "<|endoftext|>", "<fim_pad>"])
    assert made.get_vocab_size() == tokenizer().get_vocab_size()
    made.save(str(tmp_path / "tokenizer.json"))
    engine = midspan.engine.load(str(tmp_path), "cpu")
    try:
        assert {"python", "rust", "lua"} < set(engine.about.languages)
        assert engine.fill(HOLE, Budget()).result(WAIT_S).text
    finally:
        engine.close()


def test_typing_on_in_a_line_encodes_only_the_end_of_the_prompt(path: LeftToRight) -> None:
    path.infill(HOLE, Budget(), PATIENT)
    before = path.prefix.encoded_tokens
    typed = replace(HOLE, prefix=HOLE.prefix + "lt = it")
    kept = path.infill(typed, Budget(candidates=4), PATIENT)
    assert path.prefix.encoded_tokens - before <= 6
    # The cache holds the prompt and nothing of the hypotheses.
    assert path.prefix.memory.length == len(kept.layout.prefix)
    path.reset()
    fresh = path.infill(typed, Budget(candidates=4), PATIENT)
    assert [one.ids for one in kept.ranked] == [one.ids for one in fresh.ranked]


def test_a_token_with_a_line_end_is_cut_at_the_line_end(tmp_path: Path) -> None:
    made = tokenizer()
    made.add_tokens([AddedToken("):\n", normalized=False), AddedToken(" \n", normalized=False)])
    marked_checkpoint(tmp_path, vocab_size=made.get_vocab_size())
    made.save(str(tmp_path / "tokenizer.json"))
    path = path_of(tmp_path, ("):\n",))
    hole = Hole(prefix="def f(", suffix="\n    return 1\n")
    found = texts(path, hole)
    # The healed bracket comes first; text behind the line end is no part of the line.
    assert found[0].endswith("):")
    assert not [text for text in found if "\n" in text]
    assert any("):\n" in text for text in texts(path, replace(hole, kind="span")))


def test_special_tokens_end_a_gap_and_are_not_in_its_text(folder: Path) -> None:
    path = path_of(folder)
    specials = path.prompt.special_ids
    network = path.backend
    assert isinstance(network, TorchBackend)
    eager = network._causal_model
    assert isinstance(eager, Eager)
    eager.favoured = specials
    out = path.infill(replace(HOLE, kind="span"), Budget(candidates=4), PATIENT)
    assert len(specials) == 5
    assert out.ranked
    assert not [one for one in out.ranked if {*one.ids} & {*specials}]
    # At least one token is written before the end.
    assert len(out.ranked[0].ids) == 1


def test_one_fill_takes_one_beam_and_several_take_more(folder: Path) -> None:
    path = path_of(folder, hypotheses=Writing(beams=3, beams_alone=1))
    alone, several = (path.infill(HOLE, Budget(candidates=count), PATIENT) for count in (1, 2))
    first = alone.ranked[0].ids
    assert all(one.ids == first[: len(one.ids)] or first == one.ids[: len(first)] for one in alone.ranked)
    assert len({one.ids[0] for one in several.ranked}) > 1


def test_a_hopeless_fill_ends_early_if_only_a_sure_one_is_wanted(folder: Path) -> None:
    path = path_of(folder)
    whole = path.infill(HOLE, Budget(), PATIENT)
    assert path.confidence(whole.ranked[0], whole.layout) < 0.4
    short = path.infill(HOLE, Budget(min_confidence=0.4), PATIENT)
    assert (short.stopped, short.ranked) == ("empty", [])
    assert short.steps <= whole.steps
    sure = path_of(folder, show=Shown(show_threshold=0.4, calibration=Logistic(bias=40.0)))
    found = sure.infill(HOLE, Budget(min_confidence=0.4), PATIENT)
    assert found.ranked[0].ids == whole.ranked[0].ids
    assert sure.confidence(found.ranked[0], found.layout) > 0.9


def test_how_sure_a_beam_can_still_become_goes_by_the_kind_of_its_gap(folder: Path) -> None:
    """So sure that an end of a line is always wanted, and so unsure of whole lines that none ever is."""
    path = path_of(folder, show=Shown(show_threshold=0.4, calibration=Logistic(bias=10.0, line=-40.0)))
    line = Hole(prefix=SOURCE + "    ", suffix="\n", kind="line")
    found = [path.infill(hole, Budget(min_confidence=0.4), PATIENT).stopped for hole in (HOLE, line)]
    assert (found[0] != "empty", found[1]) == (True, "empty")


def test_a_similar_line_is_ranked_with_its_evidence(folder: Path) -> None:
    hole = Hole(prefix=SOURCE + "def total_area(items, tax):\n    resu", suffix="\n    for item in items:\n")
    without = texts(path_of(folder), hole, 1)
    assert "lt = 0" not in without
    found = texts(path_of(folder, hypotheses=Writing(similar_lines=2, evidence=100.0)), hole, 1)
    assert found[0] == "lt = 0"


def test_a_fill_that_breaks_the_syntax_comes_last_and_is_less_sure(path: LeftToRight) -> None:
    out = path.infill(HOLE, Budget(candidates=3), PATIENT)
    best = path.prompt.text(list(out.ranked[0].ids), out.layout)
    path.judge = lambda hole, text: ((0, len(text)),) if text == best else ()
    checked = path.infill(HOLE, Budget(candidates=3), PATIENT)
    assert checked.ranked[0].ids == out.ranked[1].ids
    wrong = next(one for one in checked.ranked if one.ids == out.ranked[0].ids)
    assert not wrong.parses
    assert path.confidence(wrong, out.layout) < path.confidence(out.ranked[0], out.layout)


@pytest.mark.parametrize("at", [1, 2])
def test_stopping_between_tokens_leaves_the_next_fill_unchanged(path: LeftToRight, at: int) -> None:
    whole, frames = path.infill(HOLE, Budget(candidates=4), PATIENT), list[Frame]()
    hasty = FillObserver(interrupted=lambda: len(frames) >= at, late=lambda: False, on_frame=frames.append)
    cut = path.infill(HOLE, Budget(candidates=4), hasty)
    assert (cut.stopped, cut.ranked, len(frames)) == ("cancelled", [], at)
    again = path.infill(HOLE, Budget(candidates=4), PATIENT)
    assert [one.ids for one in again.ranked] == [one.ids for one in whole.ranked]


def test_stopping_between_chunks_of_a_prompt_keeps_the_encoded_ones(folder: Path) -> None:
    path, asked = path_of(folder), list[int]()

    def interrupted() -> bool:
        asked.append(1)
        return len(asked) > 2

    out = path.infill(HOLE, Budget(), FillObserver(interrupted=interrupted, late=lambda: False))
    assert (out.stopped, out.ranked) == ("cancelled", [])
    assert 0 < path.prefix.memory.length < len(out.layout.prefix)
    whole = path.infill(HOLE, Budget(), PATIENT)
    fresh = path_of(folder).infill(HOLE, Budget(), PATIENT)
    assert [one.ids for one in whole.ranked] == [one.ids for one in fresh.ranked]


def test_a_deadline_returns_the_best_so_far(path: LeftToRight) -> None:
    frames = list[Frame]()
    late = FillObserver(interrupted=lambda: False, late=lambda: len(frames) == 2, on_frame=frames.append)
    out = path.infill(replace(HOLE, kind="span"), Budget(candidates=4), late)
    assert (out.stopped, [frame.step for frame in frames]) == ("deadline", [1, 2])
    assert out.ranked


def test_renoising_a_draft_is_refused(path: LeftToRight) -> None:
    with pytest.raises(ValueError, match="leave the strength out"):
        path.infill(replace(HOLE, draft="x", strength=0.5), Budget(), PATIENT)


@pytest.mark.parametrize("log_probability", [-0.01, -0.5, -2.0, -9.0])
@pytest.mark.parametrize("line", [False, True])
def test_reach_is_the_best_confidence_over_all_lengths(log_probability: float, line: bool) -> None:
    for prior in (Logistic(), Logistic(length=-1.0), Logistic(length=0.2), Logistic(probability=0.0)):
        best = max(prior.share(log_probability, length, line=line) for length in range(3, 49))
        assert prior.reach(log_probability, 3, 48, line=line) == pytest.approx(best)


def test_a_whole_line_is_less_sure_than_the_end_of_one(path: LeftToRight) -> None:
    begun, blank = Hole(prefix=SOURCE + "    x", suffix="\n"), Hole(prefix=SOURCE + "    ", suffix="\n", kind="line")
    first, second = (path.prompt.lay_out(hole) for hole in (begun, blank))
    assert (first.whole_line, second.whole_line) == (False, True)
    found = path.infill(begun, Budget(), PATIENT).ranked[0]
    assert path.confidence(found, second) < path.confidence(found, first)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"layout": {"kind": "filler"}}, 'layout.kind is "filler"; give "marks"'),
        ({"layout": {"line_tokens": 0}}, "layout.line_tokens is 0; give a whole number from 1 to 32768"),
        ({"layout": {"marks": {"prefix": "<p>"}}}, "layout.marks.suffix is missing; give a token of at most 40"),
        ({"show": {"calibration": {"luck": 1}}}, "show.calibration.luck is an unknown key"),
        ({"denoise": {"steps": 2}}, "denoise is an unknown key; known here: layout, hypotheses, show"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(folder: Path, tmp_path: Path, values: Any, said: str) -> None:
    (tmp_path / "midspan.json").write_text(json.dumps(values))
    with pytest.raises(midspan.engine.CheckpointError, match=said) as refused:
        read_marks_settings(tmp_path / "midspan.json")
    assert "\n" not in str(refused.value)
    assert read_marks_settings(folder / "nowhere") == MarksSettings()
