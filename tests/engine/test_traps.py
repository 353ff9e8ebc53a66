"""The traps of DiffusionGemma, one test or more for each: errors that other engines have had and this one must not.

Traps are numbered, and test names begin with the number. These have no test here:

2.  StaticCache is wrong past the window: the oracle runs on DynamicCache, and our own cache keeps every position.
12. The release ends with any of eos 1, 50, 106 and pads with 0: layout `prompted` ends an answer at the end of its
    turn, eos or pad, and every other special id is banned (prompts/chat.py); prompts/test_chat.py has the tests.
14. Left padding shifts positions: prompts of unequal length are never batched, a batch is many canvases behind one
    prefix. test_generation and test_denoise check that finished rows do not change.
16. The order of the experts' sum: transformers in eager mode adds in the weights' dtype, as we do; the bf16 budget of
    test_parity bounds the effect of another order.
18. The choice of experts amplifies drift: test_parity compares every bf16 layer on equal input, and decisions as well
    as logits.
22. Grouped expert matmuls fail on some machines: the oracle runs eager experts. The temperature schedule, the other
    half of this trap, has a test below.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from midspan.engine import model as network
from midspan.engine.backends.plain import TorchCanvasBackend
from midspan.engine.cache import Cache
from midspan.engine.canvas import Canvas, Plan, Rng, accept, settled
from midspan.engine.denoise import denoise
from midspan.engine.model import DiffusionGemma, LayerShape, ModelConfig
from midspan.engine.sampling import LogitsNetwork
from midspan.kernels.attention import attention_reference
from midspan.kernels.experts import expert_mlp
from midspan.kernels.rms_norm import rms_norm_reference
from midspan.kernels.rope import rope_reference
from midspan.kernels.router import router_reference
from tests.engine.oracle import (
    VOCAB,
    denoise_logits,
    distance,
    new_cache,
    open_ours,
    open_theirs,
    prefill,
    save_checkpoint,
    tiny_sizes,
)
from tests.engine.tiny import config_json

WINDOW, LENGTH, SLIDING_LAYERS, FULL_LAYER = 8, 20, (0, 1), 2


@pytest.fixture(autouse=True)
def tiny() -> Iterator[None]:
    with tiny_sizes():
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("traps"), seed=4)


@pytest.fixture
def model(folder: Path) -> DiffusionGemma:
    return open_ours(folder)


def ids(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, VOCAB, (1, count), generator=torch.Generator().manual_seed(seed))


def filled(model: DiffusionGemma, length: int = LENGTH) -> Cache:
    cache = TorchCanvasBackend(model).new_cache()
    TorchCanvasBackend(model).prefill(ids(length), cache)
    return cache


def spoil(cache: Cache, layer: int, start: int, end: int) -> None:
    """Overwrite a layer's cached keys and values in place."""
    for tensor in cache.read(layer, start, end):
        tensor.normal_(generator=torch.Generator().manual_seed(9)).mul_(3)
    cache.canvases.forget(start)


def test_01_every_canvas_row_sees_the_same_window_of_the_cache(model: DiffusionGemma) -> None:
    """The window is a rectangle: every canvas row, first or last, sees the last 1023 (here 7) cached keys."""
    cache, canvas = filled(model), ids(12, 1)
    before = TorchCanvasBackend(model).denoise(canvas, cache)
    for layer in SLIDING_LAYERS:
        spoil(cache, layer, 0, LENGTH - WINDOW + 1)
    assert torch.equal(TorchCanvasBackend(model).denoise(canvas, cache), before)
    spoil(cache, 0, LENGTH - WINDOW + 1, LENGTH - WINDOW + 2)
    moved = (TorchCanvasBackend(model).denoise(canvas, cache) - before).abs().amax(dim=-1)
    assert float(moved.min()) > 1e-4


def test_01_full_layers_see_everything(model: DiffusionGemma) -> None:
    cache, canvas = filled(model), ids(12, 1)
    before = TorchCanvasBackend(model).denoise(canvas, cache)
    spoil(cache, FULL_LAYER, 0, 1)
    assert float((TorchCanvasBackend(model).denoise(canvas, cache) - before).abs().amax(dim=-1).min()) > 1e-5


def layers(model: DiffusionGemma) -> list[Any]:
    """The layers as Any, because nn.ModuleList does not type their attributes."""
    return list(model.layers)


def first_input(model: DiffusionGemma) -> list[torch.Tensor]:
    """The list of the first layer's inputs, one for each pass from now on."""
    seen: list[torch.Tensor] = []
    layers(model)[0].register_forward_pre_hook(lambda _m, args: seen.append(args[0]))
    return seen


