"""Training sees what inference sees, cuts gaps as the recipe says, resumes where it stood, and learns."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from midspan.engine.training.gaps import GapRecipe, GapSampler
from midspan.engine.training.objective import CanvasBatch, canvas_hidden, canvas_loss, corrupt, soft_canvas
from midspan.engine.training.tokenizer import train as train_tokenizer
from midspan.engine.training.train import Recipe, Run, train
from tests.engine.tiny import SOURCE, config_json, random_model

VOCAB = 64
NEWLINE, FILLER = 10, 3


def batch_of(generator: torch.Generator) -> CanvasBatch:
    """Two texts of 20 with three canvases of 12 each."""

    def ids(*shape: int) -> torch.Tensor:
        return torch.randint(4, VOCAB, shape, generator=generator)

    start = torch.tensor([[1, 7, 19], [3, 3, 12]])
    slots = torch.tensor([[4, 8, 8], [4, 4, 8]])
    return CanvasBatch(text=ids(2, 20), start=start, clean=ids(2, 3, 12), slots=slots, noise=torch.rand(2, 3))


@pytest.mark.parametrize("conditioned", [False, True])
def test_a_training_canvas_is_read_as_inference_reads_it(conditioned: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    model, batch = random_model(config_json(VOCAB)), batch_of(generator)
    for layer in model.layers:
        # Training runs both readings in one pass, so its scalars are one.
        layer.get_buffer("encoder_layer_scalar").copy_(layer.get_buffer("layer_scalar"))
    soft = torch.randn(2, 3, 12, 32, generator=generator) if conditioned else None
    with torch.inference_mode():
        text, canvas = canvas_hidden(model, batch, batch.clean, soft)
        for row in range(2):
            for k in range(3):
                cache = model.new_cache()
                begin = int(batch.start[row, k])
                prefix = model.prefill(batch.text[row : row + 1, :begin], cache)
                given = None if soft is None else soft[row, k][None]
                alone = model.denoise(batch.clean[row, k][None], cache, given)
                torch.testing.assert_close(canvas[row, k], alone[0], atol=1e-4, rtol=1e-4)
                torch.testing.assert_close(text[row, :begin], prefix[0], atol=1e-4, rtol=1e-4)


def test_noise_falls_on_free_slots_only_and_as_often_as_asked() -> None:
    generator = torch.Generator().manual_seed(1)
    clean = torch.full((40, 5, 60), 2)
    batch = CanvasBatch(
        text=clean[:, 0],
        start=torch.ones(40, 5, dtype=torch.long),
        clean=clean,
        slots=torch.full((40, 5), 40),
        noise=torch.full((40, 5), 0.25),
    )
    noisy = corrupt(batch, VOCAB, generator)
    assert bool((noisy[:, :, 40:] == 2).all())
    changed = float((noisy[:, :, :40] != 2).float().mean())
    # One random id in VOCAB is the clean one; five standard deviations of 8,000 draws.
    expected = 0.25 * (1 - 1 / VOCAB)
    assert abs(changed - expected) < 5 * (expected * (1 - expected) / 8000) ** 0.5


def test_the_loss_counts_free_slots_and_weighs_filler_down() -> None:
    generator = torch.Generator().manual_seed(2)
    model, batch = random_model(config_json(VOCAB)), batch_of(generator)
    options = {"max_slots": 8, "filler_id": FILLER, "text_stride": 2}
    batch.clean[:, :, 2:4] = FILLER
    with torch.inference_mode():
        light, _ = canvas_loss(model, batch, batch.clean, None, filler_weight=0.0, **options)
        frozen = batch.clean.clone()
        frozen[:, :, 8:] = 5
        _, hidden = canvas_hidden(model, batch, batch.clean, None)
        logits = model.logits(hidden).log_softmax(dim=-1)
        values = -logits.gather(-1, batch.clean[..., None]).squeeze(-1)
        counted = (torch.arange(12) < batch.slots[..., None]) & (batch.clean != FILLER)
    torch.testing.assert_close(light, values[counted].mean(), atol=1e-5, rtol=1e-5)


def test_self_conditioning_is_zero_where_frozen() -> None:
    model, batch = random_model(config_json(VOCAB)), batch_of(torch.Generator().manual_seed(3))
    with torch.inference_mode():
        soft = soft_canvas(model, batch, batch.clean, 0.7, 8)
    free = torch.arange(12) < batch.slots[..., None]
    assert float(soft[~free].abs().sum()) == 0.0
    assert bool((soft[free].abs().sum(dim=-1) > 0).all())


def test_gaps_are_the_text_that_stood_there(tmp_path: Path) -> None:
    stream = np.arange(3000) % 12 + 10  # every twelfth id is the newline
    stream.astype(np.uint16).tofile(tmp_path / "ids.bin")
    recipe = GapRecipe(text_tokens=64, canvases=4, width=32, slot_sizes=(4, 8, 16), filler_id=FILLER)
    sampler = GapSampler(tmp_path / "ids.bin", {NEWLINE}, recipe, seed=0)
    batch = sampler.canvases(50)
    ended_at_newline = 0
    for row in range(50):
        for k in range(4):
            begin, size = int(batch.start[row, k]), int(batch.slots[row, k])
            canvas = batch.clean[row, k].tolist()
            gap = [i for i in canvas[:size] if i != FILLER]
            assert canvas[:size] == gap + [FILLER] * (size - len(gap))
            whole = batch.text[row, :begin].tolist() + gap + canvas[size:]
            assert all((b - a) % 12 == 1 for a, b in pairwise(whole))
            ended_at_newline += canvas[size] == NEWLINE
    assert ended_at_newline > 60


def tiny_corpus(folder: Path) -> Path:
    """A corpus folder of one short text many times over."""
    tokenizer = train_tokenizer([SOURCE] * 3, vocab_size=400)
    tokenizer.save(str(folder / "tokenizer.json"))
    ids = np.array(tokenizer.encode(SOURCE).ids * 20, dtype=np.uint16)
    for split in ("train", "heldout"):
        ids.tofile(folder / f"{split}.bin")
    return folder


def test_both_phases_learn_and_a_run_resumes_where_it_stood(tmp_path: Path) -> None:
    corpus, out = tiny_corpus(tmp_path), tmp_path / "run"
    recipe = Recipe(
        minutes=1000, batch=2, sequence=32, text_tokens=32, canvases=2, width=40, warmup_steps=2, measure_every=5
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
    # The last step of a budget measures, saves and draws.
    again.progress.seconds = 60 * 1000.0 - 1e-6
    train(again)
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert (rows[-1]["step"], rows[-1]["phase"]) == (25, "canvas")
    assert (out / "loss.png").stat().st_size > 5000
    assert torch.load(out / "state.pt", weights_only=True)["progress"]["step"] == 25
