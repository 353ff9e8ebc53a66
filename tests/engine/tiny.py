"""A random network of the real architecture, small enough for tests, with a tokenizer trained on a few lines."""

from __future__ import annotations

import functools
import json
import tempfile
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import torch

from midspan.engine.backends.plain import TorchCanvasBackend
from midspan.engine.infill import Infiller
from midspan.engine.model import DiffusionGemma, ModelConfig
from midspan.engine.prompts.prompt import Prompt
from midspan.engine.settings import (
    FEATURES,
    CheckpointSettings,
    DenoiseSettings,
    HypothesisSettings,
    LayoutSettings,
    ShowSettings,
)
from midspan.engine.training.tokenizer import train
from midspan.engine.weights.load import save_weights
from midspan.engine.weights.midspan_json import write_settings

SOURCE = '''
def total(items, tax):
    """Sum the prices of items and add the tax."""
    result = 0
    for item in items:
        if item.price > 0:
            result += item.price
        else:
            raise ValueError(f"bad price: {item.price!r}")
    return result * (1 + tax)


class Shop:
    def __init__(self, name):
        self.name = name
        self.items = []

    def add(self, item):
        self.items.append(item)
        return self
'''


def config_json(vocab_size: int, **changes: Any) -> dict[str, Any]:
    """A config.json of two layers, one of each kind, with grouped heads and four experts; `changes` in text_config."""
    text = {
        "model_type": "diffusion_gemma_text",
        "vocab_size": vocab_size,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "num_global_key_value_heads": 1,
        "head_dim": 8,
        "global_head_dim": 16,
        "hidden_activation": "gelu_pytorch_tanh",
        "max_position_embeddings": 16384,
        "rms_norm_eps": 1e-6,
        "attention_bias": False,
        "sliding_window": 64,
        "layer_types": ["sliding_attention", "full_attention"],
        "rope_parameters": {
            "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
            "full_attention": {"rope_type": "proportional", "partial_rotary_factor": 0.25, "rope_theta": 1e6},
        },
        "final_logit_softcapping": 30.0,
        "num_experts": 4,
        "top_k_experts": 2,
        "moe_intermediate_size": 16,
        **changes,
    }
    return {"model_type": "diffusion_gemma", "canvas_length": 32, "text_config": text}


def random_model(config: dict[str, Any], seed: int = 0) -> DiffusionGemma:
    """A float32 network in which every weight, norm and scalar is random."""
    model = DiffusionGemma(ModelConfig.from_json(config)).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            spread = parameter.shape[-1] ** -0.5 if parameter.ndim > 1 else 0.2
            offset = 0.0 if parameter.ndim > 1 else 1.0
            parameter.copy_(offset + spread * torch.randn(parameter.shape, generator=generator))
        for buffer in (scalar for layer in model.layers for scalar in layer.buffers()):
            buffer.copy_(0.5 + torch.rand(buffer.shape, generator=generator))
    return model


GROUPS: dict[str, type[Any]] = {
    "layout": LayoutSettings,
    "denoise": DenoiseSettings,
    "hypotheses": HypothesisSettings,
    "show": ShowSettings,
}


def grouped(**values: Any) -> dict[str, dict[str, Any]]:
    """Values of `midspan.json` under the groups that they belong to; no key is in two."""
    out: dict[str, dict[str, Any]] = {}
    for key, value in values.items():
        [group] = [name for name, kind in GROUPS.items() if key in {field.name for field in fields(kind)}]
        out.setdefault(group, {})[key] = value
    return out


def settings(**changes: Any) -> CheckpointSettings:
    """Settings for the tiny network's canvas of 32; each of `changes` goes to the group that has its key."""
    values: dict[str, Any] = {
        "kind": "filler",
        "filler_id": 3,
        "slots": (4, 8),
        "block_slots": (4, 8),
        "draws": 1,
        "survivors": 6,
        "prefix_tokens": 12_000,
        "reuse_suffix": False,
        "steps": 4,
        "t_min": 0.4,
        "t_max": 0.8,
        "entropy_bound": 0.1,
        "confidence_threshold": 0.005,
        "languages": ("python",),
        "show_threshold": 0.5,
        "calibration": (0.0, *(float(name in ("gap_mean", "suffix_min")) for name in FEATURES)),
        **changes,
    }
    found = grouped(**values)
    return CheckpointSettings(**{name: kind(**found.get(name, {})) for name, kind in GROUPS.items()})


def changed(settings: CheckpointSettings, **changes: Any) -> CheckpointSettings:
    """The settings with other values, each in its group."""
    parts = {name: replace(getattr(settings, name), **values) for name, values in grouped(**changes).items()}
    return replace(settings, **parts)


def rewrite_settings(folder: Path, **changes: Any) -> None:
    """Write other values into a folder's `midspan.json`."""
    write_settings(folder, **grouped(**changes))


@functools.cache
def _tokenizer() -> str:
    """A tokenizer's file; it takes longer to train than to write."""
    return train([SOURCE] * 3, vocab_size=400).to_str(pretty=True)


def tiny_infiller(folder: Path, **changes: Any) -> Infiller:
    """A random network with its tokenizer saved under `folder`; `changes` go to the settings."""
    (folder / "tokenizer.json").write_text(_tokenizer())
    chosen = settings(**changes)
    prompt = Prompt(
        folder / "tokenizer.json",
        prefix_tokens=chosen.layout.prefix_tokens,
        filler_id=chosen.layout.filler_id,
        context_tokens=chosen.layout.context_tokens,
    )
    backend = TorchCanvasBackend(random_model(config_json(prompt.vocab_size)))
    return Infiller(backend, prompt, chosen)


def tiny_checkpoint(folder: Path, **network: Any) -> Path:
    """A whole checkpoint folder of a random network, as `--checkpoint` takes it; `network` changes its config."""
    for name, content in _files(json.dumps(network)).items():
        (folder / name).write_bytes(content)
    return folder


@functools.cache
def _files(network: str) -> dict[str, bytes]:
    """The files of such a folder by name: made once for each `network`, which is JSON."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        infiller = tiny_infiller(folder)
        config = config_json(infiller.prompt.vocab_size, **json.loads(network))
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "midspan.json").write_text(json.dumps(asdict(infiller.settings)))
        save_weights(random_model(config), folder, int8=False)
        return {file.name: file.read_bytes() for file in folder.iterdir()}
