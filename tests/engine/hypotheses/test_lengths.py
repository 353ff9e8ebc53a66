"""Gap lengths scored in one batch: the parts of a score, and the bias that is fitted and subtracted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from midspan.engine.api import Budget
from midspan.engine.backends.plain import TorchCanvasBackend
from midspan.engine.canvas import Rng
from midspan.engine.engine import load_infiller
from midspan.engine.hypotheses.canvas_layouts import CanvasLayout
from midspan.engine.hypotheses.lengths import (
    KEPT_HEAD,
    canvas_width,
    fitting,
    likely_lengths,
    near_lengths,
    read_lengths,
)
from midspan.engine.hypotheses.task import FillObserver
from midspan.engine.infill import Infiller
from midspan.engine.training.length_bias import main as fit_command
from midspan.engine.weights.midspan_json import read_settings
from tests.engine.chatting import chat_checkpoint
from tests.engine.prompts.test_chat import HOLE
from tests.engine.tiny import SOURCE, changed, settings

ROOT = Path(__file__).parents[3]
PATIENT = FillObserver(interrupted=lambda: False, late=lambda: False)


@pytest.fixture(scope="module")
def infiller(tmp_path_factory: pytest.TempPathFactory) -> Infiller:
    folder = chat_checkpoint(tmp_path_factory.mktemp("clamped"), kind="clamped", slots=[1, 2, 5], block_slots=[5, 9])
    made = load_infiller(str(folder), "cpu")
    assert isinstance(made, Infiller)
    assert isinstance(made.backend, TorchCanvasBackend)
    made.backend.model.float()
    made.reset()
    return made


@pytest.mark.parametrize(
    ("lengths", "reach", "expected"),
    [
        ({3}, 0, (3,)),
        ({3, 7}, 1, (2, 3, 4, 8)),
        ({1}, 2, (1, 2, 3)),
        ({30}, 2, (1, 2, 3, 4, 8, 16)),
        (set(), 2, (1, 2, 3, 4, 8, 16)),
        ({3}, None, (1, 2, 3, 4, 8, 16)),
    ],
)
def test_lengths_around_those_of_beams_are_tried(
    lengths: set[int], reach: int | None, expected: tuple[int, ...]
) -> None:
    assert near_lengths((1, 2, 3, 4, 8, 16), lengths, reach) == expected


def test_a_length_s_score_is_of_the_gap_s_likeliest_tokens_and_of_the_suffix(infiller: Infiller) -> None:
    """Against the same scores computed by hand, one canvas at a time, with the same noise."""
    model, prompt, layout = infiller.backend, infiller.prompt, infiller.prompt.lay_out(HOLE)
    assert isinstance(model, TorchCanvasBackend)
    infiller.prefix.encode(layout.prefix)
    memory, slots, width, each = infiller.prefix.memory, (1, 2, 5), 30, 2
    laid = CanvasLayout(prompt=prompt, layout=layout, width=width, device=model.device)
    read = read_lengths(model, memory, laid.lay_canvases(slots, each), Rng(7))
    noise = Rng(7).noise((6, width), model.vocab_size)
    for number, size in enumerate(slots):
        gaps, heads = [], []
        for row in noise[2 * number : 2 * number + 2]:
            ids = torch.tensor([*row[:size].tolist(), *layout.suffix[: width - size]])
            with torch.inference_mode():
                logits = model.logits(model.denoise(ids[None], memory)[0])
            legal = logits.clone()
            legal[:, list(prompt.banned)] = -torch.inf
            allowed = prompt.allowed_first(layout.heal)
            assert allowed is not None
            legal[0, ~allowed] = -torch.inf
            gaps.append(legal[:size].log_softmax(dim=-1).amax(dim=-1).mean())
            kept = logits[size : size + KEPT_HEAD].log_softmax(dim=-1)
            heads.append(kept.gather(-1, ids[size : size + KEPT_HEAD, None]).mean())
        assert read[size][0] == pytest.approx(float(sum(gaps)) / each, abs=1e-4)
        assert read[size][1] == pytest.approx(float(sum(heads)) / each, abs=1e-4)


def test_the_bias_is_subtracted_and_the_suffix_counts() -> None:
    plain = settings(slots=(1, 2, 4), block_slots=(4, 8))
    scores = {1: (-1.0, -2.0), 2: (-2.0, -2.0), 4: (-3.0, -2.0)}
    biased = changed(plain, length_bias=(3.0, 0.0, -2.0, 9.0, 0.0))
    assert likely_lengths(scores, plain, 1, many_lines=False) == (1,)
    assert likely_lengths(scores, plain, 2, many_lines=False) == (1, 2)
    assert likely_lengths(scores, biased, 1, many_lines=False) == (4,)
    assert likely_lengths({**scores, 2: (-2.0, 0.0)}, plain, 1, many_lines=False) == (2,)
    # A length has one bias among `slots` and another among `block_slots`.
    blocks = {4: (-1.0, -2.0), 8: (-2.0, -2.0)}
    assert likely_lengths(blocks, plain, 1, many_lines=True) == (4,)
    assert likely_lengths(blocks, biased, 1, many_lines=True) == (8,)


def test_the_width_of_canvases_depends_on_the_layout() -> None:
    filler, asked = settings(), settings(kind="prompted", slots=(64,))
    clamped = settings(kind="clamped", slots=(1, 48), block_slots=(128, 256))
    assert [canvas_width(one, (4, 8), 256) for one in (filler, asked, clamped)] == [16, 8, 40]
    # Canvases of short gaps have as much of the suffix as those of longer gaps.
    assert canvas_width(filler, (1, 2), 256) == 16
    assert [canvas_width(one, (200,), 256) for one in (filler, asked, clamped)] == [256, 200, 232]
    assert fitting(clamped, (1, 48, 224, 240), 256) == (1, 48, 224)
    assert fitting(asked, (64,), 32) == (32,)
    assert fitting(clamped, (30,), 32) == (24,)


def test_only_likely_lengths_are_denoised(infiller: Infiller) -> None:
    """A large bias decides the length alone; the fill then has that many tokens."""
    plain = infiller.settings
    try:
        for wanted, bias in ((2, (50.0, 0.0, 50.0, 50.0)), (5, (50.0, 50.0, 0.0, 50.0))):
            infiller.settings = changed(plain, length_bias=bias, survivors=1)
            ranked = infiller.infill(HOLE, Budget(steps=2), PATIENT).ranked
            assert {len(one.ids) for one in ranked} == {wanted}
    finally:
        infiller.settings = plain


def test_the_bias_is_fitted_and_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = chat_checkpoint(tmp_path, kind="clamped", slots=[1, 2, 4], block_slots=[4, 9])
    heldout = tmp_path / "heldout.jsonl"
    heldout.write_text(json.dumps({"text": SOURCE}) + "\n")
    module, options = "midspan.engine.training.length_bias", ["--heldout", str(heldout), "--holes", "6"]
    command = [sys.executable, "-m", module, str(folder), *options, "--device", "cpu"]
    done = subprocess.run(command, cwd=ROOT / "src", capture_output=True, text=True, timeout=100, check=True)
    found = read_settings(folder)
    assert list(found.hypotheses.length_bias) == json.loads(done.stdout)["length_bias"]
    assert len(found.hypotheses.length_bias) == 5
    for bias in (found.hypotheses.length_bias[:3], found.hypotheses.length_bias[3:]):
        assert len(set(bias)) == len(bias)
        assert sum(bias) == pytest.approx(0, abs=1e-3)
    assert found.layout.slots == (1, 2, 4)
    (folder / "midspan.json").write_text('{"layout": {"kind": "prompted"}}')
    monkeypatch.setattr(sys, "argv", command[2:])
    assert fit_command() == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "midspan.json: layout.kind prompted tries no lengths" in said
