"""Folded layers compute what the layers they came from compute."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from midspan.engine.dense import DenseLayer, fold
from midspan.engine.engine import load_infiller
from midspan.engine.model import DiffusionGemma, ModelConfig
from midspan.engine.training.shape import config_json, initialise
from midspan.kernels.rows import STEP

VOCAB = 64


def dense_model() -> DiffusionGemma:
    """A small one-expert model in which every weight, norms and scalars too, is random."""
    torch.manual_seed(0)
    model = initialise(
        DiffusionGemma(ModelConfig.from_json(config_json(VOCAB, 16, hidden=128, layers=3, intermediate=96)))
    )
    with torch.no_grad():
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if "norm" in name or "per_expert_scale" in name or "layer_scalar" in name:
                tensor.uniform_(0.5, 1.5)
    return model.eval()


def readings(model: DiffusionGemma) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    text, canvas = (
        torch.randint(4, VOCAB, (1, 20), generator=generator),
        torch.randint(4, VOCAB, (3, 16), generator=generator),
    )
    soft = torch.randn(3, 16, 128, generator=generator)
    with torch.inference_mode():
        cache = model.new_cache()
        return [model.prefill(text, cache), model.denoise(canvas, cache, soft), model.score(canvas, cache)]


def test_folded_layers_read_as_their_originals_in_every_way() -> None:
    model = dense_model()
    expected = readings(model)
    fold(model)
    assert all(isinstance(layer, DenseLayer) for layer in model.stack)
    for mine, theirs in zip(readings(model), expected, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=1e-4)


def test_folded_products_have_rows_in_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    model, seen, plain = dense_model(), set[int](), F.linear
    fold(model)

    def linear(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        seen.add(x.shape[:-1].numel())
        return plain(x, weight)

    monkeypatch.setattr(F, "linear", linear)
    with torch.inference_mode():
        model.logits(model.prefill(torch.arange(20)[None], model.new_cache())[0, :5])
    assert seen == {STEP}


def test_the_embedded_model_is_loaded_folded() -> None:
    model = load_infiller("embedded", "cpu").model
    assert len(model.stack) == len(model.layers)
    assert all(isinstance(layer, DenseLayer) for layer in model.stack)
