"""Calibrations of well-known models: how a model is recognised, and what its own settings leave to them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import midspan.engine
from midspan.engine import load_causal
from midspan.engine.marks_settings import UNFITTED, Logistic, MarksSettings, Shown
from midspan.engine.prompts import calibrations
from midspan.engine.prompts.calibrations import Fitted, fitted_for, vocabulary_digest, with_fitted
from tests.engine.llama_tiny import tokenizer, write_checkpoint

LAYERS, WIDTH = 4, 32
CPU = torch.device("cpu")


def entry(vocabulary: str) -> Fitted:
    return Fitted(
        vocabulary=vocabulary,
        layers=LAYERS,
        width=WIDTH,
        fitted_to="tiny.gguf",
        calibration=Logistic(bias=-1.5, probability=7.0, length=-0.25, line=-1.0, error=-2.0),
        show_threshold=0.625,
    )


def test_those_that_are_shipped_can_be_read_and_are_told_apart() -> None:
    table = calibrations.calibrations()
    assert len({(one.vocabulary, one.layers, one.width) for one in table.values()}) == len(table) > 0
    for one in table.values():
        assert one.calibration.share(-0.01, 4) > 0.5 > one.calibration.share(-20.0, 4)
        assert one.calibration.share(-0.1, 4, error=True) < one.calibration.share(-0.1, 4)


VOCABULARIES = st.lists(st.text(), unique=True).map(lambda tokens: {token: i for i, token in enumerate(tokens)})


@given(vocabulary=VOCABULARIES, first=st.integers(0, 4), second=st.integers(0, 4))
def test_a_digest_tells_tokens_and_their_ids_apart(vocabulary: dict[str, int], first: int, second: int) -> None:
    digest = vocabulary_digest(vocabulary)
    assert vocabulary_digest(dict(reversed(vocabulary.items()))) == digest
    tokens = list(vocabulary)
    if max(first, second) < len(tokens) and first != second:
        changed = vocabulary | {tokens[first]: second, tokens[second]: first}
        assert vocabulary_digest(changed) != digest


def test_what_only_fills_a_gguf_files_vocabulary_up_does_not_count() -> None:
    assert vocabulary_digest({"a": 0, "b": 1, "[PAD2]": 2, "[PAD3]": 3}) == vocabulary_digest({"a": 0, "b": 1})
    assert vocabulary_digest({"a": 0, "b": 1, "[PAD]": 2}) != vocabulary_digest({"a": 0, "b": 1})


def test_a_model_is_known_by_its_vocabulary_and_its_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    vocabulary = {"a": 0, "b": 1}
    known = entry(vocabulary_digest(vocabulary))
    monkeypatch.setattr(calibrations, "calibrations", lambda: {"tiny": known})
    assert fitted_for(lambda: vocabulary, LAYERS, WIDTH) == known
    assert fitted_for(lambda: {"a": 1, "b": 0}, LAYERS, WIDTH) is None
    # A vocabulary of 150,000 tokens takes a while, so that it is not made for sizes that are unknown.
    assert fitted_for(lambda: pytest.fail("made"), LAYERS + 1, WIDTH) is None
    assert fitted_for(lambda: pytest.fail("made"), LAYERS, WIDTH + 1) is None


def test_the_checkpoints_own_settings_come_first() -> None:
    fitted, own = entry("0" * 64), Logistic(bias=9.0)
    plain = MarksSettings()
    assert (plain.show_threshold, plain.calibration) == (UNFITTED, Logistic())
    assert with_fitted(plain, None) == plain
    assert with_fitted(plain, fitted).show_threshold == 0.625
    assert with_fitted(plain, fitted).calibration == fitted.calibration
    stricter = with_fitted(MarksSettings(show=Shown(show_threshold=0.9)), fitted)
    assert (stricter.show_threshold, stricter.calibration) == (0.9, fitted.calibration)
    settings = MarksSettings(show=Shown(calibration=own))
    assert with_fitted(settings, fitted) == settings


@pytest.mark.parametrize("settings", [None, {"show": {"show_threshold": 0.75}}])
def test_a_known_model_is_calibrated_when_it_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, object] | None
) -> None:
    folder = write_checkpoint(tmp_path / "tiny")
    marks = {"layout": {"template": "smollm2-continued"}}
    (folder / "midspan.json").write_text(json.dumps(marks | (settings or {})))
    assert not about(folder).calibrated
    known = entry(vocabulary_digest(tokenizer().get_vocab(with_added_tokens=True)))
    monkeypatch.setattr(calibrations, "calibrations", lambda: {"tiny": known})
    found = about(folder)
    assert (found.calibrated, found.show_threshold) == (True, 0.75 if settings else 0.625)
    path = load_causal.load_left_to_right(folder, json.loads((folder / "config.json").read_text()), CPU)
    assert path.settings.calibration == known.calibration


def about(folder: Path) -> midspan.engine.api.About:
    """What the loaded folder says of itself."""
    engine = midspan.engine.load(str(folder), "cpu")
    engine.close()
    return engine.about