def test_03_the_post_norm_is_applied_on_the_first_step_and_never_in_the_encoder(model: DiffusionGemma) -> None:
    seen, cache, canvas = first_input(model), filled(model), ids(12, 1)
    TorchCanvasBackend(model).denoise(canvas, cache)
    TorchCanvasBackend(model).score(canvas.tolist(), cache)
    encoded, first_step, scored = seen
    assert torch.allclose(first_step.square().mean(dim=-1), torch.ones(1, 12), atol=1e-4)
    assert torch.equal(encoded, model.embed(ids(LENGTH)))
    assert torch.equal(scored, model.embed(canvas))


def test_04_embeddings_and_soft_embeddings_are_scaled_by_53() -> None:
    """sqrt(2816) is 53.07; in bf16 it is 53.0."""
    config = config_json(8, hidden_size=2816, intermediate_size=4, num_hidden_layers=1, layer_types=["full_attention"])
    model = DiffusionGemma(ModelConfig.from_json(config)).to(torch.bfloat16)
    weight = model.embed_tokens.weight
    assert torch.equal(model.embed(torch.arange(8)), weight * 53.0)
    assert torch.equal(model.soft_embed(torch.eye(8)), weight * 53.0)
    assert not torch.equal(weight * 53.0, (weight.float() * 2816**0.5).bfloat16())


def tanh_gelu(x: torch.Tensor) -> torch.Tensor:
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def test_05_all_three_gated_mlps_use_the_tanh_gelu(model: DiffusionGemma) -> None:
    x, layer = torch.randn(5, 32, generator=torch.Generator().manual_seed(1)), layers(model)[0]
    for mlp in (layer.mlp, model.self_conditioning):
        gate, up = mlp.gate_proj(x), mlp.up_proj(x)
        assert distance(mlp(x), mlp.down_proj(tanh_gelu(gate) * up)) < 1e-6
        assert distance(mlp(x), mlp.down_proj(F.gelu(gate) * up)) > 1e-5
    gate_up, down = layer.experts.gate_up_proj[1], layer.experts.down_proj[1]
    gate, up = F.linear(x, gate_up).chunk(2, dim=-1)
    assert distance(expert_mlp(x, gate_up, down), F.linear(tanh_gelu(gate) * up, down)) < 1e-6
    assert distance(expert_mlp(x, gate_up, down), F.linear(F.gelu(gate) * up, down)) > 1e-5


def test_06_the_router_reads_the_raw_residual(model: DiffusionGemma, monkeypatch: pytest.MonkeyPatch) -> None:
    routed: list[torch.Tensor] = []
    route = router_reference

    def watched(x: torch.Tensor, *rest: Any) -> tuple[torch.Tensor, torch.Tensor]:
        routed.append(x)
        return route(x, *rest)

    monkeypatch.setattr("midspan.engine.model.router_reference", watched)
    attended, seen = [], first_input(model)
    layers(model)[0].post_attention_layernorm.register_forward_hook(lambda _m, _a, out: attended.append(out))
    filled(model)
    assert torch.equal(routed[0].view_as(seen[0]), seen[0] + attended[0])


def test_07_proportional_rope_turns_64_pairs_with_the_exponent_over_512() -> None:
    shape = LayerShape(
        head_dim=512, kv_heads=1, window=None, rope_theta=1e6, rope_fraction=0.25, rope_proportional=True
    )
    frequencies = network.rope_frequencies(shape)
    assert frequencies.shape == (256,)
    expected = torch.tensor([1e6 ** (-2 * pair / 512) for pair in range(64)])
    assert torch.allclose(frequencies[:64], expected, rtol=1e-5)
    assert not bool(frequencies[64:].any())


def test_07_rope_pairs_are_half_a_head_apart() -> None:
    x, angle = torch.zeros(1, 1, 1, 512), 0.3
    x[..., 7] = 1.0
    table = torch.full((1, 1, 512), angle)
    turned = rope_reference(x, table.cos(), table.sin())[0, 0, 0]
    assert turned.nonzero().flatten().tolist() == [7, 7 + 256]
    assert torch.allclose(turned[[7, 263]], torch.tensor([math.cos(angle), math.sin(angle)]))


