"""The embedded model's config.json, its initial weights, and growth by layers."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from midspan.engine.model import DiffusionGemma

TEXT_CONFIG: dict[str, Any] = {
    "model_type": "diffusion_gemma_text",
    "head_dim": 64,
    "global_head_dim": 64,
    "hidden_activation": "gelu_pytorch_tanh",
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-6,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "bos_token_id": 2,
    "tie_word_embeddings": True,
    "attention_bias": False,
    "attention_dropout": 0.0,
    "sliding_window": 1024,
    "rope_parameters": {
        "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
        "full_attention": {"rope_type": "proportional", "partial_rotary_factor": 0.25, "rope_theta": 1_000_000.0},
    },
    "final_logit_softcapping": 30.0,
    "use_bidirectional_attention": None,
    "num_experts": 1,
    "top_k_experts": 1,
    "moe_intermediate_size": 128,
}


def config_json(
    vocab_size: int, canvas_length: int, *, hidden: int = 256, layers: int = 6, intermediate: int = 768
) -> dict[str, Any]:
    """config.json of the embedded model: 8M parameters unless told, one expert (so dense), heads of 64."""
    heads = hidden // TEXT_CONFIG["head_dim"]
    sizes = {
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "num_global_key_value_heads": heads,
        "layer_types": ["sliding_attention"] * (layers - 1) + ["full_attention"],
        "vocab_size": vocab_size,
    }
    return {
        "architectures": ["DiffusionGemmaForBlockDiffusion"],
        "model_type": "diffusion_gemma",
        "canvas_length": canvas_length,
        "tie_word_embeddings": True,
        "vision_config": None,
        "boi_token_id": None,
        "eoi_token_id": None,
        "image_token_id": None,
        "text_config": TEXT_CONFIG | sizes,
    }


@torch.no_grad()
def initialise(model: DiffusionGemma) -> DiffusionGemma:
    """Normal weights of variance 1 / fan-in; residual branches start small through their post-norms."""
    for name, parameter in model.named_parameters():
        if parameter.ndim >= 2:
            nn.init.normal_(parameter, std=parameter.shape[-1] ** -0.5)
        elif name.endswith(("post_attention_layernorm.weight", "post_feedforward_layernorm.weight")):
            nn.init.constant_(parameter, 0.3)
        elif name.endswith(("q_norm.weight", "k_norm.weight")):
            # Attention has scale 1: with unit norms the logits would have a deviation of sqrt(head size).
            nn.init.constant_(parameter, model.config.layers[0].head_dim ** -0.25)
    return model


@torch.no_grad()
def grow(old: DiffusionGemma, new: DiffusionGemma) -> None:
    """Give a network with more layers the weights of one with fewer, so that it computes the same.

    The old layers are spread evenly, the last one last. Each new one is a copy of its neighbour whose post-norms are
    zero, so that it adds nothing to what passes through (block expansion, arXiv:2401.02415).
    """
    before, after = len(old.layers), len(new.layers)
    places = [round((number + 1) * after / before) - 1 for number in range(before)]
    weights = {name: value for name, value in old.state_dict().items() if not name.startswith("layers.")}
    for number in range(after):
        neighbour = max((i for i, place in enumerate(places) if place <= number), default=0)
        layer = {name: value.clone() for name, value in old.layers[neighbour].state_dict().items()}
        if number not in places:
            for name in ("post_attention_layernorm", "post_feedforward_layernorm"):
                layer[f"{name}.weight"].zero_()
            for name in ("layer_scalar", "encoder_layer_scalar"):
                layer[name].fill_(1.0)
        weights |= {f"layers.{number}.{name}": value for name, value in layer.items()}
    new.load_state_dict(weights)
