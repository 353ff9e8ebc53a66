"""Quantised checkpoints: compressed-tensors' FP8, NVFP4, and quantisation at load; read shard by shard."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from midspan.engine.api import Budget, CheckpointError, DeviceError
from midspan.engine.backends.plain import TorchCanvasBackend
from midspan.engine.engine import Engine
from midspan.engine.model import DiffusionGemma, ModelConfig
from midspan.engine.settings import Quantize
from midspan.engine.weights.load import DECODER, ENCODER, load_weights, read_config
from midspan.engine.weights.quantized import (
    FourBitExperts,
    Fp8Experts,
    Fp8Linear,
    check_fp8,
    count_parameters,
    precision,
    quantize_experts,
)
from midspan.kernels.four_bit import VALUES, dequantize_reference
from midspan.kernels.quantize import quantize_rows_reference
from tests.engine.chatting import chat_checkpoint, midspan_json
from tests.engine.oracle import tiny_sizes
from tests.engine.prompts.test_chat import HOLE
from tests.engine.tiny import config_json

Tensors = dict[str, torch.Tensor]
CPU = torch.device("cpu")
IDS, CANVAS = torch.arange(20, 60)[None], torch.arange(100, 116)[None]
STEM, UP = "model.decoder.layers.0.", "experts.1.up_proj.weight"
# The released 26B, from its config.json.
RELEASED = {
    "hidden_size": 2816,
    "intermediate_size": 2112,
    "num_hidden_layers": 30,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "num_global_key_value_heads": 2,
    "head_dim": 256,
    "global_head_dim": 512,
    "num_experts": 128,
    "top_k_experts": 8,
    "moe_intermediate_size": 704,
    "layer_types": (["sliding_attention"] * 5 + ["full_attention"]) * 5,
}


@pytest.fixture(autouse=True)
def small() -> Iterator[None]:
    with tiny_sizes():
        yield


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stand-in for the release, in float32."""
    return chat_checkpoint(tmp_path_factory.mktemp("plain"))