def test_08_full_layers_take_v_from_k_before_its_norm_and_turn(tmp_path: Path) -> None:
    full = save_checkpoint(tmp_path, seed=5, layer_types=["full_attention"], num_hidden_layers=1)
    model = open_ours(full)
    attention = layers(model)[0].self_attn
    cache = TorchCanvasBackend(model).new_cache()
    TorchCanvasBackend(model).prefill(torch.full((1, 6), 9), cache)
    keys, values = cache.read(0, 0, 6)
    raw = attention.k_proj(layers(model)[0].input_layernorm(model.embed(torch.tensor([[9]]))))
    assert distance(values, rms_norm_reference(raw, None, 1e-6).view(1, 1, 1, -1).expand_as(values)) < 1e-5
    assert distance(keys[:, :, 1:], keys[:, :, :-1]) > 0.01


def test_09_logits_are_rounded_before_the_cap_and_again_for_self_conditioning(folder: Path) -> None:
    model = open_ours(folder, torch.bfloat16)
    hidden = torch.randn(3, 32, generator=torch.Generator().manual_seed(2)).mul(5).bfloat16()
    raw = F.linear(hidden, model.embed_tokens.weight)
    assert raw.dtype == torch.bfloat16
    logits = model.logits(hidden)
    assert logits.dtype == torch.float32
    assert torch.equal(logits, torch.tanh(raw.float() / 30.0) * 30.0)
    logits = 29.0 + logits / 300
    soft = TorchCanvasBackend(model).soft(logits)
    assert torch.equal(soft, model.soft_embed(torch.softmax(logits.bfloat16(), dim=-1, dtype=torch.float32)))
    assert not torch.equal(soft, model.soft_embed(torch.softmax(logits, dim=-1)))


class Fixed(LogitsNetwork):
    """A network that always gives the same logits, and keeps those that it is conditioned on."""

    vocab_size = 5

    def __init__(self, row: list[float]) -> None:
        self.row = torch.tensor(row)
        self.conditioned: list[torch.Tensor] = []

    def logits(self, ids: torch.Tensor, soft: torch.Tensor | None, free: torch.Tensor) -> torch.Tensor:
        return self.row.repeat(int(free.sum()), 1)

    def keep(self, rows: torch.Tensor) -> None:
        raise AssertionError("no canvas is dropped here")

    def soft(self, logits: torch.Tensor) -> torch.Tensor:
        self.conditioned.append(logits)
        return logits


def open_canvas(width: int, **limits: Any) -> Canvas:
    return Canvas(ids=torch.zeros(1, width, dtype=torch.long), free=torch.ones(1, width, dtype=torch.bool), **limits)


def test_10_self_conditioning_uses_the_logits_at_the_steps_temperature() -> None:
    fixed = Fixed([1.0, 0.5, 0.0, -0.5, -1.0])
    list(denoise(fixed, open_canvas(3), Plan(steps=4), Rng(0)))
    expected = [fixed.row / temperature for temperature in (0.8, 0.7, 0.6)]
    for logits, row in zip(fixed.conditioned[:3], expected, strict=True):
        assert torch.allclose(logits, row.expand_as(logits))


def test_11_the_draft_is_the_argmax_and_not_the_sample() -> None:
    steps = list(denoise(Fixed([0.1, 0.0, 0.0, 0.0, 0.0]), open_canvas(64), Plan(steps=3, entropy_bound=1e9), Rng(0)))
    for step in steps:
        assert not bool(step.draft.any())
        assert bool(step.accepted.all())
        assert bool(step.canvas.any())


def test_13_the_first_step_never_stops_and_the_second_may() -> None:
    sure, free = torch.zeros(1, 4), torch.ones(1, 4, dtype=torch.bool)
    draft = torch.tensor([[1, 2, 3, 4]])
    assert settled(draft, None, sure, free, 0.005).tolist() == [False]
    assert settled(draft, draft.clone(), sure, free, 0.005).tolist() == [True]
    assert settled(draft, draft + 1, sure, free, 0.005).tolist() == [False]
    assert len(list(denoise(Fixed([50.0, 0.0, 0.0, 0.0, 0.0]), open_canvas(4), Plan(steps=9), Rng(0)))) == 2


def test_15_the_norm_works_in_float32_and_scales_by_the_weight_itself() -> None:
    x = torch.randn(4, 64, generator=torch.Generator().manual_seed(3)).mul(300).bfloat16()
    weight = torch.linspace(0.5, 2.0, 64).bfloat16()
    wide = x.float() * (x.float().square().mean(dim=-1, keepdim=True) + 1e-6).pow(-0.5) * weight.float()
    assert torch.equal(rms_norm_reference(x, weight, 1e-6), wide.bfloat16())
    assert torch.equal(rms_norm_reference(x, torch.zeros(64), 1e-6), torch.zeros_like(x))


