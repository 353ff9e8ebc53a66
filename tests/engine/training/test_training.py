"""Training of canvases: agrees with inference, cuts gaps by its recipe, resumes from its state, and learns."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from midspan.engine.api import CheckpointError
from midspan.engine.backends.plain import TorchCanvasBackend
from midspan.engine.model import DiffusionGemma, ModelConfig
from midspan.engine.training import mean, shape
from midspan.engine.training.gaps import GapRecipe, GapSampler, LineIds
from midspan.engine.training.objective import CanvasBatch, canvas_hidden, canvas_loss, corrupt, soft_canvas
from midspan.engine.training.package import package
from midspan.engine.training.run import Progress, Recipe, Run
from midspan.engine.training.tokenizer import train as train_tokenizer
from midspan.engine.training.train import main, train
from tests.engine.tiny import SOURCE, config_json, random_model

VOCAB = 64
NEWLINE, TOP_LEVEL, FILLER, BOS = 10, 15, 3, 2


WIDTHS = (12, 8, 16)


def batch_of(generator: torch.Generator) -> CanvasBatch:
    """Two texts of 20 with canvases of 12, 8 and 16."""

    def ids(*shape: int) -> torch.Tensor:
        return torch.randint(4, VOCAB, shape, generator=generator)

    start = torch.tensor([[1, 7, 19], [3, 3, 12]])
    slots = torch.tensor([[4, 4, 8], [6, 2, 5]])
    noise = torch.rand(2, 3, generator=generator)
    return CanvasBatch(text=ids(2, 20), start=start, clean=ids(2, 36), slots=slots, noise=noise, widths=WIDTHS)


@pytest.mark.parametrize("conditioned", [False, True])
def test_a_training_canvas_has_the_hidden_rows_of_inference(conditioned: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    model, batch = random_model(config_json(VOCAB)), batch_of(generator)
    for layer in model.layers:
        # Training runs text and canvas in one pass, so both have the same scalars.
        layer.get_buffer("encoder_layer_scalar").copy_(layer.get_buffer("layer_scalar"))
    soft = torch.randn(2, 36, 32, generator=generator) if conditioned else None
    with torch.inference_mode():
        text, canvas = canvas_hidden(model, batch, batch.clean, soft)
        for row in range(2):
            place = 0
            for k, width in enumerate(WIDTHS):
                own = slice(place, place + width)
                cache = TorchCanvasBackend(model).new_cache()
                begin = int(batch.start[row, k])
                prefix = TorchCanvasBackend(model).prefill(batch.text[row : row + 1, :begin], cache)
                given = None if soft is None else soft[row, own][None]
                alone = TorchCanvasBackend(model).denoise(batch.clean[row, own][None], cache, given)
                torch.testing.assert_close(canvas[row, own], alone[0], atol=1e-4, rtol=1e-4)
                torch.testing.assert_close(text[row, :begin], prefix[0], atol=1e-4, rtol=1e-4)
                place += width


def free_rows(batch: CanvasBatch) -> torch.Tensor:
    """Which rows [B, R] are free slots, computed row by row."""
    rows = [
        [place < size for width, size in zip(batch.widths, sizes, strict=True) for place in range(width)]
        for sizes in batch.slots.tolist()
    ]
    return torch.tensor(rows)


def test_noise_is_on_free_slots_only_and_has_the_given_share() -> None:
    generator = torch.Generator().manual_seed(1)
    clean = torch.full((40, 5 * 60), 2)
    batch = CanvasBatch(
        text=clean[:, :60],
        start=torch.ones(40, 5, dtype=torch.long),
        clean=clean,
        slots=torch.full((40, 5), 40),
        noise=torch.full((40, 5), 0.25),
        widths=(60,) * 5,
    )
    noisy, free = corrupt(batch, VOCAB, generator), free_rows(batch)
    assert bool((noisy[~free] == 2).all())
    changed = float((noisy[free] != 2).float().mean())
    # One random id in VOCAB is the clean one; the bound is five standard deviations of 8,000 samples.
    expected = 0.25 * (1 - 1 / VOCAB)
    assert abs(changed - expected) < 5 * (expected * (1 - expected) / 8000) ** 0.5


def test_the_loss_is_over_free_slots_with_a_lower_weight_for_filler() -> None:
    generator = torch.Generator().manual_seed(2)
    model, batch = random_model(config_json(VOCAB)), batch_of(generator)
    batch.clean[:, 1:3] = FILLER
    with torch.inference_mode():
        light, text = canvas_loss(model, batch, batch.clean, None, filler_id=FILLER, filler_weight=0.0, text_stride=2)
        text_hidden, hidden = canvas_hidden(model, batch, batch.clean, None)
        values = -model.logits(hidden).log_softmax(dim=-1).gather(-1, batch.clean[..., None]).squeeze(-1)
        counted = free_rows(batch) & (batch.clean != FILLER)
        read = model.logits(text_hidden[:, :-1:2]).log_softmax(dim=-1)
        causal = -read.gather(-1, batch.text[:, 1::2, None]).mean()
    torch.testing.assert_close(light, values[counted].mean(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(text, causal, atol=1e-5, rtol=1e-5)


def test_self_conditioning_is_zero_at_frozen_positions() -> None:
    model, batch = random_model(config_json(VOCAB)), batch_of(torch.Generator().manual_seed(3))
    with torch.inference_mode():
        soft = soft_canvas(model, batch, batch.clean, 0.7)
    free = free_rows(batch)
    assert float(soft[~free].abs().sum()) == 0.0
    assert bool((soft[free].abs().sum(dim=-1) > 0).all())


def sampler_of(folder: Path) -> GapSampler:
    """Gaps in a stream that counts 10, 11, ..., 21, 10, ...: every twelfth id is the newline."""
    (np.arange(3000) % 12 + 10).astype(np.uint16).tofile(folder / "ids.bin")
    recipe = GapRecipe(text_tokens=64, widths=(16, 16, 32), slot_sizes=(4, 8, 16), filler_id=FILLER, bos_id=BOS)
    lines = LineIds(newline=frozenset({NEWLINE}), top_level=frozenset({TOP_LEVEL}))
    return GapSampler(folder / "ids.bin", lines, recipe, seed=0)


def test_a_canvas_holds_the_text_of_its_gap(tmp_path: Path) -> None:
    batch = sampler_of(tmp_path).canvases(50)
    ended_at_newline, full = 0, 0
    for row in range(50):
        place = 0
        for k, width in enumerate(batch.widths):
            begin, size = int(batch.start[row, k]), int(batch.slots[row, k])
            canvas = batch.clean[row, place : place + width].tolist()
            place += width
            gap = [i for i in canvas[:size] if i != FILLER]
            assert 0 < size <= width // 2
            assert canvas[:size] == gap + [FILLER] * (size - len(gap))
            whole = batch.text[row, 1:begin].tolist() + gap + canvas[size:]
            assert all((b - a) % 12 == 1 for a, b in pairwise(whole))
            ended_at_newline += canvas[size] == NEWLINE
            full += len(gap) == size
    assert ended_at_newline > 40
    # A quarter of the canvases are cut to the gap; some fit by chance.
    assert 30 < full < 120


def test_texts_begin_with_bos_and_most_of_them_with_a_top_level_line(tmp_path: Path) -> None:
    sampler = sampler_of(tmp_path)
    first = torch.cat((sampler.canvases(200).text[:, :2], sampler.sequences(200, 30)[:, :2]))
    assert bool((first[:, 0] == BOS).all())
    # Of windows that begin at random, one in twelve begins so by chance.
    assert 0.5 < float((first[:, 1] == TOP_LEVEL + 1).float().mean()) < 0.8


def test_line_ids_are_those_of_the_vocabulary() -> None:
    lines = LineIds.of({"Ċ": 5, "ĊĊ": 6, "ĊĠĠ": 7, "a": 8, "aĊ": 9, "": 10}, BOS)
    assert lines == LineIds(newline=frozenset({5, 6, 7}), top_level=frozenset({5, 6, BOS}))


def tiny_corpus(folder: Path) -> Path:
    """A corpus folder of one short text many times over."""
    tokenizer = train_tokenizer([SOURCE] * 3, vocab_size=400)
    tokenizer.save(str(folder / "tokenizer.json"))
    ids = np.array(tokenizer.encode(SOURCE).ids * 20, dtype=np.uint16)
    for split in ("train", "heldout"):
        ids.tofile(folder / f"{split}.bin")
    return folder


# torch's Muon multiplies in bf16, which takes 40 times as long on a CPU without bf16 units; so matrices are small.
SMALL: dict[str, Any] = {"hidden": 64, "layers": 2, "intermediate": 64}
NAMES_OF = {"canvas": {"slot", "causal"}, "fim": {"fim", "middle"}}


def test_canvases_and_fill_in_the_middle_share_the_steps(tmp_path: Path) -> None:
    recipe = Recipe(
        minutes=1000,
        batch=2,
        sequence=64,
        text_tokens=32,
        narrow=1,
        causal_share=0.0,
        fim_share=0.25,
        warmup_steps=2,
        **SMALL,
    )
    run = Run(recipe, tiny_corpus(tmp_path), tmp_path / "run", compiled=False)
    told = [(run.kind, run.step()) for _ in range(8)]
    kinds = [kind for kind, _ in told]
    assert kinds == ["canvas", "canvas", "canvas", "fim"] * 2
    assert all(losses.keys() == NAMES_OF[kind] for kind, losses in told)
    assert run.measure().keys() == {"heldout_slot", "heldout_causal", "heldout_fim", "heldout_middle"}


def test_both_phases_learn_and_a_run_resumes_from_its_state(tmp_path: Path) -> None:
    corpus, out = tiny_corpus(tmp_path), tmp_path / "run"
    recipe = Recipe(
        minutes=1000,
        **SMALL,
        batch=2,
        sequence=32,
        text_tokens=32,
        narrow=1,
        warmup_steps=2,
        causal_share=0.5,
        fim_share=0.0,
        measure_every=5,
    )
    run = Run(recipe, corpus, out, compiled=False)
    losses = [run.step()["causal"] for _ in range(12)]
    assert losses[-1] < losses[0] - 1
    run.progress.seconds = 60 * 600.0
    assert run.phase == "canvas"
    slot_losses = [run.step()["slot"] for _ in range(12)]
    assert sum(slot_losses[-3:]) < sum(slot_losses[:3])
    run.save()
    before = run.measure()
    again = Run(recipe, corpus, out, compiled=False)
    again.resume()
    assert (again.progress, again.phase) == (run.progress, "canvas")
    assert again.measure() == before
    # The last step of a budget measures, saves and plots.
    again.progress.seconds = 60 * 1000.0 - 1e-6
    train(again)
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert (rows[-1]["step"], rows[-1]["phase"]) == (25, "canvas")
    assert (out / "loss.png").stat().st_size > 5000
    assert torch.load(out / "state.pt", weights_only=True)["progress"]["step"] == 25


def test_a_run_continues_from_a_packaged_checkpoint(tmp_path: Path) -> None:
    recipe = Recipe(
        minutes=1000, batch=2, sequence=32, text_tokens=32, narrow=1, warmup_steps=4, causal_share=0.0, **SMALL
    )
    corpus = tiny_corpus(tmp_path)
    run = Run(recipe, corpus, tmp_path / "run", compiled=False)
    run.progress.seconds = 600.0
    while run.progress.step < 6:
        run.step()
    run.progress.seconds = 60 * 1000.0 - 1e-6
    train(run)
    (corpus / "manifest.json").write_text("{}")
    package(tmp_path / "run", corpus, tmp_path / "packaged")
    on = Run(recipe, corpus, tmp_path / "on", compiled=False)
    on.go_on_from(tmp_path / "packaged")
    done = run.progress
    assert on.progress == Progress(done.step, done.seconds, done.tokens, fresh=done.step)
    assert (tmp_path / "on" / "log.jsonl").read_text() == (tmp_path / "run" / "log.jsonl").read_text()
    # The package is int8: an error of at most half a step of 127.
    for name, average in run.average.items():
        torch.testing.assert_close(on.masters[name], average, atol=float(average.abs().max()) / 250, rtol=0.0)
        assert torch.equal(on.average[name], on.masters[name])
    # New optimisers warm up again, however far the run was.
    on.progress.seconds = 0.0
    before = {name: master.detach().clone() for name, master in on.masters.items()}
    on.step()
    assert on.optimisers[0][0].param_groups[0]["lr"] == recipe.muon_rate / recipe.warmup_steps
    assert any(not torch.equal(before[name], master) for name, master in on.masters.items())


@pytest.mark.parametrize(("before", "after"), [(2, 3), (2, 4), (3, 4), (6, 9)])
def test_added_layers_change_nothing_before_they_are_trained(before: int, after: int) -> None:
    sizes = {"hidden": 64, "intermediate": 64}
    small, large = (
        DiffusionGemma(ModelConfig.from_json(shape.config_json(50, 16, layers=layers, **sizes)))
        for layers in (before, after)
    )
    shape.initialise(small)
    for scalar in small.scalars(encoder=True):
        scalar.mul_(2.0)
    shape.grow(small, large)
    ids = torch.randint(0, 50, (1, 12), generator=torch.Generator().manual_seed(0))
    caches = TorchCanvasBackend(small).new_cache(), TorchCanvasBackend(large).new_cache()
    with torch.no_grad():
        TorchCanvasBackend(small).prefill(ids, caches[0])
        TorchCanvasBackend(large).prefill(ids, caches[1])
        torch.testing.assert_close(
            TorchCanvasBackend(large).denoise(ids, caches[1]), TorchCanvasBackend(small).denoise(ids, caches[0])
        )
    TorchCanvasBackend(large).prefill(ids, TorchCanvasBackend(large).new_cache()).square().sum().backward()
    taught = [p.grad for name, p in large.named_parameters() if name.endswith("post_attention_layernorm.weight")]
    assert len(taught) == after
    assert all(gradient is not None and float(gradient.abs().max()) > 0 for gradient in taught)


def test_a_run_with_more_layers_continues_from_a_checkpoint_with_fewer(tmp_path: Path) -> None:
    recipe = Recipe(minutes=1000, batch=2, sequence=32, text_tokens=32, narrow=1, causal_share=0.0, **SMALL)
    corpus = tiny_corpus(tmp_path)
    run = Run(recipe, corpus, tmp_path / "run", compiled=False)
    run.progress.seconds = 60 * 1000.0 - 1e-6
    train(run)
    (corpus / "manifest.json").write_text("{}")
    package(tmp_path / "run", corpus, tmp_path / "packaged")
    on = Run(replace(recipe, layers=3), corpus, tmp_path / "on", compiled=False)
    on.go_on_from(tmp_path / "packaged")
    as_it_was = Run(recipe, corpus, tmp_path / "same", compiled=False)
    as_it_was.go_on_from(tmp_path / "packaged")
    assert on.measure() == pytest.approx(as_it_was.measure(), rel=1e-2)
    on.step()
    assert len(on.model.layers) == 3
    # Fewer layers, or another width, is another network.
    others = (replace(recipe, layers=1), replace(recipe, layers=3, hidden=128), replace(recipe, intermediate=128))
    for number, other in enumerate(others):
        unlike = Run(other, corpus, tmp_path / f"unlike-{number}", compiled=False)
        with pytest.raises(CheckpointError):
            unlike.go_on_from(tmp_path / "packaged")


@pytest.mark.parametrize(("own", "parts"), [((), (1 / 3, 1 / 3, 1 / 3)), (("--own", "0.8"), (0.1, 0.1, 0.8))])
def test_the_mean_of_several_decayed_checkpoints_is_a_run_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: tuple[str, ...], parts: tuple[float, ...]
) -> None:
    recipe = Recipe(minutes=1000, batch=2, sequence=32, text_tokens=32, narrow=1, causal_share=0.0, **SMALL)
    corpus = tiny_corpus(tmp_path)
    (corpus / "manifest.json").write_text("{}")
    run, ends = Run(recipe, corpus, tmp_path / "run", compiled=False), []
    (tmp_path / "run" / "log.jsonl").write_text(json.dumps({"recipe": asdict(recipe), "processes": 2}) + "\n")
    for number in range(3):
        run.progress.seconds = 60 * 1000.0 - 1e-6
        train(run)
        ends.append({name: average.clone() for name, average in run.average.items()})
        package(tmp_path / "run", corpus, tmp_path / f"end-{number}")
    words = ["mean", str(run.out), str(tmp_path / "mean"), "--corpus", str(corpus), "--with"]
    folders = [str(tmp_path / "end-0"), str(tmp_path / "end-1")]
    monkeypatch.setattr("sys.argv", [*words, *folders, *own])
    mean.main()
    # The run had two processes, and each measured with half of the batch.
    made = Run(replace(recipe, batch=1), corpus, tmp_path / "mean", compiled=False)
    made.resume()
    for name, average in made.average.items():
        middle = sum((part * end[name] for part, end in zip(parts, ends, strict=True)), torch.zeros(()))
        torch.testing.assert_close(average, middle, atol=float(middle.abs().max()) / 250, rtol=0.0)
        assert torch.equal(made.masters[name], run.masters[name])
    row = json.loads((made.out / "log.jsonl").read_text().splitlines()[-1])
    assert row["mean_of_steps"] == [1, 2, 3]
    assert row["heldout_slot"] == pytest.approx(made.measure()["heldout_slot"])
    # An existing folder is not overwritten.
    with pytest.raises(SystemExit, match=r"^mean: .*File exists"):
        mean.main()
    # If a checkpoint cannot be read, no folder is made.
    words[2] = str(tmp_path / "none")
    monkeypatch.setattr("sys.argv", [*words, str(tmp_path / "end-0")])
    (tmp_path / "end-0" / "model.safetensors").unlink()
    with pytest.raises(SystemExit, match=r"^mean: .*end-0"):
        mean.main()
    assert not (tmp_path / "none").exists()


def test_a_checkpoint_with_another_tokenizer_is_refused_with_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "packaged"
    folder.mkdir()
    train_tokenizer(["other = 1\n"], vocab_size=400).save(str(folder / "tokenizer.json"))
    corpus, out = str(tiny_corpus(tmp_path)), str(tmp_path / "run")
    words = ["train", "--corpus", corpus, "--out", out, "--weights", str(folder), "--eager"]
    monkeypatch.setattr("sys.argv", words)
    with pytest.raises(SystemExit, match=r"^train: .* has another tokenizer than the corpus; make that with its"):
        main()