def stored_as(plain: Path, folder: Path, change: Callable[[Tensors], Tensors], shards: int = 1) -> Path:
    """A copy whose tensors are changed and distributed over shards in turn, in the order of their names."""
    shutil.copytree(plain, folder)
    (folder / "model.safetensors").unlink()
    tensors = {name: tensor.contiguous() for name, tensor in change(load_file(plain / "model.safetensors")).items()}
    names, places = sorted(tensors), dict[str, str]()
    for number in range(shards):
        file, part = f"model-{number + 1:05}-of-{shards:05}.safetensors", names[number::shards]
        save_file({name: tensors[name] for name in part}, folder / file)
        places |= dict.fromkeys(part, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    return folder


def one_by_one(tensors: Tensors) -> Tensors:
    """The tensors with each expert's matrices under names of their own."""
    out = dict[str, torch.Tensor]()
    for name, tensor in tensors.items():
        if ".experts." not in name:
            out[name] = tensor
            continue
        stem, kind = name.removesuffix("_proj").rsplit(".", 1)
        for expert, matrix in enumerate(tensor):
            for part, rows in zip(kind.split("_"), matrix.chunk(len(kind.split("_"))), strict=True):
                out[f"{stem}.{expert}.{part}_proj.weight"] = rows.clone()
    return out


def is_matrix(name: str) -> bool:
    return name.endswith("_proj.weight") and (".self_attn." in name or ".mlp." in name or ".experts." in name)


def fp8(tensors: Tensors) -> Tensors:
    """RedHatAI's format: experts one by one, matrices of layers in e4m3 with bfloat16 scales [n, 1]."""
    out = dict[str, torch.Tensor]()
    for name, tensor in one_by_one(tensors).items():
        if is_matrix(name):
            scale = (tensor.abs().amax(dim=-1, keepdim=True) / 448).bfloat16()
            out[name] = (tensor / scale.float()).clamp(-448, 448).to(torch.float8_e4m3fn)
            out[name + "_scale"] = scale
        else:
            out[name] = tensor
    return out


def nvfp4(tensors: Tensors) -> Tensors:
    """NVIDIA's format: packed experts, a scale per 16 numbers, a scale per matrix, and activation scales."""
    out = dict[str, torch.Tensor]()
    for name, tensor in one_by_one(tensors).items():
        if ".experts." not in name:
            out[name] = tensor
            continue
        whole = tensor.abs().max() / (6 * 448)
        groups = tensor.unflatten(-1, (-1, 16))
        scale = (groups.abs().amax(dim=-1) / (6 * whole)).to(torch.float8_e4m3fn)
        steps = (groups / (scale.float() * whole)[..., None]).flatten(-2)
        codes = (steps[..., None] - torch.tensor(VALUES["e2m1"])).abs().argmin(dim=-1).to(torch.uint8)
        out[name] = codes[..., ::2] | codes[..., 1::2] << 4
        out |= {f"{name}_scale": scale, f"{name}_scale_2": whole}
        out[name.removesuffix("weight") + "input_scale"] = torch.tensor(1.0)
    return out


def load(folder: Path, quantize: Quantize = "none") -> DiffusionGemma:
    with torch.device("meta"):
        model = DiffusionGemma(ModelConfig.from_json(read_config(folder)))
    load_weights(model, folder, torch.float32, CPU, quantize=quantize)
    return model.eval()


def logits(model: DiffusionGemma) -> torch.Tensor:
    cache = TorchCanvasBackend(model).new_cache()
    TorchCanvasBackend(model).prefill(IDS, cache)
    return model.logits(TorchCanvasBackend(model).denoise(CANVAS, cache))


def agreement(left: torch.Tensor, right: torch.Tensor) -> float:
    """Cosine similarity of two sets of logits, each minus its mean."""
    a, b = ((one - one.mean(dim=-1, keepdim=True)).flatten() for one in (left, right))
    return float(a @ b / (a.norm() * b.norm()))


def first(model: DiffusionGemma) -> Any:
    return model.layers[0]


def test_loading_into_meta_equals_loading_into_memory(plain: Path) -> None:
    held = DiffusionGemma(ModelConfig.from_json(read_config(plain)))
    load_weights(held, plain, torch.float32, CPU)
    model = load(plain)
    assert {tensor.device for tensor in (*model.parameters(), *model.buffers())} == {CPU}
    assert torch.equal(logits(model), logits(held))
    assert precision(model) == "float32"


class TestFp8:
    def test_stored_fp8_weights_and_scales_are_kept(self, plain: Path, tmp_path: Path) -> None:
        folder = stored_as(plain, tmp_path / "fp8", fp8)
        files, model = load_file(folder / "model-00001-of-00001.safetensors"), load(folder)
        layer = first(model)
        assert isinstance(layer.self_attn.q_proj, Fp8Linear)
        assert isinstance(layer.experts, Fp8Experts)
        assert torch.equal(layer.self_attn.q_proj.weight, files[STEM + "self_attn.q_proj.weight"])
        gate, up = files[STEM + "experts.2.gate_proj.weight"], files[STEM + "experts.2.up_proj.weight"]
        assert torch.equal(layer.experts.gate_up_proj[2], torch.cat((gate.float(), up.float())).to(torch.float8_e4m3fn))
        scale = files[STEM + "experts.2.down_proj.weight_scale"]
        assert torch.equal(layer.experts.down_scale[2], scale.float().flatten())
        assert layer.router.proj.weight.dtype == torch.float32
        assert precision(model) == "float32 + fp8"
        assert agreement(logits(model), logits(load(plain))) > 0.9

    def test_copies_for_the_encoder_and_scales_of_a_cache_change_nothing(self, plain: Path, tmp_path: Path) -> None:
        """As some tools write them: the encoder's half too, in its own form, but for its scalars."""

        def more(tensors: Tensors) -> Tensors:
            out = {name: tensor for name, tensor in fp8(tensors).items() if not name.startswith(ENCODER)}
            twins = {ENCODER + name.removeprefix(DECODER): tensor.clone() for name, tensor in out.items()}
            split = {name: tensor for name, tensor in twins.items() if ".experts." in name}
            assert any(name.endswith("_scale") for name in split)
            return out | split | {STEM + "self_attn.k_proj.k_scale": torch.ones(1)}

        model = load(stored_as(plain, tmp_path / "more", more, shards=2))
        whole = load(stored_as(plain, tmp_path / "fp8", fp8))
        assert torch.equal(first(model).encoder_layer_scalar, first(whole).layer_scalar)
        for mine, other in zip(model.layers, whole.layers, strict=True):
            mine.encoder_layer_scalar = other.encoder_layer_scalar
        assert torch.equal(logits(model), logits(whole))

    def test_a_scale_may_be_in_another_file_than_its_weight(self, plain: Path, tmp_path: Path) -> None:
        # Names are distributed in turn, so that a weight and its scale are never in one file.
        whole, dealt = stored_as(plain, tmp_path / "one", fp8), stored_as(plain, tmp_path / "many", fp8, shards=5)
        assert torch.equal(logits(load(whole)), logits(load(dealt)))

    def test_fp8_made_at_load_has_a_scale_per_channel(self, plain: Path) -> None:
        before, model = load(plain), load(plain, "fp8")
        for name in ("self_attn.o_proj", "mlp.down_proj"):
            weight = before.get_parameter(f"layers.1.{name}.weight")
            made = model.get_submodule(f"layers.1.{name}")
            assert isinstance(made, Fp8Linear)
            value, scale = quantize_rows_reference(weight)
            assert torch.equal(made.weight, value)
            assert torch.equal(made.scale, scale)
        value, scale = quantize_rows_reference(first(before).experts.down_proj)
        assert torch.equal(first(model).experts.down_proj, value)
        assert torch.equal(first(model).experts.down_scale, scale)
        assert isinstance(model.self_conditioning.gate_proj, torch.nn.Linear)
        assert agreement(logits(model), logits(before)) > 0.9

    def test_a_gpu_without_fp8_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA A100")
        for capability, refused in (((8, 0), True), ((8, 9), False), ((9, 0), False)):
            monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, found=capability: found)
            check_fp8(torch.device("cuda"), wanted=False)
            check_fp8(CPU, wanted=True)
            if not refused:
                check_fp8(torch.device("cuda"), wanted=True)
                continue
            with pytest.raises(DeviceError, match="NVIDIA A100 has no FP8 units; take the bf16 release"):
                check_fp8(torch.device("cuda"), wanted=True)

    def test_the_error_of_a_product_is_that_of_its_rounded_factors(self, plain: Path) -> None:
        weight = load(plain).get_parameter("layers.1.mlp.down_proj.weight")
        made, x = load(plain, "fp8").get_submodule("layers.1.mlp.down_proj"), torch.randn(9, weight.shape[1])
        # Either factor is rounded to 4 bits of mantissa, by 2^-4 of itself; subnormals by 2^-10 of a step more.
        fine = 2.0**-10 / 448
        wide = (fine * x.abs().amax(dim=-1, keepdim=True), fine * weight.abs().amax(dim=-1, keepdim=True))
        exact = x @ weight.T
        most = (x.abs() * (1 + 2.0**-4) + wide[0]) @ (weight.abs() * (1 + 2.0**-4) + wide[1]).T
        assert bool(((made(x) - exact).abs() <= 1.0001 * (most - x.abs() @ weight.abs().T)).all())
        assert not torch.equal(made(x), exact)