def test_17_heads_of_512_in_groups_attend_as_the_formula_says() -> None:
    generator = torch.Generator().manual_seed(4)
    q, k, v = (torch.randn(2, heads, 6, 512, generator=generator) * 0.1 for heads in (4, 2, 2))
    expected = torch.empty_like(q)
    for head in range(4):
        weights = torch.softmax(q[:, head] @ k[:, head // 2].transpose(1, 2), dim=-1)
        expected[:, head] = weights @ v[:, head // 2]
    assert distance(attention_reference(q, k, v), expected) < 1e-5


def test_19_ties_zeros_and_ruled_out_ids_make_no_nan() -> None:
    tied, free = torch.zeros(2, 6), torch.ones(2, 6, dtype=torch.bool)
    assert bool(accept(tied, free, 0.1).all())
    assert accept(tied + 1.0, free, 0.1).sum(dim=-1).tolist() == [1, 1]
    allowed = torch.tensor([False, False, True, False, False])
    canvas = open_canvas(3, allowed_first=allowed, banned=(0, 4))
    for step in denoise(Fixed([0.0, 90.0, 0.0, 0.0, 0.0]), canvas, Plan(steps=3), Rng(0)):
        assert bool(step.entropy.isfinite().all())
        assert step.draft.tolist() == [[2, 1, 1]]


def test_20_encoder_and_decoder_have_their_own_layer_scalars(model: DiffusionGemma) -> None:
    cache, canvas = filled(model), ids(12, 1)
    passes: dict[str, Callable[[], torch.Tensor]] = {
        "prefill": lambda: TorchCanvasBackend(model).prefill(canvas, filled(model)),
        "score": lambda: TorchCanvasBackend(model).score(canvas.tolist(), cache)[0],
        "denoise": lambda: TorchCanvasBackend(model).denoise(canvas, cache),
    }
    before = {name: run() for name, run in passes.items()}
    layers(model)[1].layer_scalar.mul_(1.5)
    same = {name for name, run in passes.items() if torch.equal(run(), before[name])}
    assert same == {"prefill", "score"}
    layers(model)[1].layer_scalar.div_(1.5)
    layers(model)[1].encoder_layer_scalar.mul_(1.5)
    same = {name for name, run in passes.items() if distance(run(), before[name]) < 1e-5}
    assert same == {"denoise"}


@pytest.mark.parametrize("split", [(1, 19), (7, 13), (12, 8), (5, 5, 5, 5)])
def test_21_every_chunk_of_a_prefill_is_causal(model: DiffusionGemma, split: tuple[int, ...]) -> None:
    whole, text, cache = (
        TorchCanvasBackend(model).prefill(ids(LENGTH), TorchCanvasBackend(model).new_cache()),
        ids(LENGTH),
        TorchCanvasBackend(model).new_cache(),
    )
    chunks = [TorchCanvasBackend(model).prefill(chunk, cache) for chunk in text.split(split, dim=1)]
    assert distance(torch.cat(chunks, dim=1), whole) < 1e-4
    changed = text.clone()
    changed[0, -1] = (changed[0, -1] + 1) % VOCAB
    assert torch.equal(
        TorchCanvasBackend(model).prefill(changed, TorchCanvasBackend(model).new_cache())[:, :-1], whole[:, :-1]
    )


@pytest.mark.parametrize(("steps", "expected"), [(48, (0.8, 0.4 + 0.4 / 48)), (8, (0.8, 0.45)), (1, (0.8, 0.8))])
def test_22_the_temperature_runs_over_the_planned_steps(steps: int, expected: tuple[float, float]) -> None:
    plan = Plan(steps=steps)
    assert (plan.temperature(steps), plan.temperature(1)) == pytest.approx(expected)


def test_23_noise_covers_special_ids_and_they_embed_as_plain_tokens(folder: Path, model: DiffusionGemma) -> None:
    assert set(Rng(0).noise((1, 4000), VOCAB).flatten().tolist()) == set(range(VOCAB))
    theirs = open_theirs(folder)
    image = theirs.config.image_token_id
    assert image is not None
    canvas = ids(12, 1)
    canvas[0, ::2] = image
    cache = new_cache(theirs)
    prefill(theirs, ids(LENGTH), cache)
    expected = denoise_logits(theirs, canvas, cache)
    assert distance(model.logits(TorchCanvasBackend(model).denoise(canvas, filled(model))), expected) < 1e-4
    assert torch.equal(model.embed(torch.tensor([image]))[0], model.embed_tokens.weight[image] * model.embed_scale)
