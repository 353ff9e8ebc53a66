"""Loading and saving checkpoints: tensors, shards, refusals and their messages, int8, and export for transformers."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from midspan.engine.api import CheckpointError
from midspan.engine.backends.plain import TorchCanvasBackend
from midspan.engine.model import DiffusionGemma, ModelConfig
from midspan.engine.weights.export import export
from midspan.engine.weights.export import main as export_command
from midspan.engine.weights.load import EMBEDDED, load_weights, read_config, resolve, save_weights
from tests.engine.oracle import (
    CPU,
    Recorded,
    denoise_logits,
    distance,
    new_cache,
    open_ours,
    open_theirs,
    oracle_config,
    prefill,
    save_checkpoint,
    tiny_sizes,
)

Tensors = dict[str, torch.Tensor]
EMBEDDING = "model.decoder.embed_tokens.weight"
SCALAR = "model.encoder.language_model.layers.1.layer_scalar"
EXPERTS = "model.decoder.layers.0.experts.gate_up_proj"
TEXT, CANVAS = torch.arange(20)[None], torch.arange(30, 42)[None]


@pytest.fixture(autouse=True)
def tiny() -> Iterator[None]:
    with tiny_sizes():
        yield


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("released"), seed=2)


@pytest.fixture
def folder(released: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return shutil.copytree(released, tmp_path / "checkpoint")


def load(folder: Path) -> DiffusionGemma:
    return open_ours(folder)


def rewrite(folder: Path, change: Callable[[Tensors], object]) -> None:
    """Change the tensors of model.safetensors."""
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def refusal(folder: Path) -> str:
    """The one line with which the folder is refused."""
    with pytest.raises(CheckpointError) as caught:
        load(folder)
    message = str(caught.value)
    assert "\n" not in message
    return message


def our_logits(model: DiffusionGemma) -> torch.Tensor:
    cache = TorchCanvasBackend(model).new_cache()
    TorchCanvasBackend(model).prefill(TEXT, cache)
    return model.logits(TorchCanvasBackend(model).denoise(CANVAS, cache))


def test_every_tensor_is_loaded_into_the_parameter_of_its_name(released: Path) -> None:
    stored, model = load_file(released / "model.safetensors"), load(released)
    layer: Any = model.layers[1]
    assert torch.equal(model.embed_tokens.weight, stored[EMBEDDING])
    assert torch.equal(layer.encoder_layer_scalar, stored[SCALAR])
    assert torch.equal(layer.layer_scalar, stored["model.decoder.layers.1.layer_scalar"])
    text = {name: tensor for name, tensor in stored.items() if ".vision_tower." not in name and "embed_v" not in name}
    ours = {tensor.double().sum().item() for tensor in model.state_dict().values()}
    assert {tensor.double().sum().item() for tensor in text.values()} == ours
    assert len(text) == len(model.state_dict())


def test_weights_are_loaded_in_the_given_dtype(released: Path) -> None:
    model = DiffusionGemma(ModelConfig.from_json(read_config(released)))
    load_weights(model, released, torch.bfloat16, CPU)
    assert {tensor.dtype for tensor in model.state_dict().values()} == {torch.bfloat16}
    assert torch.equal(model.embed_tokens.weight, load_file(released / "model.safetensors")[EMBEDDING].bfloat16())


def test_a_checkpoint_in_shards_equals_one_file(folder: Path) -> None:
    whole = our_logits(load(folder))
    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    places: dict[str, str] = {}
    for number, part in enumerate((names[::2], names[1::2]), start=1):
        file = f"model-0000{number}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part}, folder / file)
        places |= dict.fromkeys(part, file)
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    assert torch.equal(our_logits(load(folder)), whole)
    (folder / "model-00002-of-00002.safetensors").unlink()
    assert "model-00002-of-00002.safetensors: missing" in refusal(folder)


def test_a_checkpoint_saved_in_shards_can_be_read(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, out = load(folder), tmp_path / "out"
    shutil.copytree(folder, out)
    with monkeypatch.context() as patch:
        patch.setattr("midspan.engine.weights.load.SHARD", 40_000)
        save_weights(model, out, int8=False)
    files = sorted(out.glob("*.safetensors"))
    assert len(files) > 1
    assert all(file.stat().st_mode & 0o777 == 0o644 for file in files)
    assert torch.equal(our_logits(load(out)), our_logits(model))
    save_weights(model, out, int8=False)
    assert [file.name for file in out.glob("model*")] == ["model.safetensors"]
    assert torch.equal(our_logits(load(out)), our_logits(model))


def test_a_broken_index_is_named(folder: Path) -> None:
    (folder / "model.safetensors.index.json").write_text("{}")
    assert "model.safetensors.index.json: not a safetensors index" in refusal(folder)


def test_loading_does_not_import_the_compiler() -> None:
    script = "import sys; from midspan.engine.engine import load_infiller; load_infiller('embedded', 'cpu')"
    script += "; sys.exit(' '.join({'torch._dynamo', 'sympy', 'triton', 'transformers'} & sys.modules.keys()) or 0)"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stderr.strip()) == (0, "")


def test_copies_of_tied_weights_are_accepted(folder: Path) -> None:
    def tie(tensors: Tensors) -> None:
        tensors["lm_head.weight"] = tensors[EMBEDDING].clone()
        tensors["model.encoder.language_model.norm.weight"] = tensors["model.decoder.norm.weight"].clone()

    whole = our_logits(load(folder))
    rewrite(folder, tie)
    assert torch.equal(our_logits(load(folder)), whole)


@pytest.mark.parametrize("name", [EMBEDDING, SCALAR, EXPERTS])
def test_a_missing_tensor_is_named(folder: Path, name: str) -> None:
    rewrite(folder, lambda tensors: tensors.pop(name))
    message = refusal(folder)
    assert str(folder) in message
    assert f"tensor {name} missing" in message


def test_missing_tensors_are_counted(folder: Path) -> None:
    rewrite(folder, lambda tensors: [tensors.pop(name) for name in list(tensors) if ".layers.2." in name])
    assert " more missing; " in refusal(folder)


def test_an_unexpected_tensor_is_named(folder: Path) -> None:
    rewrite(folder, lambda tensors: tensors.update({"model.decoder.layers.9.mlp.bias": torch.zeros(3)}))
    assert "model.safetensors: unexpected tensor model.decoder.layers.9.mlp.bias" in refusal(folder)


def test_a_wrong_shape_is_shown_with_the_right_one(folder: Path) -> None:
    rewrite(folder, lambda tensors: tensors.update({SCALAR: torch.ones(2)}))
    message = refusal(folder)
    assert f"model.safetensors: {SCALAR} has shape [2]" in message
    assert "[1]" in message


def test_an_unknown_dtype_is_refused(folder: Path) -> None:
    rewrite(folder, lambda tensors: tensors.update({EMBEDDING: tensors[EMBEDDING].to(torch.float8_e4m3fn)}))
    message = refusal(folder)
    assert f"{EMBEDDING} is stored as F8_E4M3" in message
    assert "use the bf16 release" in message


@pytest.mark.parametrize("kept", [0, 5, 200, 20_000])
def test_a_truncated_file_is_refused(folder: Path, kept: int) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:kept])
    assert f"{file}: truncated or not safetensors" in refusal(folder)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.pth"])
def test_a_pickle_is_never_opened(folder: Path, name: str) -> None:
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    message = refusal(folder)
    assert f"{folder / name}: a pickle is never loaded; convert it to model.safetensors" in message


def test_missing_weights_are_named(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    assert f"{folder / 'model.safetensors'}: missing" in refusal(folder)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (None, "missing"),
        ("{", "not valid JSON"),
        ("[1]", "not a JSON object"),
        ('{"model_type": "gemma4"}', 'model_type is "gemma4"; give "diffusion_gemma"'),
        ('{"model_type": "diffusion_gemma"}', "text_config is missing; give an object"),
    ],
)
def test_an_unusable_config_is_named(folder: Path, text: str | None, complaint: str) -> None:
    file = folder / "config.json"
    file.unlink()
    if text is not None:
        file.write_text(text)
    message = refusal(folder)
    assert "config.json" in message
    assert complaint in message


def test_a_name_is_a_folder_or_in_the_local_cache(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert resolve(str(folder)) == folder
    monkeypatch.chdir(tmp_path)
    for name, fix in [("./nowhere", "no such folder"), (str(folder / "config.json"), "not a folder")]:
        with pytest.raises(CheckpointError, match=fix):
            resolve(name)
    monkeypatch.chdir(folder)
    with pytest.raises(CheckpointError, match="no checkpoint is named; give 'embedded'"):
        resolve("")
    with pytest.raises(CheckpointError, match="hf download nobody/never-made"):
        resolve("nobody/never-made")


class TestInt8:
    """One scale per output row: a row's largest entry is 127 steps, so the error of an entry is at most half a step."""

    @pytest.fixture
    def small(self, folder: Path) -> Path:
        """The checkpoint as int8."""
        save_weights(load(folder), folder, int8=True)
        return folder

    def test_matrices_are_stored_as_int8_within_half_a_step(self, released: Path, small: Path) -> None:
        before, after = load(released).state_dict(), load(small).state_dict()
        for name, weight in before.items():
            if weight.ndim < 2:
                assert torch.equal(after[name], weight)
                continue
            step = weight.abs().amax(dim=-1, keepdim=True) / 127
            error = (after[name] - weight).abs()
            assert bool((error <= 0.5001 * step).all()), name
            assert float(error.max()) > 0
        with safe_open(small / "model.safetensors", framework="pt") as stored:
            assert stored.get_slice(EMBEDDING).get_dtype() == "I8"
            assert stored.get_slice(EXPERTS + "_scale").get_shape() == stored.get_slice(EXPERTS).get_shape()[:2]

    def test_a_row_of_zeros_stays_zero(self, folder: Path) -> None:
        model = load(folder)
        model.embed_tokens.weight[5] = 0
        save_weights(model, folder, int8=True)
        assert float(load(folder).embed_tokens.weight[5].abs().max()) == 0.0

    def test_int8_without_a_scale_is_refused(self, small: Path) -> None:
        rewrite(small, lambda tensors: tensors.pop(EMBEDDING + "_scale"))
        assert f"{EMBEDDING} is stored as I8" in refusal(small)

    def test_a_scale_of_another_shape_is_refused(self, small: Path) -> None:
        rewrite(small, lambda tensors: tensors.update({EMBEDDING + "_scale": torch.ones(64, 1)}))
        assert f"{EMBEDDING}_scale has shape [64, 1], not [64]" in refusal(small)

    @pytest.mark.parity
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_an_exported_int8_checkpoint_has_the_same_logits_in_transformers(
        self, small: Path, tmp_path: Path, dtype: torch.dtype
    ) -> None:
        out = tmp_path / "exported"
        export(str(small), out, dtype)
        theirs = open_theirs(out)
        assert {tensor.dtype for tensor in load_file(out / "model.safetensors").values()} == {dtype}
        cache = new_cache(theirs)
        prefill(theirs, TEXT, cache)
        expected = denoise_logits(theirs, CANVAS, cache)
        assert distance(our_logits(load(out)), expected) <= 1e-4
        if dtype == torch.float32:
            assert distance(our_logits(load(small)), expected) <= 1e-4

    def test_the_export_command(
        self, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        out = tmp_path / "exported"
        command = [sys.executable, "-m", "midspan.engine.weights.export", str(small), str(out), "--dtype", "fp32"]
        source = Path(__file__).parents[3] / "src"
        subprocess.run(command, check=True, timeout=100, cwd=source)
        assert torch.equal(our_logits(load(out)), our_logits(load(small)))
        (small / "model.safetensors").unlink()
        monkeypatch.setattr(sys, "argv", command[2:])
        assert export_command() == 1
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert "model.safetensors: missing" in said


def test_the_export_keeps_the_vision_half(released: Path, tmp_path: Path) -> None:
    export(str(released), tmp_path / "exported", torch.float32)
    before, after = (load_file(folder / "model.safetensors") for folder in (released, tmp_path / "exported"))
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert torch.equal(after[name], tensor), name


def test_the_export_refuses_to_write_over_its_source(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="is the checkpoint itself"):
        export(str(folder), folder / ".." / folder.name, torch.float32)


@pytest.mark.parity
def test_the_embedded_checkpoint_opens_in_transformers_with_the_same_logits(tmp_path: Path) -> None:
    export("embedded", tmp_path, torch.float32)
    loaded: Any = Recorded.from_pretrained(tmp_path, attn_implementation="sdpa", output_loading_info=True)
    theirs, unread = loaded
    assert not any(unread.values()), unread
    ours, cache = open_ours(EMBEDDED), new_cache(theirs)
    ours_cache, text, canvas = (
        TorchCanvasBackend(ours).new_cache(),
        torch.arange(5, 105)[None],
        torch.arange(200, 232)[None],
    )
    TorchCanvasBackend(ours).prefill(text, ours_cache)
    prefill(theirs, text, cache)
    mine = ours.logits(TorchCanvasBackend(ours).denoise(canvas, ours_cache))
    assert distance(mine, denoise_logits(theirs, canvas, cache)) <= 1e-4


@pytest.mark.parity
def test_a_deep_network_as_transformers_saves_it_has_every_layer_s_shape(tmp_path: Path) -> None:
    """transformers numbers per-layer settings with equal width: from ten layers on with leading zeros."""
    kinds = (["sliding_attention"] * 5 + ["full_attention"]) * 2
    oracle_config(num_hidden_layers=12, layer_types=kinds).save_pretrained(tmp_path)
    saved = read_config(tmp_path)
    assert "05" in saved["text_config"]["per_layer_config"]
    layers = ModelConfig.from_json(saved).layers
    assert [(layer.head_dim, layer.kv_heads) for layer in layers] == ([(8, 2)] * 5 + [(16, 1)]) * 2