class TestFourBits:
    def test_int4_errors_are_at_most_half_a_step(self, plain: Path) -> None:
        before, model = load(plain), load(plain, "int4")
        experts = first(model).experts
        assert isinstance(experts, FourBitExperts)
        made = dequantize_reference(experts.gate_up.packed, experts.gate_up_scale, experts.gate_up_channel, "int4")
        want = first(before).experts.gate_up_proj.unflatten(-1, (-1, experts.gate_up.group))
        # Half a step of a group's largest entry / 7, and the scale's own rounding to bfloat16 on seven steps.
        allowed = want.abs().amax(dim=-1, keepdim=True) / 7 * (0.5 + 7 * 2.0**-8)
        error = (made.view_as(want) - want).abs()
        assert bool((error <= allowed).all())
        assert float(error.max()) > 0
        assert isinstance(first(model).mlp.gate_proj, torch.nn.Linear)
        assert agreement(logits(model), logits(before)) > 0.95
        assert precision(model) == "float32 + int4 experts"
        assert count_parameters(model) == count_parameters(before)

    def test_an_fp8_checkpoint_can_be_loaded_with_int4_experts(self, plain: Path, tmp_path: Path) -> None:
        model = load(stored_as(plain, tmp_path / "fp8", fp8, shards=3), "int4")
        assert precision(model) == "float32 + fp8 + int4 experts"
        assert agreement(logits(model), logits(load(plain))) > 0.95

    def test_nvfp4_numbers_are_code_times_both_scales(self, plain: Path, tmp_path: Path) -> None:
        folder = stored_as(plain, tmp_path / "nvfp4", nvfp4, shards=4)
        files: Tensors = {}
        for file in folder.glob("*.safetensors"):
            files |= load_file(file)
        experts = first(load(folder)).experts
        name = STEM + "experts.3.up_proj.weight"
        packed, scale = files[name], files[name + "_scale"].float() * files[name + "_scale_2"]
        for row, column in ((0, 0), (3, 1), (15, 30), (7, 17)):
            byte = int(packed[row, column // 2])
            number = VALUES["e2m1"][byte >> 4 if column % 2 else byte & 15] * scale[row, column // 16]
            half = experts.gate_up.packed.shape[1] // 2
            made = dequantize_reference(experts.gate_up.packed, experts.gate_up.scale, experts.gate_up.channel, "e2m1")
            assert made[3, half + row, column] == pytest.approx(float(number), rel=1e-6)
        assert agreement(logits(load(folder)), logits(load(plain))) > 0.9
        assert precision(load(folder)) == "float32 + nvfp4 experts"

    def test_the_release_in_int4_fits_a_card_of_24_gb(self) -> None:
        with torch.device("meta"):
            model = DiffusionGemma(ModelConfig.from_json(config_json(262_144, **RELEASED))).to(torch.bfloat16)
            for layer in model.layers:
                quantize_experts(layer, "int4")  # type: ignore[arg-type]
        assert count_parameters(model) == pytest.approx(25.25e9, rel=0.002)
        assert sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers())) < 18e9


class TestRefusals:
    @pytest.mark.parametrize(
        ("change", "damage", "said"),
        [
            (fp8, lambda t: drop(t, UP, UP + "_scale"), f"tensor {STEM}{UP} missing"),
            (fp8, lambda t: drop(t, UP), f"unexpected tensor {STEM}{UP}_scale"),
            (fp8, lambda t: drop(t, "self_attn.q_proj.weight_scale"), "q_proj.weight is stored as F8_E4M3"),
            (fp8, lambda t: cut(t, "experts.3.down_proj.weight"), "experts.3.down_proj.weight has shape [31, 16], "),
            (fp8, lambda t: cut(t, "mlp.up_proj.weight_scale"), "up_proj.weight_scale has shape [47, 1], not [48]"),
            (fp8, lambda t: copy(t, UP, "experts.4.up_proj.weight"), f"unexpected tensor {STEM}experts.4"),
            (nvfp4, lambda t: cut(t, UP + "_scale"), "weight_scale has shape [15, 2], not [16, 2]"),
            (nvfp4, lambda t: drop(t, UP + "_scale_2"), "up_proj.weight is stored as U8"),
            (nvfp4, lambda t: widen(t, UP + "_scale"), "weight_scale is F32, NVFP4 has F8_E4M3"),
            (nvfp4, lambda t: double(t, UP + "_scale_2"), "up_proj.weight_scale_2 has shape [2], not []"),
        ],
    )
    def test_wrong_tensors_are_named_before_any_is_read(
        self,
        plain: Path,
        tmp_path: Path,
        change: Callable[[Tensors], Tensors],
        damage: Callable[[Tensors], None],
        said: str,
    ) -> None:
        def damaged(tensors: Tensors) -> Tensors:
            out = change(tensors)
            damage(out)
            return out

        folder, asked = stored_as(plain, tmp_path / "broken", damaged), list[int]()
        with torch.device("meta"):
            model = DiffusionGemma(ModelConfig.from_json(read_config(folder)))
        with pytest.raises(CheckpointError) as refused:
            load_weights(model, folder, torch.float32, CPU, progress=lambda done, _: asked.append(done))
        assert said in str(refused.value)
        assert str(folder) in str(refused.value)
        assert "\n" not in str(refused.value)
        assert asked == []

    def test_a_device_that_cannot_run_the_weights_is_named_before_any_is_read(
        self, plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder, asked = stored_as(plain, tmp_path / "fp8", fp8), list[int]()
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA A100")
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
        monkeypatch.setattr(os, "sysconf", lambda name: 100)
        for device, said in ((torch.device("cuda"), "A100 has no FP8 units"), (CPU, "0 GB of memory, this machine")):
            with torch.device("meta"):
                model = DiffusionGemma(ModelConfig.from_json(read_config(folder)))
            with pytest.raises(DeviceError, match=said):
                load_weights(model, folder, torch.float32, device, progress=lambda done, _: asked.append(done))
        assert asked == []

    @pytest.mark.parametrize("quantize", ["fp8", "int4"])
    def test_quantising_nvfp4_experts_again_is_refused(self, plain: Path, tmp_path: Path, quantize: Quantize) -> None:
        folder = stored_as(plain, tmp_path / "nvfp4", nvfp4)
        with pytest.raises(CheckpointError, match=r"its experts are NVFP4 already; take quantize out of midspan\.json"):
            load(folder, quantize)


def cut(tensors: Tensors, name: str) -> None:
    tensors[STEM + name] = tensors[STEM + name][:-1].clone()


def drop(tensors: Tensors, *names: str) -> None:
    for name in names:
        tensors.pop(STEM + name)


def copy(tensors: Tensors, name: str, to: str) -> None:
    for suffix in ("", "_scale"):
        tensors[STEM + to + suffix] = tensors[STEM + name + suffix].clone()


def double(tensors: Tensors, name: str) -> None:
    tensors[STEM + name] = tensors[STEM + name].expand(2).clone()


def widen(tensors: Tensors, name: str) -> None:
    tensors[STEM + name] = tensors[STEM + name].float()


@pytest.mark.parametrize(("quantize", "kept"), [("none", ""), ("fp8", " + fp8"), ("int4", " + int4 experts")])
def test_the_engine_fills_with_each_precision(plain: Path, tmp_path: Path, quantize: str, kept: str) -> None:
    folder = shutil.copytree(plain, tmp_path / "folder")
    (folder / "midspan.json").write_text(json.dumps(midspan_json(kind="clamped", slots=[2, 4, 8], quantize=quantize)))
    engine = Engine.load(str(folder), "cpu")
    try:
        fill = engine.fill(HOLE, Budget(steps=2)).result(60)
    finally:
        engine.close()
    assert fill.candidates
    assert engine.about.dtype.removeprefix("bfloat16").removeprefix("float32") == kept
